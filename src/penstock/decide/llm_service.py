"""Which InferenceServices does this LLMInferenceService ask for?

One that answers, under its own name; where it has `prefill`, a second one whose pods compute prompts for the first (KServe's llm-d shape). So
revisions, rollouts, scaling and status are those of every other service. Presets in `baseRefs` are merged in their order, the last wins, then
the service itself. The runtime is the one that annotation penstock.dev/runtime names, else the one that serves vLLM's models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.contracts.exchange import ROLE_LABELS
from penstock.decide.disaggregation import DECODE, PREFILL
from penstock.decide.lora import Adapter, adapters_of, lora_args
from penstock.decide.rollout import STOP
from penstock.decide.route_table import ADAPTERS, ALIASES, TRANSFER_GROUP
from penstock.decide.runtime import Runtime, choose_runtime
from penstock.decide.storage import MODELS
from penstock.decide.workload import NAME_FLAGS, main_container
from penstock.kit.errors import InvalidInput
from penstock.kit.hashing import short_hash
from penstock.kit.patch import strategic_merge
from penstock.resources.llm import (
    LLMInferenceService,
    LLMInferenceServiceConfig,
    LLMInferenceServiceSpec,
    LLMModelSpec,
    LLMWorkloadSpec,
)
from penstock.resources.meta import Labels, ObjectMeta, controlled_by
from penstock.resources.pod import PodSpec
from penstock.resources.routing import PREFILL_FOR
from penstock.resources.runtime import ClusterServingRuntime, ServingRuntime
from penstock.resources.serving import InferenceService, InferenceServiceSpec, PredictorSpec

RUNTIME = "penstock.dev/runtime"
MAIN = "main"
"""The name of the container that answers, in a template of this kind."""
FORMAT = "vLLM"
_UNCOPIED = ("kubectl.kubernetes.io/last-applied-configuration", RUNTIME)
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LlmPlan:
    """The services to have, or why there can be none: `missing` are presets that do not exist, `refusal` what cannot be served."""

    services: tuple[InferenceService, ...] = ()
    missing: tuple[str, ...] = ()
    refusal: str = ""


def prefill_name(service: LLMInferenceService) -> str:
    """Of the service that computes prompts."""
    return f"{service.metadata.name}-prefill"


def plan_llm_service(
    service: LLMInferenceService,
    presets: Mapping[str, LLMInferenceServiceConfig],
    runtimes: tuple[ServingRuntime, ...],
    cluster_runtimes: tuple[ClusterServingRuntime, ...],
) -> LlmPlan:
    """`presets` and `runtimes` are those of its namespace."""
    missing = tuple(ref.name for ref in service.spec.base_refs if ref.name not in presets)
    if missing:
        return LlmPlan(missing=missing)
    try:
        spec = merged_spec(service, presets)
        refusal = _refusal(spec)
        if refusal:
            return LlmPlan(refusal=refusal)
        known: tuple[Runtime, ...] = (*runtimes, *cluster_runtimes)
        parts: list[tuple[LLMWorkloadSpec, str, str]] = [
            (spec, service.metadata.name, DECODE if spec.prefill else "")
        ]
        if spec.prefill is not None:
            parts.append((spec.prefill, prefill_name(service), PREFILL))
        services = tuple(_service(service, spec, part, name, role, known) for part, name, role in parts)
    except (InvalidInput, msgspec.ValidationError) as error:
        return LlmPlan(refusal=str(error))
    return LlmPlan(tuple(_named(one, service, spec, runtimes, cluster_runtimes) for one in services))


def merged_spec(
    service: LLMInferenceService, presets: Mapping[str, LLMInferenceServiceConfig]
) -> LLMInferenceServiceSpec:
    """Raises InvalidInput and msgspec.ValidationError for what does not fit together."""
    spec: Document = {}
    for ref in service.spec.base_refs:
        spec = strategic_merge(spec, _plain(presets[ref.name].spec))
    spec = strategic_merge(spec, _plain(service.spec))
    return msgspec.convert(spec, LLMInferenceServiceSpec)


def _refusal(spec: LLMInferenceServiceSpec) -> str:
    if spec.model is None:
        return "spec.model: neither the service nor a preset of it names a model"
    for path, part in (("spec", spec), ("spec.prefill", spec.prefill)):
        if part is None:
            continue
        if part.worker is not None:
            return f"{path}.worker: a model that spans several pods is not served"
        wide = part.parallelism
        if wide is not None and ((wide.pipeline or 1) > 1 or (wide.data or 1) > 1):
            return f"{path}.parallelism: only tensor parallelism within a pod is served"
    return ""


def _service(
    owner: LLMInferenceService,
    spec: LLMInferenceServiceSpec,
    part: LLMWorkloadSpec,
    name: str,
    role: str,
    runtimes: Iterable[Runtime],
) -> InferenceService:
    meta, model = owner.metadata, spec.model
    assert model is not None, "a service without a model has been refused"
    annotations = {key: value for key, value in meta.annotations.items() if key not in _UNCOPIED}
    if role == PREFILL:
        annotations[PREFILL_FOR] = meta.name
    else:
        annotations = _named_models(annotations, model)
    if part.replicas == 0:
        annotations[STOP] = "true"
    labels: Labels = {**part.labels}
    if role:
        labels |= {ROLE_LABELS[0]: role, TRANSFER_GROUP: short_hash([model.uri, model.name, model.lora])}
    return InferenceService(
        metadata=ObjectMeta(
            name=name,
            namespace=meta.namespace,
            labels=meta.labels,
            annotations=annotations,
            owner_references=(controlled_by(owner),),
        ),
        spec=InferenceServiceSpec(predictor=_predictor(owner, spec, part, labels, runtimes)),
    )


def _predictor(
    owner: LLMInferenceService,
    spec: LLMInferenceServiceSpec,
    part: LLMWorkloadSpec,
    labels: Labels,
    runtimes: Iterable[Runtime],
) -> PredictorSpec:
    pod = _plain(part.template) if part.template is not None else {}
    containers = {one["name"]: one for one in pod.pop("containers", ())}
    main = _portless(containers.pop(MAIN, {}))
    main.pop("name", None)
    runtime = owner.metadata.annotations.get(RUNTIME)
    model: Document = {**main, "modelFormat": {"name": _format(runtime, runtimes)}}
    if runtime:
        model["runtime"] = runtime
    sources: list[Document] = []
    if spec.model is not None:
        adapters = _adapters(spec, model["modelFormat"]["name"])
        if adapters:
            model["args"] = [*model.get("args", ()), *lora_args(spec.model.lora, adapters)]
            sources = [{"uri": spec.model.uri, "mountPath": MODELS}]
            sources += [{"uri": one.uri, "mountPath": one.path} for one in adapters]
        elif _fetches(spec):
            model["storageUri"] = spec.model.uri
    tensor = part.parallelism.tensor if part.parallelism is not None else None
    if tensor is not None and tensor > 1:
        model["args"] = [*model.get("args", ()), f"--tensor-parallel-size={tensor}"]
    least, most = _size(part)
    if part is spec.prefill and part.replicas != 0:
        least = max(1, least)  # nothing wakes it: it is asked only where it is awake
    document = {
        **pod,
        "model": model,
        "minReplicas": least,
        "maxReplicas": most,
        "labels": labels,
        "annotations": part.annotations,
    }
    if sources:
        document["storageUris"] = sources
    if containers:
        document["containers"] = list(containers.values())
    return msgspec.convert(document, PredictorSpec)


def _adapters(spec: LLMInferenceServiceSpec, served: str) -> tuple[Adapter, ...]:
    """Raises InvalidInput where no engine could have them."""
    found = adapters_of(spec.model.lora) if spec.model is not None else ()
    if found and served != FORMAT:
        raise InvalidInput(
            f"spec.model.lora.adapters: a runtime of {served} takes none, expected one of {FORMAT}"
        )
    if found and not _fetches(spec):
        raise InvalidInput(
            "spec.model.lora.adapters: found some, and spec.storageInitializer that brings none"
        )
    return found


def _named_models(annotations: Labels, model: LLMModelSpec) -> Labels:
    """With the names by which callers may ask for the model and its adapters, unless they are given."""
    adapters = ",".join(one.name for one in adapters_of(model.lora))
    named = {ALIASES: model.name or "", ADAPTERS: adapters}
    return {key: value for key, value in named.items() if value} | annotations


def _named(
    one: InferenceService,
    owner: LLMInferenceService,
    spec: LLMInferenceServiceSpec,
    runtimes: tuple[ServingRuntime, ...],
    cluster_runtimes: tuple[ClusterServingRuntime, ...],
) -> InferenceService:
    """Both roles know the model by one name: the flag is that by which the runtime tells its engine a name."""
    model, asked = one.spec.predictor.model, spec.model
    assert model is not None, "it was made with one"
    assert asked is not None, "a service without a model has been refused"
    runtime = choose_runtime(one, runtimes, cluster_runtimes).runtime
    if runtime is None or not runtime.spec.containers:
        return one
    args = main_container(msgspec.convert(msgspec.to_builtins(runtime.spec), PodSpec)).args
    flag = next((flag for flag in NAME_FLAGS if any(arg.partition("=")[0] == flag for arg in args)), None)
    if flag is None:
        return one
    named = f"{flag}={asked.name or owner.metadata.name}"
    model = msgspec.structs.replace(model, args=(*model.args, named))
    predictor = msgspec.structs.replace(one.spec.predictor, model=model)
    return msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, predictor=predictor))


def _format(runtime: str | None, runtimes: Iterable[Runtime]) -> str:
    """What the named runtime serves first."""
    found = next((one for one in runtimes if one.metadata.name == runtime), None)
    formats = found.spec.supported_model_formats if found is not None else ()
    return formats[0].name if formats else FORMAT


def _fetches(spec: LLMInferenceServiceSpec) -> bool:
    given = spec.storage_initializer
    return not (isinstance(given, dict) and given.get("enabled") is False)


def _size(part: LLMWorkloadSpec) -> tuple[int, int]:
    """Least and most replicas; as many as given, where it does not scale."""
    scaling = part.scaling if isinstance(part.scaling, dict) else None
    if scaling is None:
        replicas = 1 if part.replicas is None else part.replicas
        return replicas, replicas
    least, most = scaling.get("minReplicas"), scaling.get("maxReplicas")
    return (least if type(least) is int else 1), (most if type(most) is int else 0)


def _portless(main: Document) -> Document:
    """Probes mean the runtime's own port, unless the template brings ports: KServe's presets listen elsewhere, and over TLS."""
    made = dict(main)
    for name in () if main.get("ports") else _PROBES:
        http = (main.get(name) or {}).get("httpGet")
        if http:
            path = {key: value for key, value in http.items() if key not in ("port", "scheme")}
            made[name] = {**main[name], "httpGet": path}
    return made


def _plain(value: Any) -> Document:
    plain: Document = msgspec.json.decode(msgspec.json.encode(value))
    return plain
