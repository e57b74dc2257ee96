"""Do runtimes and their priorities keep KServe's rules?"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from penstock.resources.runtime import ClusterServingRuntime, ServingRuntime, SupportedModelFormat
from penstock.resources.validation import Denial

Runtime = ServingRuntime | ClusterServingRuntime
_WORKER_ENV = ("PIPELINE_PARALLEL_SIZE", "TENSOR_PARALLEL_SIZE")


def deny_runtime(new: Runtime, old: Runtime | None, peers: Iterable[Runtime] = ()) -> Denial | None:
    """The first rule that a runtime breaks, alone or beside the other runtimes of its scope; a disabled one breaks none."""
    if new.spec.disabled:
        return None
    return _one_priority(new) or _distinct_priorities(new, peers) or _workers(new, old)


def _one_priority(new: Runtime) -> Denial | None:
    formats = new.spec.supported_model_formats
    for left, right in combinations(formats, 2):
        if left.name == right.name and left.priority != right.priority:
            return Denial(
                "spec.supportedModelFormats",
                f"different priorities assigned for the model format {left.name} under the servingruntime"
                f" {new.metadata.name}",
                "give every version of a format the same priority",
            )
    return None


def _distinct_priorities(new: Runtime, peers: Iterable[Runtime]) -> Denial | None:
    for peer in peers:
        if peer.metadata.name == new.metadata.name or peer.metadata.namespace != new.metadata.namespace:
            continue
        if peer.spec.disabled or bool(peer.spec.multi_model) != bool(new.spec.multi_model):
            continue
        if not _share_protocol(new, peer):
            continue
        for mine in new.spec.supported_model_formats:
            for theirs in peer.spec.supported_model_formats:
                if _contend(mine, theirs):
                    return Denial(
                        "spec.supportedModelFormats",
                        _same_priority(new, mine.name, peer),
                        f"change the priority of {mine.name} in one of the two, or set autoSelect: false",
                    )
    return None


def _share_protocol(left: Runtime, right: Runtime) -> bool:
    """No protocols listed means all of them."""
    one, other = set(left.spec.protocol_versions), set(right.spec.protocol_versions)
    return not one or not other or bool(one & other)


def _contend(mine: SupportedModelFormat, theirs: SupportedModelFormat) -> bool:
    return (
        bool(mine.auto_select and theirs.auto_select)
        and mine.name.lower() == theirs.name.lower()
        and mine.version == theirs.version
        and mine.priority is not None
        and mine.priority == theirs.priority
    )


def _same_priority(new: Runtime, format_name: str, peer: Runtime) -> str:
    text = f"same priority assigned for the model format {format_name} in the"
    if isinstance(new, ClusterServingRuntime):
        return f"{text} clusterservingruntimes {peer.metadata.name} and {new.metadata.name}"
    return (
        f"{text} servingruntimes {peer.metadata.name} and {new.metadata.name} in namespace"
        f" {new.metadata.namespace}"
    )


def _workers(new: Runtime, old: Runtime | None) -> Denial | None:
    workers = new.spec.worker_spec
    kind = type(new).__name__
    prefix = f"the {kind} {new.metadata.name} is invalid: "
    if workers is None:
        if old is not None and old.spec.worker_spec is not None:
            return Denial(
                "spec.workerSpec", prefix + "removing workerSpec where it already exists is not allowed"
            )
        return None
    if len(workers.containers) > 1:
        return Denial(
            "spec.workerSpec.containers", prefix + "setting multiple containers in workerSpec is not allowed"
        )
    for field, value in (
        ("PipelineParallelSize", workers.pipeline_parallel_size),
        ("TensorParallelSize", workers.tensor_parallel_size),
    ):
        if value is not None and value < 1:
            path = f"spec.workerSpec.{field[0].lower()}{field[1:]}"
            return Denial(path, f"{prefix}the WorkerSpec.{field} cannot be less than 1({value})")
    for container in (*new.spec.containers, *workers.containers):
        for variable in container.env:
            if variable.name in _WORKER_ENV:
                return Denial(
                    "spec", f"{prefix}setting {variable.name} in environment variables is not allowed"
                )
    return None
