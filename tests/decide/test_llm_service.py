"""Which InferenceServices an LLMInferenceService asks for, and what it says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.app.runtimes import shipped_runtimes
from penstock.decide.llm_service import LlmPlan, plan_llm_service
from penstock.decide.llm_status import llm_status
from penstock.decide.runtime import choose_runtime
from penstock.decide.workload import build_workload, served_name
from penstock.resources.admission import admit
from penstock.resources.llm import LLMInferenceService, LLMInferenceServiceConfig
from penstock.resources.meta import Condition
from penstock.resources.serving import InferenceService, InferenceServiceStatus

SAMPLES = Path(__file__).parents[3] / "shared" / "kserve-samples"
RUNTIMES = tuple(shipped_runtimes())
MODEL = {"uri": "hf://facebook/opt-125m", "name": "facebook/opt-125m"}


def llm(annotations: dict[str, str] | None = None, **spec: Any) -> LLMInferenceService:
    document = {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": {"name": "opt", "namespace": "default", "annotations": annotations or {}},
        "spec": {"model": MODEL, **spec},
    }
    admitted = admit(document)
    assert not admitted.warnings
    assert isinstance(admitted.object, LLMInferenceService)
    meta = msgspec.structs.replace(admitted.object.metadata, uid="uid-opt")
    return msgspec.structs.replace(admitted.object, metadata=meta)


def preset(name: str, **spec: Any) -> LLMInferenceServiceConfig:
    document = {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceServiceConfig",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }
    return msgspec.convert(document, LLMInferenceServiceConfig)


def planned(service: LLMInferenceService, *presets: LLMInferenceServiceConfig) -> LlmPlan:
    return plan_llm_service(service, {one.metadata.name: one for one in presets}, (), RUNTIMES)


def main(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "main", **fields}]}


def pod_of(service: InferenceService) -> Any:
    """The pod template that comes of it, admitted as the cluster would."""
    made = admit(msgspec.to_builtins(service)).object
    assert isinstance(made, InferenceService)
    workload = build_workload(made, "predictor", choose_runtime(made, (), RUNTIMES).runtime)
    assert workload.template is not None, workload.failure
    return workload.template


def test_it_becomes_a_service_of_the_same_name_that_is_its_own() -> None:
    plan = planned(llm(template=main(image="vllm:cpu", env=[{"name": "A", "value": "1"}]), replicas=3))
    [one] = plan.services
    assert one.metadata.name == "opt"
    assert one.metadata.owner_references[0].uid == "uid-opt"
    predictor = one.spec.predictor
    assert (predictor.min_replicas, predictor.max_replicas) == (3, 3)
    assert predictor.model is not None
    assert (predictor.model.storage_uri, predictor.model.image) == (MODEL["uri"], "vllm:cpu")
    pod = pod_of(one)
    assert served_name(pod.spec) == MODEL["name"]
    assert not any("kv-transfer" in arg for arg in pod.spec.containers[0].args)


def test_prefill_becomes_a_second_service_that_knows_the_model_by_the_same_name() -> None:
    plan = planned(llm(replicas=1, prefill={"replicas": 2, "template": main(image="other")}))
    answers, computes = plan.services
    assert computes.metadata.name == "opt-prefill"
    assert computes.metadata.annotations["penstock.dev/prefill-for"] == "opt"
    assert computes.spec.predictor.min_replicas == 2
    pods = [pod_of(one) for one in (answers, computes)]
    assert [pod.metadata.labels["penstock.dev/role"] for pod in pods] == ["decode", "prefill"]
    assert len({pod.metadata.labels["penstock.dev/transfer-group"] for pod in pods}) == 1
    assert {served_name(pod.spec) for pod in pods} == {MODEL["name"]}
    for pod in pods:
        assert any(arg.startswith("--kv-transfer-config=") for arg in pod.spec.containers[0].args)


def test_another_model_is_another_group() -> None:
    def group(**model: str) -> str:
        service = llm(model={**MODEL, **model}, prefill={})
        return planned(service).services[0].spec.predictor.labels["penstock.dev/transfer-group"]

    assert group() == group()
    assert group() != group(uri="hf://facebook/opt-350m")


def test_a_runtime_may_be_named_and_weights_left_where_they_are() -> None:
    service = llm({"penstock.dev/runtime": "penstock-sim"}, prefill={}, storageInitializer={"enabled": False})
    answers, _ = planned(service).services
    assert answers.spec.predictor.model is not None
    assert answers.spec.predictor.model.storage_uri is None
    pod = pod_of(answers)
    assert pod.spec.containers[0].args[-1] == "--model_name=facebook/opt-125m"
    assert not pod.spec.init_containers


def test_probes_of_a_template_mean_the_runtimes_own_port() -> None:
    probe = {"httpGet": {"path": "/health", "port": 8000, "scheme": "HTTPS"}, "failureThreshold": 7}
    [one] = planned(llm(template=main(livenessProbe=probe))).services
    liveness = pod_of(one).spec.containers[0].liveness_probe
    assert (liveness.http_get.port, liveness.http_get.scheme, liveness.failure_threshold) == (8080, "", 7)


def test_presets_are_merged_in_order_and_the_service_wins() -> None:
    base = preset("base", replicas=5, template=main(image="base", env=[{"name": "A", "value": "1"}]))
    more = preset("more", template=main(env=[{"name": "A", "value": "2"}]))
    service = llm(baseRefs=[{"name": "base"}, {"name": "more"}], template=main(image="own"))
    [one] = planned(service, base, more).services
    model = one.spec.predictor.model
    assert model is not None
    assert (model.image, one.spec.predictor.min_replicas) == ("own", 5)
    assert [(item.name, item.value) for item in model.env] == [("A", "2")]


def test_scaling_becomes_bounds_and_none_at_all_a_stop() -> None:
    [one] = planned(llm(scaling={"minReplicas": 2, "maxReplicas": 4})).services
    assert (one.spec.predictor.min_replicas, one.spec.predictor.max_replicas) == (2, 4)
    _, computes = planned(llm(prefill={"scaling": {"minReplicas": 0, "maxReplicas": 4}})).services
    assert (computes.spec.predictor.min_replicas, computes.spec.predictor.max_replicas) == (1, 4)
    [stopped] = planned(llm(replicas=0)).services
    assert stopped.metadata.annotations["serving.kserve.io/stop"] == "true"


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"worker": main()}, "spec.worker"),
        ({"prefill": {"worker": main()}}, "spec.prefill.worker"),
        ({"parallelism": {"pipeline": 2}}, "spec.parallelism"),
        ({"model": None}, "spec.model"),
    ],
)
def test_what_cannot_be_served_is_said(spec: dict[str, Any], word: str) -> None:
    service = msgspec.structs.replace(llm(), spec=msgspec.convert({"model": MODEL, **spec}, type(llm().spec)))
    plan = planned(service)
    assert plan.refusal.startswith(word)
    status = llm_status(service, plan, {}, url="u", now=0.0)
    assert _status(status)["Ready"] == "False"


def test_a_preset_that_is_not_there_is_waited_for() -> None:
    service = llm(baseRefs=[{"name": "gone"}])
    plan = planned(service)
    assert (plan.services, plan.missing) == ((), ("gone",))
    assert _status(llm_status(service, plan, {}, url="u", now=0.0))["PresetsCombined"] == "False"


def test_it_is_as_ready_as_the_worst_of_its_parts() -> None:
    service = llm(prefill={})
    plan = planned(service)
    there = {one.metadata.name: _that_says(one, "True") for one in plan.services}
    before = llm_status(service, plan, there, url="u", now=0.0)
    assert set(_status(before).values()) == {"True"}
    there["opt-prefill"] = _that_says(there["opt-prefill"], "False")
    after = llm_status(service, plan, there, url="u", now=0.0)
    assert _status(after) == {
        "MainWorkloadReady": "True",
        "PrefillWorkloadReady": "False",
        "PresetsCombined": "True",
        "Ready": "False",
        "RouterReady": "True",
        "WorkloadsReady": "False",
    }


def test_a_service_of_somebody_else_with_its_name_is_left_alone_and_told_of() -> None:
    service = llm()
    plan = planned(service)
    [own] = plan.services
    foreign = msgspec.structs.replace(
        own, metadata=msgspec.structs.replace(own.metadata, owner_references=())
    )
    status = llm_status(service, plan, {"opt": _that_says(foreign, "True")}, url="u", now=0.0)
    [main_ready] = [one for one in status.conditions if one.type == "MainWorkloadReady"]
    assert (main_ready.status, main_ready.reason) == ("False", "NameTaken")


def test_kserves_own_samples_become_services() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("../shared is absent")
    paths = sorted(SAMPLES.glob("llmisvc__*.yaml"))
    assert paths
    for path in paths:
        service = admit(msgspec.yaml.decode(path.read_bytes())).object
        assert isinstance(service, LLMInferenceService)
        [one] = planned(service).services
        assert pod_of(one).spec.containers[0].args


def _status(status: Any) -> dict[str, str]:
    return {one.type: one.status for one in status.conditions}


def _that_says(service: InferenceService, ready: str) -> InferenceService:
    status = InferenceServiceStatus(conditions=(Condition(type="Ready", status=ready),))
    return msgspec.structs.replace(service, status=status)


LORA = {"adapters": [{"name": "sql", "uri": "hf://a/sql"}, {"name": "de", "uri": "s3://b/de"}], "maxRank": 16}


def test_adapters_are_brought_beside_the_model_and_the_engine_and_callers_are_told() -> None:
    [made] = planned(llm(model={**MODEL, "lora": LORA})).services
    assert [(one.uri, one.mount_path) for one in made.spec.predictor.storage_uris] == [
        ("hf://facebook/opt-125m", "/mnt/models"),
        ("hf://a/sql", "/mnt/lora/sql"),
        ("s3://b/de", "/mnt/lora/de"),
    ]
    pod = pod_of(made).spec
    args = pod.containers[0].args
    at = args.index("--lora-modules")
    assert args[at - 2 : at + 3] == (
        "--enable-lora",
        "--max-lora-rank=16",
        "--lora-modules",
        "sql=/mnt/lora/sql",
        "de=/mnt/lora/de",
    )
    assert pod.init_containers[0].args[-2:] == ("s3://b/de", "/mnt/lora/de")
    assert made.metadata.annotations["penstock.dev/adapters"] == "sql,de"


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"adapters": {}}, "spec.model.lora.adapters: found {}, expected a list"),
        ({"adapters": [{"uri": "hf://a/b"}]}, "adapters[0].name: found None"),
        ({"adapters": [{"name": "../x", "uri": "hf://a/b"}]}, "adapters[0].name: found '../x'"),
        ({"adapters": [{"name": "x", "uri": "b"}]}, "adapters[0].uri: found 'b'"),
        ({"adapters": [*LORA["adapters"], {"name": "sql", "uri": "hf://a/b"}]}, "which another adapter has"),
    ],
)
def test_adapters_that_cannot_be_are_refused_by_their_field(lora: Any, said: str) -> None:
    assert said in planned(llm(model={**MODEL, "lora": lora})).refusal


def test_an_engine_of_another_kind_takes_no_adapters() -> None:
    asked = llm({"penstock.dev/runtime": "penstock-llama-cpp"}, model={**MODEL, "lora": LORA})
    assert "takes none" in planned(asked).refusal
