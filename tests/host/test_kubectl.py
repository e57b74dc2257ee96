"""The real kubectl against the real API in a process of its own, over TLS with the kubeconfig that it wrote."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

KUBECTL = shutil.which("kubectl")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(KUBECTL is None and "CI" not in os.environ, reason="kubectl is not installed"),
]
SERVER = Path(__file__).with_name("serve_api.py")
SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: tiny}
spec:
  predictor:
    minReplicas: 1
    model:
      modelFormat: {name: huggingface}
      storageUri: file:///models/tiny
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: example, env: [{name: KEPT, value: "1"}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  containers:
  - {name: main, image: example}
"""

Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    server = subprocess.Popen(
        [sys.executable, str(SERVER), str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        assert server.stdout.readline().strip().isdecimal(), "the server did not start"
        yield home
        server.stdin.close()
        assert server.wait(timeout=30) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@pytest.fixture
def kubectl(home: Path) -> Iterator[Kubectl]:
    def run(*words: str, given: str = "", code: int = 0) -> str:
        done = subprocess.run(
            [str(KUBECTL), *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(home),
        )
        assert done.returncode == code, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    yield run
    run("delete", "isvc,deploy,pods,cm", "--all", "--wait=false")


def environment(home: Path) -> dict[str, str]:
    return {"KUBECONFIG": str(home / "kubeconfig"), "HOME": str(home), "PATH": os.environ["PATH"]}


def test_apply_creates_changes_and_sees_that_nothing_changed(kubectl: Kubectl) -> None:
    assert "tiny created" in kubectl("apply", "-f", "-", given=SERVICE)
    assert "tiny unchanged" in kubectl("apply", "-f", "-", given=SERVICE)
    changed = SERVICE.replace("minReplicas: 1", "minReplicas: 2")
    difference = kubectl("diff", "-f", "-", given=changed, code=1)
    assert "-    minReplicas: 1" in difference
    assert "+    minReplicas: 2" in difference
    assert "configured (server dry run)" in kubectl("apply", "--dry-run=server", "-f", "-", given=changed)
    assert kubectl("get", "isvc", "tiny", "-o", "jsonpath={.spec.predictor.minReplicas}") == "1"
    assert "tiny configured" in kubectl("apply", "-f", "-", given=changed)
    assert kubectl("get", "isvc", "tiny", "-o", "jsonpath={.spec.predictor.minReplicas}") == "2"


def test_get_shows_kserves_columns(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=SERVICE)
    header, row = kubectl("get", "inferenceservices").splitlines()
    assert header.split() == [
        "NAME", "URL", "READY", "PREV", "LATEST", "PREVROLLEDOUTREVISION", "LATESTREADYREVISION", "AGE",
    ]  # fmt: skip
    assert row.startswith("tiny")
    assert "RUNTIME" in kubectl("get", "isvc", "-o", "wide").splitlines()[0]
    assert "kind: InferenceService" in kubectl("get", "isvc", "tiny", "-o", "yaml")
    assert kubectl("get", "isvc", "-A", "-o", "name").strip() == "inferenceservice.serving.kserve.io/tiny"


def test_top_shows_what_pods_and_nodes_use(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=POD)
    header, row = kubectl("top", "pods").splitlines()
    assert header.split() == ["NAME", "CPU(cores)", "MEMORY(bytes)"]
    assert row.split() == ["talker", "250m", "100Mi"]
    assert kubectl("top", "pod", "talker", "--containers").splitlines()[1].split() == [
        "talker", "main", "250m", "100Mi",
    ]  # fmt: skip
    assert "not found" in kubectl("top", "pod", "nobody", code=1)
    node = """
apiVersion: v1
kind: Node
metadata: {name: here}
status: {capacity: {cpu: "2", memory: 1Gi}, allocatable: {cpu: "2", memory: 1Gi}}
"""
    kubectl("create", "-f", "-", given=node)
    assert kubectl("top", "nodes").splitlines()[1].split()[:2] == ["here", "0m"]
    kubectl("delete", "node", "here")


HPA = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  maxReplicas: 5
  metrics:
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}
"""


def test_autoscalers_are_listed_described_and_checked(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=HPA)
    header, row = kubectl("get", "hpa").splitlines()
    assert header.split() == ["NAME", "REFERENCE", "TARGETS", "MINPODS", "MAXPODS", "REPLICAS", "AGE"]
    assert row.split()[:5] == ["web", "Deployment/web", "cpu:", "<unknown>/60%", "1"]
    assert "resource cpu on pods" in kubectl("describe", "hpa", "web")
    refused = kubectl("patch", "hpa", "web", "-p", '{"spec":{"minReplicas":9}}', code=1)
    assert "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`" in refused
    kubectl("delete", "hpa", "web")


def test_describe_shows_the_object_and_its_events(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=SERVICE)
    uid = kubectl("get", "isvc", "tiny", "-o", "jsonpath={.metadata.uid}")
    event = f"""
apiVersion: v1
kind: Event
metadata: {{name: tiny.1, namespace: default}}
involvedObject: {{kind: InferenceService, name: tiny, namespace: default, uid: "{uid}"}}
type: Normal
reason: Tested
message: a test wrote this
"""
    kubectl("apply", "-f", "-", given=event)
    described = kubectl("describe", "isvc", "tiny")
    assert "Model Format:" in described
    assert "a test wrote this" in described
    assert "inferenceservice/tiny" in kubectl("get", "events")


def test_patches_of_all_three_types(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=SERVICE)
    kubectl("apply", "-f", "-", given=DEPLOYMENT)
    kubectl("patch", "isvc", "tiny", "--type=merge", "-p", '{"spec":{"predictor":{"minReplicas":3}}}')
    operation = '[{"op":"replace","path":"/spec/predictor/model/storageUri","value":"file:///other"}]'
    kubectl("patch", "isvc", "tiny", "--type=json", "-p", operation)
    shown = kubectl(
        "get",
        "isvc",
        "tiny",
        "-o",
        "jsonpath={.spec.predictor.minReplicas} {.spec.predictor.model.storageUri}",
    )
    assert shown == "3 file:///other"
    strategic = (
        '{"spec":{"template":{"spec":{"containers":[{"name":"main","env":[{"name":"NEW","value":"2"}]}]}}}}'
    )
    kubectl("patch", "deploy", "web", "-p", strategic)
    shown = kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].env[*].name}")
    assert set(shown.split()) == {"KEPT", "NEW"}


def test_scale_label_annotate_and_set(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=DEPLOYMENT)
    kubectl("scale", "deploy", "web", "--replicas=4")
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "4"
    kubectl("label", "deploy", "web", "tier=front")
    kubectl("annotate", "deploy", "web", "note=hello")
    kubectl("set", "image", "deploy/web", "main=other")
    assert kubectl("get", "deploy", "-l", "tier=front", "-o", "name").strip() == "deployment.apps/web"
    assert "No resources found" in kubectl("get", "deploy", "-l", "tier=back")


def test_wait_and_watch_see_a_condition_come(kubectl: Kubectl, home: Path) -> None:
    kubectl("apply", "-f", "-", given=SERVICE)
    watching = subprocess.Popen(
        [str(KUBECTL), "get", "isvc", "-w"], stdout=subprocess.PIPE, text=True, env=environment(home)
    )
    waiting = subprocess.Popen(
        [str(KUBECTL), "wait", "isvc", "tiny", "--for=condition=Ready", "--timeout=60s"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(home),
    )
    try:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("NAME")
        watching.stdout.readline()
        status = '{"status":{"url":"http://here","conditions":[{"type":"Ready","status":"True"}]}}'
        kubectl("patch", "isvc", "tiny", "--subresource=status", "--type=merge", "-p", status)
        assert watching.stdout.readline().split()[:3] == ["tiny", "http://here", "True"]
        assert "condition met" in waiting.communicate(timeout=60)[0]
    finally:
        for process in (watching, waiting):
            process.kill()
            process.communicate()


def test_explain_and_api_resources_come_from_our_types(kubectl: Kubectl) -> None:
    assert "minReplicas" in kubectl("explain", "isvc.spec.predictor")
    assert "FIELD: replicas <integer>" in kubectl("explain", "deploy.spec.replicas")
    listed = kubectl("api-resources")
    assert "inferenceservices" in listed
    assert "isvc" in listed
    assert "v1.32" in kubectl("version")


def test_an_invalid_manifest_names_its_field(kubectl: Kubectl) -> None:
    message = kubectl("apply", "-f", "-", given=POD.replace("talker", "Not_A_Name"), code=1)
    assert "metadata.name" in message
    misspelt = SERVICE.replace("storageUri", "storageUrl")
    strict = kubectl("apply", "--validate=strict", "-f", "-", given=misspelt, code=1)
    assert 'unknown field "spec.predictor.model.storageUrl"' in strict
    assert "Warning: unknown field" in kubectl("apply", "--validate=warn", "-f", "-", given=misspelt)


def test_create_sends_protobuf_and_is_understood(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=colour=blue")
    assert kubectl("get", "cm", "settings", "-o", "jsonpath={.data.colour}") == "blue"
    kubectl("create", "deployment", "made", "--image=example", "--replicas=2", "--port=80")
    assert kubectl("get", "deploy", "made", "-o", "jsonpath={.spec.replicas}") == "2"
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"


def test_logs_whole_last_and_followed(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=POD)
    assert kubectl("logs", "talker").splitlines() == [f"talker/main line {index}" for index in range(3)]
    assert kubectl("logs", "talker", "--tail=1").splitlines() == ["talker/main line 2"]
    assert kubectl("logs", "-f", "talker").splitlines()[-1] == "and one more"


def test_delete_waits_until_the_object_and_a_namespaces_content_are_gone(kubectl: Kubectl) -> None:
    kubectl("create", "namespace", "demo")
    kubectl("apply", "-n", "demo", "-f", "-", given=SERVICE)
    assert 'tiny" deleted' in kubectl("delete", "isvc", "tiny", "-n", "demo")
    kubectl("apply", "-n", "demo", "-f", "-", given=SERVICE)
    started = time.monotonic()
    kubectl("delete", "namespace", "demo", "--timeout=40s")
    assert time.monotonic() - started < 60
    assert "not found" in kubectl("get", "namespace", "demo", code=1)
    assert "NotFound" in kubectl("get", "isvc", "absent", code=1)


def test_server_side_apply_owns_its_fields(kubectl: Kubectl) -> None:
    apply = ("apply", "--server-side", "-f", "-")
    kubectl(*apply, given=DEPLOYMENT)
    kubectl(*apply, given=DEPLOYMENT.replace("KEPT", "RENAMED"))
    shown = kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].env[*].name}")
    assert shown == "RENAMED"
    grown = DEPLOYMENT.replace("replicas: 1", "replicas: 3").replace("KEPT", "RENAMED")
    refused = kubectl(*apply, "--field-manager=other", given=grown, code=1)
    assert 'conflict with "kubectl": .spec.replicas' in refused
    kubectl(*apply, "--field-manager=other", "--force-conflicts", given=grown)
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "3"


def test_without_the_token_nothing_is_shown(home: Path) -> None:
    text = (home / "kubeconfig").read_text().replace("token: ", "token: x")
    (home / "stranger").write_text(text)
    done = subprocess.run(
        [str(KUBECTL), "get", "pods"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**environment(home), "KUBECONFIG": str(home / "stranger")},
    )
    assert done.returncode != 0
    assert "must be logged in" in done.stderr


def test_a_routing_profile_shows_what_it_is_and_a_wrong_name_is_told_with_the_nearest(
    kubectl: Kubectl,
) -> None:
    profile = """
apiVersion: penstock.dev/v1alpha1
kind: RoutingProfile
metadata: {name: sticky}
spec:
  scorers: [{name: prefix, weight: 3}, {name: queue}]
  picker: {name: power-of-two}
"""
    assert "sticky created" in kubectl("apply", "-f", "-", given=profile)
    header, row = kubectl("get", "routingprofiles").splitlines()
    assert header.split() == ["NAME", "DEFAULT", "FILTERS", "SCORERS", "PICKER", "AGE"]
    assert row.split()[:5] == [
        "sticky", "false", "healthy,saturation", "prefix,queue", "power-of-two",
    ]  # fmt: skip
    wrong = profile.replace("prefix", "prefixes")
    assert "did you mean prefix?" in kubectl("apply", "-f", "-", given=wrong, code=1)
    kubectl("delete", "routingprofile", "sticky")
