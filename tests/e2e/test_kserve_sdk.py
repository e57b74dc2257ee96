"""KServe's own Python SDK, in an environment of its own (requirements/kserve-sdk.lock)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from platform_process import Platform

pytestmark = pytest.mark.timeout(180)

SCRIPT = """
import sys
from kubernetes import client
from kserve import KServeClient, V1beta1InferenceService, V1beta1InferenceServiceSpec, V1beta1ModelFormat
from kserve import V1beta1ModelSpec, V1beta1PredictorSpec, constants

model = V1beta1ModelSpec(model_format=V1beta1ModelFormat(name="huggingface"), storage_uri=sys.argv[1])
service = V1beta1InferenceService(
    api_version=constants.KSERVE_V1BETA1,
    kind=constants.KSERVE_KIND_INFERENCESERVICE,
    metadata=client.V1ObjectMeta(name="by-sdk", namespace="default"),
    spec=V1beta1InferenceServiceSpec(predictor=V1beta1PredictorSpec(model=model, min_replicas=1)),
)
kserve = KServeClient(config_file=sys.argv[2])
kserve.create(service)
kserve.wait_isvc_ready("by-sdk", namespace="default", timeout_seconds=60)
found = kserve.get("by-sdk", namespace="default")
print("URL", found["status"]["url"], found["status"]["modelStatus"]["states"]["activeModelState"])
kserve.delete("by-sdk", namespace="default")
print("DELETED")
"""


@pytest.fixture
def python() -> str:
    """The interpreter of an environment with the SDK."""
    path = os.environ.get("PENSTOCK_KSERVE_PYTHON", "")
    if not path or not Path(path).exists():
        assert not os.environ.get("CI"), "CI must make an environment with KServe's SDK"
        pytest.skip("PENSTOCK_KSERVE_PYTHON names no interpreter with KServe's SDK; .ci/run makes one")
    return path


def test_the_sdk_creates_waits_for_reads_and_deletes_a_service(platform: Platform, python: str) -> None:
    from penstock.app.quickstart import model_folder

    done = subprocess.run(
        [python, "-c", SCRIPT, model_folder().as_uri(), str(platform.home / "kubeconfig")],
        env=platform.environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"URL {platform.url}/serving/default/by-sdk Loaded" in done.stdout
    assert "DELETED" in done.stdout
