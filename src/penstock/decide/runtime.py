"""Which runtime runs this model?

KServe's rules (control plane, ServingRuntime selection): a named runtime is taken if it can serve the model; else all of
the namespace's runtimes precede the cluster's, and within each scope the highest priority for the format wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from penstock.kit.errors import nearest
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.runtime import ClusterServingRuntime, ServingRuntime, SupportedModelFormat
from penstock.resources.serving import InferenceService, ModelSpec

Runtime = ServingRuntime | ClusterServingRuntime
MAIN_CONTAINER = "kserve-container"
DEFAULT_PROTOCOL = "v1"
_PROTOCOL_RANKS = {"v1": 1, "v2": 2, "grpc-v1": 3, "grpc-v2": 4}
_UNKNOWN_RANK = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """The runtime, or why there is none (`reason` is KServe's word for status); `refused` says why each other is not it."""

    runtime: Runtime | None = None
    reason: str = ""
    message: str = ""
    refused: tuple[tuple[str, str], ...] = ()


def choose_runtime(
    service: InferenceService,
    runtimes: tuple[ServingRuntime, ...],
    cluster_runtimes: tuple[ClusterServingRuntime, ...],
) -> Choice:
    """`runtimes` are those of the service's namespace. The service has a `predictor.model`."""
    model = service.spec.predictor.model
    assert model is not None, "custom predictors need no runtime"
    if model.runtime:
        return _named(service, model, (*runtimes, *cluster_runtimes))
    multi_node = service.spec.predictor.worker_spec is not None
    candidates = (*_sorted(runtimes, model), *_sorted(cluster_runtimes, model))
    refused, fitting = [], []
    for runtime in candidates:
        why = _refusal(runtime, model, multi_node=multi_node, named=False)
        if why:
            refused.append((runtime.metadata.name, why))
        else:
            fitting.append(runtime)
    if not fitting:
        return Choice(
            reason="NoSupportingRuntime",
            message="No runtime found to support specified framework/version" + _advice(model, candidates),
            refused=tuple(refused),
        )
    others = tuple((runtime.metadata.name, "comes later in the order") for runtime in fitting[1:])
    return Choice(runtime=fitting[0], refused=(*refused, *others))


def _named(service: InferenceService, model: ModelSpec, runtimes: tuple[Runtime, ...]) -> Choice:
    runtime = next((r for r in runtimes if r.metadata.name == model.runtime), None)
    if runtime is None:
        close = nearest(model.runtime or "", [r.metadata.name for r in runtimes])
        hint = f" (there is {', '.join(close)})" if close else ""
        message = f"runtime {model.runtime!r} is not found{hint}; Waiting for runtime to become available"
        return Choice(reason="RuntimeNotRecognized", message=message)
    multi_node = service.spec.predictor.worker_spec is not None
    why = _refusal(runtime, model, multi_node=multi_node, named=True)
    if not why:
        return Choice(runtime=runtime)
    reason = "RuntimeDisabled" if runtime.spec.disabled else "NoSupportingRuntime"
    return Choice(
        reason=reason, message=f"runtime {model.runtime!r} {why}", refused=((runtime.metadata.name, why),)
    )


def _refusal(runtime: Runtime, model: ModelSpec, *, multi_node: bool, named: bool) -> str:
    """Why the runtime cannot serve the model, or ""."""
    spec = runtime.spec
    if spec.disabled:
        return "is disabled"
    if spec.multi_model:
        return "serves several models in one process"
    if not any(_offers(offered, model, named=named) for offered in spec.supported_model_formats):
        return f"does not serve {_asked(model)}" + ("" if named else " unasked")
    protocol = model.protocol_version or DEFAULT_PROTOCOL
    if spec.protocol_versions and protocol not in spec.protocol_versions:
        return f"speaks {', '.join(spec.protocol_versions)}, not {protocol}"
    if (spec.worker_spec is not None) != multi_node:
        return "spans several pods" if spec.worker_spec else "does not span several pods"
    return ""


def _offers(offered: SupportedModelFormat, model: ModelSpec, *, named: bool) -> bool:
    wanted = model.model_format
    if wanted is None or offered.name.lower() != wanted.name.lower():
        return False
    if wanted.version is not None and offered.version != wanted.version:
        return False
    return named or bool(offered.auto_select)


def _asked(model: ModelSpec) -> str:
    if model.model_format is None:
        return "a model without a format"
    version = f" {model.model_format.version}" if model.model_format.version else ""
    return f"{model.model_format.name}{version}"


def _sorted(runtimes: Iterable[Runtime], model: ModelSpec) -> list[Runtime]:
    """Lowest protocol first, newest first, by name; then, keeping that order, by priority for the format."""
    presorted = sorted(runtimes, key=lambda r: (_protocol_rank(r), -_created(r), r.metadata.name))
    return sorted(presorted, key=lambda r: _by_priority(_priority(r, model)))


def _by_priority(priority: int | None) -> tuple[bool, int]:
    """Descending, set before unset."""
    return priority is None, -(priority or 0)


def _priority(runtime: Runtime, model: ModelSpec) -> int | None:
    offered = [f for f in runtime.spec.supported_model_formats if _offers(f, model, named=False)]
    return next((f.priority for f in offered if f.priority is not None), None)


def _protocol_rank(runtime: Runtime) -> int:
    return min(
        (_PROTOCOL_RANKS.get(p, _UNKNOWN_RANK) for p in runtime.spec.protocol_versions), default=_UNKNOWN_RANK
    )


def _created(runtime: Runtime) -> float:
    created = runtime.metadata.creation_timestamp
    return parse_rfc3339(created) if created else 0.0


def _advice(model: ModelSpec, candidates: Iterable[Runtime]) -> str:
    formats = sorted({f.name for r in candidates for f in r.spec.supported_model_formats})
    wanted = model.model_format.name if model.model_format else ""
    if wanted.lower() in (name.lower() for name in formats):
        protocol = model.protocol_version or DEFAULT_PROTOCOL
        return (
            f": {_asked(model)} is served, but not in that version or not over protocol {protocol}; "
            "set model.protocolVersion, or name a runtime"
        )
    close = nearest(wanted, formats)
    return f": nothing serves {wanted!r}" + (
        f", did you mean {close[0]!r}?" if close else f"; served are {', '.join(formats)}"
    )
