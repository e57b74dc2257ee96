"""Which devices does this pod ask for?

As users write it: extended resources, MIG profiles, replicas of shared GPUs, memory of a GPU by annotation, claims; which types of GPU will
do is said by the pod's node selector in any provider's words. What no GPU here can ever give is answered with why, and what would do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from penstock.contracts.devices import (
    GPU_RESOURCE,
    MEMORY_ANNOTATION,
    WHOLE_MILLI,
    DeviceRequest,
    Gpu,
    GpuType,
    MigProfile,
)
from penstock.decide.device_claims import Claims, claimed
from penstock.decide.device_resources import is_device, mig_resource, profile_of
from penstock.decide.gpu_aliases import AFFINITY, SELECTOR, meanings
from penstock.kit.errors import InvalidInput
from penstock.kit.quantity import parse_quantity, to_bytes
from penstock.resources.pod import Container, Pod

GIB = 1 << 30
NO_CLAIMS = Claims()


_CONTRADICTION = {
    frozenset((SELECTOR,)): "nodeSelector contradicts itself",
    frozenset((AFFINITY,)): "no GPU that is here is allowed by the node affinity",
    frozenset((SELECTOR, AFFINITY)): "nodeSelector and node affinity contradict each other",
}


class Fleet(Struct, frozen=True):
    """What there is to ask of: all GPUs of all nodes, the types that names can mean, and what the pod's claims want."""

    gpus: tuple[Gpu, ...] = ()
    types: tuple[GpuType, ...] = ()
    claims: Claims = NO_CLAIMS


class _Refusal(Exception):
    """Raised within this question only."""


def asked(pod: Pod, fleet: Fleet) -> tuple[DeviceRequest, ...] | str:
    """What each container asks of GPUs, in the order of containers, or the sentence why that can never be had here.

    Init containers use what the others of the pod hold; only what they ask beyond that counts.
    """
    try:
        types = _wanted_types(pod, fleet)
        able = tuple(gpu for gpu in fleet.gpus if not types or gpu.type.name in types)
        found = tuple(_of_containers(pod, types, able))
        found = _by_memory(pod, found, types, able)
    except _Refusal as refusal:
        return str(refusal)
    claimed_too = claimed(pod, fleet.claims, able, types)
    return claimed_too if isinstance(claimed_too, str) else (*found, *claimed_too)


def _wanted_types(pod: Pod, fleet: Fleet) -> frozenset[str]:
    """The types that node selector and required node affinity allow; empty where they name none."""
    found = meanings(pod, fleet.types, frozenset(gpu.type.name for gpu in fleet.gpus))
    if not found:
        return frozenset()
    common = frozenset.intersection(*(one.types for one in found))
    if not common:
        said = " and ".join(
            f"{one.words} (that is {' or '.join(sorted(one.types)) or 'none'})" for one in found
        )
        raise _Refusal(
            f"{_CONTRADICTION[frozenset(one.where for one in found)]}: no GPU is {said}; leave all but one of them out"
        )
    return common


def _of_containers(pod: Pod, types: frozenset[str], able: tuple[Gpu, ...]) -> Iterable[DeviceRequest]:
    main = [*pod.spec.containers, *(c for c in pod.spec.init_containers if c.restart_policy == "Always")]
    total: dict[str, int] = {}
    for container in main:
        for resource, count in _counts(container).items():
            total[resource] = total.get(resource, 0) + count
            yield _request(container.name, resource, count, types, able)
    for container in pod.spec.init_containers:
        if container.restart_policy == "Always":
            continue
        for resource, count in _counts(container).items():
            if count > total.get(resource, 0):
                more = count - total.get(resource, 0)
                total[resource] = count
                yield _request(container.name, resource, more, types, able)


def _counts(container: Container) -> Mapping[str, int]:
    if container.resources is None:
        return {}
    found = {}
    given = {**container.resources.limits, **container.resources.requests}
    for resource, quantity in given.items():
        if not is_device(resource):
            continue
        count = parse_quantity(quantity)
        if count != int(count):
            raise _Refusal(
                f"containers[{container.name}].resources[{resource}]: found {quantity}, expected a whole number; "
                f"for a part of a GPU set the annotation {MEMORY_ANNOTATION}"
            )
        if count:
            found[resource] = int(count)
    return found


def _request(
    container: str, resource: str, count: int, types: frozenset[str], able: tuple[Gpu, ...]
) -> DeviceRequest:
    if profile := profile_of(resource):
        _check_profile(resource, profile, able)
        return DeviceRequest(
            container=container, resource=resource, count=count, milli=0, profile=profile, types=types
        )
    sharing = [gpu.sharing for gpu in able if gpu.sharing.resource == resource]
    is_shared = resource != GPU_RESOURCE
    if is_shared and able and not sharing:
        raise _Refusal(_no_such_name(resource, able))
    if count > 1 and sharing and all(one.refuses_many for one in sharing):
        raise _Refusal(
            f"{resource}: found {count}, expected 1: a second replica of a shared GPU gives no more of it, and "
            "this node's sharing refuses such requests"
        )
    milli = 0 if is_shared else WHOLE_MILLI
    return DeviceRequest(
        container=container, resource=resource, count=count, milli=milli, is_shared=is_shared, types=types
    )


def _check_profile(resource: str, profile: str, able: tuple[Gpu, ...]) -> None:
    """Where there is no GPU at all, placement says so; here it is about GPUs that have other profiles."""
    kinds = {gpu.type.name: gpu.type for gpu in able}
    if not kinds or any(profile == one.name for kind in kinds.values() for one in kind.profiles):
        return
    has = [
        f"{kind.name} has {', '.join(one.name for one in kind.profiles)}"
        if kind.profiles
        else f"{kind.name} has none"
        for kind in kinds.values()
    ]
    close = _like(profile, [one for kind in kinds.values() for one in kind.profiles])
    hint = f"; did you mean {mig_resource(close)}?" if close else ""
    raise _Refusal(f"{resource}: no GPU here has the MIG profile {profile}: {'; '.join(has)}{hint}")


def _like(profile: str, there: list[MigProfile]) -> str:
    """The smallest one with as many compute slices, "" where none has."""
    compute = profile.partition(".")[0]
    alike = [one for one in there if one.name.partition(".")[0] == compute and "+" not in one.name]
    return min(alike, key=lambda one: one.memory_bytes).name if alike else ""


def _no_such_name(resource: str, able: tuple[Gpu, ...]) -> str:
    names = sorted({gpu.sharing.resource for gpu in able if not gpu.is_mig})
    return (
        f"{resource}: no node offers GPUs under this name, they are {', '.join(names) or 'partitioned by MIG'}; a node's GPUs are "
        "shared by a device plugin configuration with sharing.timeSlicing or sharing.mps"
    )


def _by_memory(
    pod: Pod, found: tuple[DeviceRequest, ...], types: frozenset[str], able: tuple[Gpu, ...]
) -> tuple[DeviceRequest, ...]:
    """The annotation makes parts of what are whole GPUs otherwise; without any GPU asked for it means one, of the first container."""
    text = pod.metadata.annotations.get(MEMORY_ANNOTATION)
    if text is None:
        return found
    memory_bytes = _memory(text)
    other = next((one for one in found if one.resource != GPU_RESOURCE), None)
    if other is not None:
        raise _Refusal(
            f"{MEMORY_ANNOTATION}: found {text} beside {other.resource}: a pod asks for memory of a GPU or for such a device, "
            "not for both"
        )
    largest = max(able, key=lambda gpu: gpu.type.memory_bytes, default=None)
    if largest is not None and memory_bytes > largest.type.memory_bytes:
        raise _Refusal(
            f"{MEMORY_ANNOTATION}: found {text}, the largest GPU that will do ({largest.type.name}) has "
            f"{largest.type.memory_bytes / GIB:.1f}Gi: ask for less, or for several GPUs with {GPU_RESOURCE}"
        )
    whole = found or (DeviceRequest(container=_first(pod), types=types),)
    return tuple(
        DeviceRequest(
            container=one.container,
            resource=one.resource,
            count=one.count,
            milli=0,
            memory_bytes=memory_bytes,
            types=one.types,
        )
        for one in whole
    )


def _memory(text: str) -> int:
    try:
        size = to_bytes(text)
    except InvalidInput:
        size = 0
    if size <= 0:
        raise _Refusal(f"{MEMORY_ANNOTATION}: found {text!r}, expected a size above zero such as 10Gi")
    return size


def _first(pod: Pod) -> str:
    return pod.spec.containers[0].name if pod.spec.containers else ""
