"""Models and engines that do not work: the service says what is wrong, and nothing half-made is left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from platform_process import Platform, says, service, until

from penstock.app.quickstart import model_folder

pytestmark = pytest.mark.timeout(180)


def failure(platform: Platform, name: str) -> str:
    path = "jsonpath={.status.modelStatus.lastFailureInfo.message}"
    return platform.kubectl("get", "isvc", name, "-o", path).stdout


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the tiny model, to be broken."""
    folder = tmp_path / "model"
    shutil.copytree(model_folder(), folder)
    return folder


def refused(platform: Platform, name: str, folder: Path, said: str) -> None:
    platform.kubectl("apply", "-f", "-", stdin=service(name, model=folder.as_uri()))
    until(f"{said!r} is told", lambda: said in failure(platform, name))
    assert "Traceback" not in failure(platform, name)
    answer = until("the gateway tells it", lambda: says(said, platform, name))
    assert answer.status_code == 503
    assert said in answer.json()["error"]["message"]
    platform.kubectl("delete", "isvc", name)


def test_weights_that_are_cut_short_are_named(platform: Platform, model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    refused(platform, "cut", model, "model.safetensors")
    halves = (platform.home / "nodes").glob
    until("nothing half-converted stays", lambda: not list(halves("*/cache/**/.making-*")))


def test_weights_that_are_no_weights_are_named(platform: Platform, model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"this is no model" * 1000)
    refused(platform, "junk", model, "model.safetensors")


def test_an_architecture_that_is_not_known_is_refused_by_name(platform: Platform, model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config |= {"architectures": ["MambaForCausalLM"], "model_type": "mamba"}
    (model / "config.json").write_text(json.dumps(config))
    refused(platform, "odd", model, "MambaForCausalLM is not supported")


def test_a_folder_without_a_model_is_refused(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(platform, "empty", tmp_path / "empty", "tokenizer.json")


def test_an_engine_that_never_gets_ready_is_restarted_and_told(platform: Platform) -> None:
    sleeper = json.dumps(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "sleeper"},
            "spec": {
                "predictor": {
                    "containers": [
                        {
                            "name": "kserve-container",
                            "image": "any",
                            "command": ["sleep", "60"],
                            "startupProbe": {
                                "httpGet": {"path": "/", "port": 8080},
                                "periodSeconds": 1,
                                "failureThreshold": 2,
                            },
                        }
                    ],
                    "terminationGracePeriodSeconds": 1,
                }
            },
        }
    )
    platform.kubectl("apply", "-f", "-", stdin=sleeper)
    until(
        "the probe's failure is an Event",
        lambda: "Startup probe failed" in platform.kubectl("get", "events").stdout,
    )
    until("it is restarted", lambda: any(
        status["restartCount"]
        for pod in platform.objects("pods", "serving.kserve.io/inferenceservice=sleeper")
        for status in pod["status"].get("containerStatuses", ())
    ))  # fmt: skip
    until("it is told", lambda: "does not stay up" in failure(platform, "sleeper"))
    platform.kubectl("delete", "isvc", "sleeper")


def test_a_body_for_a_service_that_does_not_exist_names_the_nearest(platform: Platform) -> None:
    answer = platform.ask("quikstart")
    assert answer.status_code == 404
    assert "quickstart" in answer.json()["error"]["message"]
