"""Real kubectl with the kubeconfig that the platform wrote."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from platform_process import KUBECTL, Platform, says, service, until

pytestmark = pytest.mark.timeout(180)


def test_a_service_lives_its_whole_life_by_kubectl(platform: Platform) -> None:
    assert "created" in platform.kubectl("apply", "-f", "-", stdin=service("life")).stdout
    platform.wait_ready("life")
    until("it answers", lambda: platform.ask("life").status_code == 200)
    assert "unchanged" in platform.kubectl("apply", "-f", "-", stdin=service("life")).stdout

    table = platform.kubectl("get", "isvc", "life").stdout
    assert table.splitlines()[0].split() == [
        "NAME", "URL", "READY", "PREV", "LATEST", "PREVROLLEDOUTREVISION", "LATESTREADYREVISION", "AGE"
    ]  # fmt: skip
    assert f"{platform.url}/serving/default/life" in table
    described = until("its Events tell it", lambda: tells("InferenceServiceReady", platform, "life"))
    assert "Cluster Serving Runtime Name:" in described or "penstock-cpu" in described

    platform.kubectl(
        "patch", "isvc", "life", "--type=merge", "-p", '{"spec":{"predictor":{"minReplicas":2}}}'
    )
    until("two pods are ready", lambda: ready_pods(platform, "life") == 2)

    platform.kubectl("delete", "isvc", "life")
    until(
        "its pods and Deployment are gone",
        lambda: not platform.objects("pods,deploy", "serving.kserve.io/inferenceservice=life"),
    )
    until("the gateway knows nothing of it", lambda: platform.ask("life").status_code == 404)


def test_who_scales_by_himself_does_so_by_kubectl(platform: Platform) -> None:
    asked = json.loads(service("sized"))
    mode = {"deploymentMode": "Standard", "autoscalerClass": "external"}
    asked["metadata"]["annotations"] = {f"serving.kserve.io/{key}": value for key, value in mode.items()}
    platform.kubectl("apply", "-f", "-", stdin=json.dumps(asked))
    platform.wait_ready("sized")
    platform.kubectl("scale", "deployment/sized-predictor-00001", "--replicas=2")
    until("two pods are ready", lambda: ready_pods(platform, "sized") == 2)
    platform.kubectl("delete", "isvc", "sized")
    until(
        "its pods are gone", lambda: not platform.objects("pods", "serving.kserve.io/inferenceservice=sized")
    )


def test_logs_are_followed_and_watches_tell(platform: Platform) -> None:
    assert KUBECTL
    follow = subprocess.Popen(
        [KUBECTL, "logs", "-f", "-l", "serving.kserve.io/inferenceservice=quickstart", "-c", "kserve-container"],
        env=platform.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    watch = subprocess.Popen(
        [KUBECTL, "get", "isvc", "-w", "--no-headers"],
        env=platform.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert follow.stdout
        assert "loading quickstart" in follow.stdout.readline()
        assert watch.stdout
        assert watch.stdout.readline().startswith("quickstart")
        platform.kubectl("annotate", "isvc", "quickstart", "example.com/seen=1")
        assert watch.stdout.readline().startswith("quickstart")
    finally:
        for process in (follow, watch):
            process.kill()
            process.communicate()


def test_an_invalid_manifest_is_refused_with_the_field_and_nothing_is_made(platform: Platform) -> None:
    broken = service("broken").replace('"minReplicas": 1', '"minReplicas": 3, "maxReplicas": 2')
    refused = platform.kubectl("apply", "-f", "-", stdin=broken, check=False)
    assert refused.returncode == 1
    assert 'The InferenceService "broken" is invalid: spec.predictor.minReplicas' in refused.stderr
    misspelt = service("broken").replace("storageUri", "storageUrl")
    refused = platform.kubectl("apply", "-f", "-", stdin=misspelt, check=False)
    assert "storageUrl" in refused.stderr
    unknown = platform.kubectl(
        "apply", "-f", "-", stdin='{"apiVersion":"v1","kind":"Teapot","metadata":{"name":"x"}}', check=False
    )
    assert "Teapot" in unknown.stderr
    assert "not found" in platform.kubectl("get", "isvc", "broken", check=False).stderr


def test_a_service_that_cannot_run_says_why(platform: Platform) -> None:
    lost = service("lost", model="file:///no/such/folder")
    platform.kubectl("apply", "-f", "-", stdin=lost)

    def failure() -> str:
        path = "jsonpath={.status.modelStatus.lastFailureInfo.message}"
        return platform.kubectl("get", "isvc", "lost", "-o", path).stdout

    said = until("the failure is told", lambda: failure() if "no such file or folder" in failure() else "")
    assert "/no" in said
    answer = until("the gateway tells it", lambda: says("no such file or folder", platform, "lost"))
    assert answer.status_code == 503
    assert "no such file or folder" in answer.json()["error"]["message"]
    platform.kubectl("delete", "isvc", "lost")


def test_an_unknown_runtime_is_named_with_the_nearest(platform: Platform) -> None:
    manifest = service("odd").replace('"modelFormat"', '"runtime": "penstock-cpv", "modelFormat"')
    platform.kubectl("apply", "-f", "-", stdin=manifest)
    until("it is told", lambda: tells("penstock-cpu", platform, "odd"))
    until("and why", lambda: tells("RuntimeNotRecognized", platform, "odd"))
    platform.kubectl("delete", "isvc", "odd")


def test_a_runtime_whose_program_is_missing_says_which(platform: Platform) -> None:
    manifest = service("absent").replace('"modelFormat"', '"runtime": "penstock-vllm", "modelFormat"')
    platform.kubectl("apply", "-f", "-", stdin=manifest)
    until("it is told", lambda: tells('program "vllm" is not installed', platform, "absent"))
    until("with what to do", lambda: tells("pip install vllm", platform, "absent"))
    platform.kubectl("delete", "isvc", "absent")


def test_a_kserve_sample_is_applied_unchanged(platform: Platform, samples: Path) -> None:
    sample = samples / "v1beta1__sklearn__v2__sklearn.yaml"
    assert "created" in platform.kubectl("apply", "-f", str(sample)).stdout
    name = platform.kubectl("get", "-f", str(sample), "-o", "jsonpath={.metadata.name}").stdout
    until("it has conditions", lambda: "Conditions" in platform.kubectl("describe", "isvc", name).stdout)
    platform.kubectl("delete", "-f", str(sample))


def test_openapi_serves_explain_and_dry_run_changes_nothing(platform: Platform) -> None:
    assert "storageUri" in platform.kubectl("explain", "isvc.spec.predictor.model").stdout
    tried = platform.kubectl("apply", "--dry-run=server", "-f", "-", stdin=service("dry"))
    assert "dry run" in tried.stdout
    assert "not found" in platform.kubectl("get", "isvc", "dry", check=False).stderr


def tells(what: str, platform: Platform, name: str) -> str:
    """What kubectl describes, once it says so."""
    described = platform.kubectl("describe", "isvc", name).stdout
    return described if what in described else ""


def ready_pods(platform: Platform, name: str) -> int:
    pods = platform.objects("pods", f"serving.kserve.io/inferenceservice={name}")
    return sum(
        condition["status"] == "True"
        for pod in pods
        for condition in pod["status"].get("conditions", ())
        if condition["type"] == "Ready" and "deletionTimestamp" not in pod["metadata"]
    )
