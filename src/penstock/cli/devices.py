"""What commands show of nodes and their GPUs, read from the cluster."""

from __future__ import annotations

from typing import TypeVar

from penstock.app.gpu_types import load_gpu_types
from penstock.cli.api import Api
from penstock.contracts.devices import Gpu
from penstock.decide.device_slices import gpus_of
from penstock.kit.errors import NotFound
from penstock.resources.devices import ResourceSlice
from penstock.resources.meta import Resource
from penstock.resources.parse import typed
from penstock.resources.pod import Pod
from penstock.resources.scheme import kind_of

R = TypeVar("R", bound=Resource)
GIB = 1 << 30


def every(api: Api, type_: type[R]) -> tuple[R, ...]:
    """All objects of the kind, in every namespace."""
    kind = kind_of(type_)
    base = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
    head = {"apiVersion": kind.api_version, "kind": kind.kind}
    found = (typed({**head, **item}, kind) for item in api.get(f"{base}/{kind.plural}").get("items") or ())
    return tuple(one for one in found if isinstance(one, type_))


def gpus_by_node(api: Api) -> dict[str, tuple[Gpu, ...]]:
    """Every node's GPUs, as its slices tell."""
    return gpus_of(every(api, ResourceSlice), load_gpu_types())


def gpus_or_none(api: Api) -> dict[str, tuple[Gpu, ...]]:
    """The same; none of a cluster without ResourceSlices."""
    try:
        return gpus_by_node(api)
    except NotFound:
        return {}


def unfinished_pods(api: Api) -> list[Pod]:
    """Pods that hold what they asked for, or wait for it."""
    return [pod for pod in every(api, Pod) if pod.status.phase not in ("Succeeded", "Failed")]


def gib(size_bytes: int) -> str:
    """A size as people read it: 79.6Gi."""
    return f"{size_bytes / GIB:.1f}Gi"
