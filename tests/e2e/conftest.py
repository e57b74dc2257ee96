"""A running platform for the tests of one file; tests must not change what others of the file rely on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from platform_process import Platform, running_platform

SHARED = Path(__file__).parents[3] / "shared"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """With the quickstart service ready."""
    with running_platform(tmp_path_factory.mktemp("home")) as platform:
        platform.wait_ready("quickstart")
        yield platform


@pytest.fixture
def samples() -> Path:
    """KServe's own manifests."""
    folder = SHARED / "kserve-samples"
    if not folder.exists():
        pytest.skip("../shared is absent")
    return folder


def service(name: str, *, replicas: int = 1, model: str = "", **predictor: Any) -> str:
    """An InferenceService over the tiny model, as JSON."""
    from penstock.app.quickstart import model_folder

    return json.dumps(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name},
            "spec": {
                "predictor": {
                    "minReplicas": replicas,
                    "model": {
                        "modelFormat": {"name": "huggingface"},
                        "storageUri": model or model_folder().as_uri(),
                    },
                    **predictor,
                }
            },
        }
    )
