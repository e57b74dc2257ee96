"""`penstock render --for` as a user meets it: what comes out is what a cluster takes."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

sys.path.append(str(Path(__file__).parents[1] / "resources"))

from kserve_files import closed, crd_schema

from penstock.cli.main import main
from penstock.decide.device_plugin import read_plugin_config
from penstock.resources.admission import admit
from penstock.resources.caching import PersistentVolume
from penstock.resources.scheme import KINDS

HERE = Path(__file__).parent / "rendered"
STYLES = ("device-plugin", "dra")


class Done(NamedTuple):
    code: int
    out: str
    error: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        return list(yaml.safe_load_all(self.out))


class Penstock:
    """The command, with a data folder of its own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, output: pytest.CaptureFixture[str]) -> None:
        self._patch, self._output, self.folder = patch, output, folder
        patch.setenv("PENSTOCK_HOME", str(folder))

    def declare(self) -> None:
        (self.folder / "config.yaml").write_text((HERE / "config.yaml").read_text())

    def render(self, *arguments: str, file: Path = HERE / "given.yaml") -> Done:
        self._patch.setattr(sys, "argv", ["penstock", "render", "-f", str(file), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(ended.value.code or 0), *self._output.readouterr())


@pytest.fixture
def penstock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Penstock:
    return Penstock(tmp_path, monkeypatch, capsys)


def pod_specs(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in documents if one["kind"] in ("Deployment", "Job")]


@pytest.mark.parametrize("style", STYLES)
def test_what_is_written_is_what_was_written_before(style: str, penstock: Penstock):
    done = penstock.render("--for", style)
    assert done.code == 0
    assert done.documents == list(yaml.safe_load_all((HERE / f"{style}.yaml").read_text()))


@pytest.mark.parametrize("style", STYLES)
def test_every_object_is_one_that_an_api_server_takes(style: str, penstock: Penstock):
    penstock.declare()
    documents = penstock.render("--for", style).documents
    names = [
        (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in documents
    ]
    assert len(set(names)) == len(names)
    for one in documents:
        if one["kind"] == "PersistentVolume":
            msgspec.convert(one, PersistentVolume)  # which this machine serves none of
        else:
            admit(one, strict=True)
        assert "ownerReferences" not in one["metadata"]
    kinds = [one["kind"] for one in documents]
    workloads = [i for i, kind in enumerate(kinds) if kind in ("Deployment", "Job")]
    assert workloads == list(range(len(kinds) - len(workloads), len(kinds)))
    assert not any("nodeName" in spec for spec in pod_specs(documents))


@pytest.mark.parametrize("style", STYLES)
def test_pods_and_caches_fit_the_published_schemas(style: str, penstock: Penstock):
    """A predictor's schema has every field of a pod's spec."""
    documents = penstock.render("--for", style).documents
    schema = closed(crd_schema("inferenceservices", "v1beta1"))
    predictor = Draft202012Validator(schema["properties"]["spec"]["properties"]["predictor"])
    assert len(pod_specs(documents)) == 5
    for spec in pod_specs(documents):
        assert [f"{error.json_path}: {error.message}" for error in predictor.iter_errors(spec)] == []
    groups = closed(crd_schema("localmodelnodegroups", "v1alpha1"))["properties"]["spec"]["properties"]
    for kind in ("PersistentVolume", "PersistentVolumeClaim"):
        validator = Draft202012Validator(groups[f"{kind[0].lower()}{kind[1:]}Spec"])
        specs = [one["spec"] for one in documents if one["kind"] == kind]
        assert len(specs) == 2
        assert [error.message for spec in specs for error in validator.iter_errors(spec)] == []
    caches = [one for one in documents if one["kind"].startswith("LocalModel")]
    assert len(caches) == 2
    for one in caches:
        kind = next(kind for kind in KINDS if kind.kind == one["kind"])
        schema = closed(crd_schema(kind.plural, kind.version))
        schema["properties"]["metadata"] = {"type": "object"}
        errors = Draft202012Validator(schema).iter_errors(one)
        assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_declared_nodes_are_configurations_that_nodes_choose_by_labels(penstock: Penstock):
    assert not any(one["kind"] == "ConfigMap" for one in penstock.render("--for", "dra").documents)
    penstock.declare()
    done = penstock.render("--for", "device-plugin")
    maps = {one["metadata"]["name"]: one["data"] for one in done.documents if one["kind"] == "ConfigMap"}
    layouts = yaml.safe_load(maps["penstock-mig-configs"]["config.yaml"])
    [named] = [one for one in layouts["mig-configs"] if one.startswith("penstock-")]
    assert layouts["mig-configs"][named][1]["mig-devices"] == {"1g.10gb": 1, "2g.20gb": 1, "3g.40gb": 1}
    shared = maps["penstock-device-plugin-configs"]
    assert set(shared) == {"mig-mixed", "mps-2", "time-slicing-4"}
    assert all(read_plugin_config(text).mistakes == () for text in shared.values())
    assert "kubectl label node NODE nvidia.com/device-plugin.config=time-slicing-4" in done.error
    assert f"nvidia.com/mig.config={named}" in done.error
    claiming = penstock.render("--for", "dra")
    assert [one["metadata"]["name"] for one in claiming.documents if one["kind"] == "ConfigMap"] == [
        "penstock-mig-configs"
    ]
    assert "nodes[small].sharing: it is the device plugin's" in claiming.error


def test_what_a_cluster_could_never_give_is_told_by_object(penstock: Penstock, tmp_path: Path):
    wrong = tmp_path / "wrong.json"
    container = {"name": "a", "image": "x", "resources": {"limits": {"nvidia.com/mig-1g.1gb": "1"}}}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": template}}
    wrong.write_text(json.dumps(job))
    done = penstock.render("--for", "dra", file=wrong)
    assert (done.code, done.out) == (5, "")
    assert (
        "Job default/j: nvidia.com/mig-1g.1gb: no GPU that will do has the MIG profile 1g.1gb" in done.error
    )
    done = penstock.render("--for", "kubernetes")
    assert done.code == 5
    assert "--for: found 'kubernetes', expected one of device-plugin, dra" in done.error


def test_without_a_cluster_the_pods_are_as_they_were_given(penstock: Penstock):
    done = penstock.render("-o", "yaml")
    assert [one["kind"] for one in done.documents] == ["Deployment"] * 4
    first = done.documents[0]["spec"]["template"]["spec"]
    assert first["nodeSelector"] == {"gpu.nvidia.com/class": "H100_NVLINK_80GB", "pool": "blue"}
    assert "tolerations" not in first


@pytest.mark.parametrize("style", STYLES)
def test_a_cache_becomes_volumes_on_its_groups_nodes_and_pods_read_from_their_claim(
    style: str, penstock: Penstock
):
    documents = penstock.render("--for", style).documents
    volumes = {one["metadata"]["name"]: one["spec"] for one in documents if one["kind"] == "PersistentVolume"}
    assert sorted(volumes) == ["model-workers-download", "model-workers-ml"]
    for spec in volumes.values():
        assert spec["nodeAffinity"]["required"]["nodeSelectorTerms"]
        assert (spec["local"], spec["storageClassName"]) == ({"path": "/models"}, "local-storage")
    claims = {
        one["metadata"]["namespace"]: one for one in documents if one["kind"] == "PersistentVolumeClaim"
    }
    assert sorted(claims) == ["kserve-localmodel-jobs", "ml"]
    for namespace, claim in claims.items():
        assert claim["metadata"]["name"] == "model-workers"
        volume = claim["spec"]["volumeName"]
        assert volume == ("model-workers-ml" if namespace == "ml" else "model-workers-download")
        assert claim["spec"]["storageClassName"] == volumes[volume]["storageClassName"]
        assert claim["spec"]["accessModes"] == volumes[volume]["accessModes"]
    (pod,) = [
        one["spec"]["template"]["spec"]
        for one in documents
        if one["kind"] == "Deployment" and one["metadata"]["name"].startswith("cached")
    ]
    assert not pod.get("initContainers"), "nothing is fetched"
    assert not pod.get("schedulingGates"), "the volume says where it may go"
    (volume,) = pod["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == "model-workers"
    (mount,) = pod["containers"][0]["volumeMounts"]
    folder = hashlib.sha256(b"hf://example/model").hexdigest()[:16]
    assert (mount["mountPath"], mount["subPath"]) == ("/mnt/models", f"models/{folder}/adapter")


def test_a_group_that_is_in_no_file_is_warned_of(penstock: Penstock, tmp_path: Path):
    given = list(yaml.safe_load_all((HERE / "given.yaml").read_text()))
    file = tmp_path / "given.yaml"
    file.write_text(yaml.safe_dump_all(one for one in given if one["kind"] != "LocalModelNodeGroup"))
    done = penstock.render("--for", "dra", file=file)
    assert done.code == 0
    assert "no volumes are written for node group workers" in done.error
    assert not [one for one in done.documents if one["kind"].startswith("PersistentVolume")]


LLM = """
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceService
metadata: {name: chat, namespace: ml}
spec:
  baseRefs: [{name: one-gpu}]
  model: {uri: "hf://example/model", name: example/chat}
  replicas: 2
  prefill: {template: {containers: [{name: main, resources: {limits: {nvidia.com/gpu: "2"}}}]}}
"""
PRESET = """
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceServiceConfig
metadata: {name: one-gpu, namespace: ml}
spec: {template: {containers: [{name: main, resources: {limits: {nvidia.com/gpu: "1"}}}]}}
"""
CACHED = """
apiVersion: serving.kserve.io/v1alpha1
kind: LocalModelCache
metadata: {name: model}
spec: {sourceModelUri: "hf://example/model", modelSize: 1Gi, nodeGroups: [workers]}
---
apiVersion: serving.kserve.io/v1alpha1
kind: LocalModelNodeGroup
metadata: {name: workers}
spec:
  storageLimit: 10Gi
  persistentVolumeSpec:
    accessModes: [ReadWriteOnce]
    capacity: {storage: 10Gi}
    storageClassName: local-storage
    local: {path: /models}
    nodeAffinity:
      required: {nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: In, values: [a]}]}]}
  persistentVolumeClaimSpec:
    accessModes: [ReadWriteOnce]
    storageClassName: local-storage
    resources: {requests: {storage: 10Gi}}
"""


def test_an_llm_inference_service_is_written_as_the_pods_of_its_roles(penstock: Penstock, tmp_path: Path):
    file = tmp_path / "given.yaml"
    file.write_text("---".join((LLM, PRESET, CACHED)))
    documents = penstock.render("--for", "dra", file=file).documents
    assert not [one for one in documents if one["kind"].startswith("LLMInferenceService")]
    pods = {
        one["metadata"]["name"].partition("-predictor")[0]: one["spec"]["template"]["spec"]
        for one in documents
        if one["kind"] == "Deployment"
    }
    assert sorted(pods) == ["chat", "chat-prefill"]
    templates = {one["metadata"]["name"]: one for one in documents if one["kind"] == "ResourceClaimTemplate"}
    for name, count in (("chat", 1), ("chat-prefill", 2)):
        (claim,) = pods[name]["resourceClaims"]
        devices = templates[claim["resourceClaimTemplateName"]]["spec"]["spec"]["devices"]
        assert devices["requests"][0]["exactly"]["count"] == count
        assert [volume["persistentVolumeClaim"]["claimName"] for volume in pods[name]["volumes"]] == [
            "model-workers"
        ]
    assert [one["kind"] for one in penstock.render(file=file).documents] == ["Deployment"] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LLM, "ml/chat: spec.baseRefs: found no LLMInferenceServiceConfig one-gpu in ml"),
        (
            PRESET + "---" + LLM.replace("replicas: 2", "parallelism: {pipeline: 2}"),
            "ml/chat: spec.parallelism: only tensor parallelism within a pod is served",
        ),
    ],
)
def test_an_llm_inference_service_that_cannot_be_played_is_refused(
    text: str, message: str, penstock: Penstock, tmp_path: Path
):
    file = tmp_path / "given.yaml"
    file.write_text(text)
    done = penstock.render("--for", "dra", file=file)
    assert done.code != 0
    assert message in done.error
    assert not done.out
