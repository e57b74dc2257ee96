"""Which devices do a pod's resource claims ask for?

A claim's request is answered by looking at every device that there is, whole GPUs and MIG instances, as slices would tell it: those that meet the
class's and the request's conditions will do. Where none does, the answer says which condition kept most of them out. Which of them a pod is given, and
whether all requests can be met together, is `claim_fit`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.contracts.devices import WHOLE_MILLI, Bond, DeviceRequest, Gpu, GpuType, Way
from penstock.decide.device_slices import DRIVER, devices_of, text
from penstock.decide.gpu_aliases import with_product_names
from penstock.kit.cel import parse_condition
from penstock.kit.cel_values import CelError, Quantity, semver
from penstock.kit.errors import InvalidInput
from penstock.kit.quantity import format_quantity, parse_quantity, to_bytes
from penstock.resources.claims import ADMIN_LABEL, MAX_RESULTS
from penstock.resources.devices import (
    CelSelector,
    ClaimConstraint,
    ClaimRequest,
    Device,
    DeviceClass,
    DeviceClassSpec,
    DeviceSelector,
    DeviceWish,
    ResourceClaimSpec,
)
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod, Toleration


def _own_class(name: str, type_: str) -> DeviceClass:
    condition = f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == '{type_}'"
    selectors = (DeviceSelector(cel=CelSelector(expression=condition)),)
    return DeviceClass(metadata=ObjectMeta(name=name), spec=DeviceClassSpec(selectors=selectors))


OWN_CLASSES = {
    one.metadata.name: one for one in (_own_class(DRIVER, "gpu"), _own_class("mig.nvidia.com", "mig"))
}
"""The classes that NVIDIA's driver brings, where nobody has made others of these names."""


class Claims(Struct, frozen=True):
    """What a pod's claims want: `specs` by the pod's own name for them, None for one that is not there; all device classes.

    `may_administer` says that the pod's namespace has the label `ADMIN_LABEL` (`resources/claims.py`), `types` are those
    that names in conditions can mean.
    """

    specs: Mapping[str, ResourceClaimSpec | None] = {}
    classes: Mapping[str, DeviceClass] = {}
    may_administer: bool = False
    types: tuple[GpuType, ...] = ()


class _No(Exception):
    """Raised within this question only."""


class _Seen(NamedTuple):
    """A device as conditions saw it; `why_not` is the condition that it does not meet, "" where it meets all."""

    gpu: Gpu
    device: Device
    why_not: str


def claimed(
    pod: Pod, claims: Claims, gpus: Iterable[Gpu], types: frozenset[str] = frozenset()
) -> tuple[DeviceRequest, ...] | str:
    """One request per request of each claim, in order, or the sentence why it can never be had here. `gpus` are those of the `types` that the pod allows, all if it names none."""
    if not pod.spec.resource_claims:
        return ()
    there = tuple(gpus)
    found = []
    try:
        for entry in pod.spec.resource_claims:
            name = str(entry.get("name", ""))
            spec = claims.specs.get(name)
            if spec is None:
                raise _No(f"resourceClaims[{name}]: the claim or template that it names does not exist")
            for one in spec.devices.requests:
                bonds = _bonds(name, one, spec.devices.constraints)
                found.append(replace(_request(name, one, bonds, claims, there), types=types))
    except _No as no:
        return str(no)
    return tuple(found)


def _bonds(claim: str, request: ClaimRequest, constraints: Iterable[ClaimConstraint]) -> tuple[Bond, ...]:
    """The constraints that hold for the request, or for some of its alternatives."""
    found = []
    for i, one in enumerate(constraints):
        ways = tuple(n.partition("/")[2] for n in one.requests if n.partition("/")[0] == request.name)
        if ways or not one.requests:
            attribute = one.match_attribute or one.distinct_attribute or ""
            found.append(
                Bond(
                    name=f"{claim}/{i}",
                    attribute=attribute,
                    is_distinct=one.match_attribute is None,
                    ways=() if "" in ways else ways,
                )
            )
    return tuple(found)


def _request(
    claim: str, request: ClaimRequest, bonds: tuple[Bond, ...], claims: Claims, gpus: tuple[Gpu, ...]
) -> DeviceRequest:
    """With all the alternatives that some device here meets; what it comes to is what the first of them does."""
    wishes = (request.exactly,) if request.exactly is not None else request.first_available
    ways, meeting, reasons = [], [], []
    for wish in wishes:
        where = f"resourceClaims[{claim}].requests[{request.name}{f'/{wish.name}' if wish.name else ''}]"
        way = _way(where, wish, claims)
        if isinstance(way, str):
            reasons.append(way)
            continue
        seen = [one for gpu in gpus for one in devices_seen(way.conditions, gpu)]
        able = [one for one in seen if not one.why_not]
        if able or not seen:
            ways.append(way)
            meeting.append(able)
        else:
            reasons.append(f"{where}: none of {len(seen)} devices will do: {_why(wish, seen)}")
    if not ways:
        raise _No("; ".join(reasons))
    return _measured(ways[0], meeting[0], claim, request.name, tuple(ways), bonds)


def _why(wish: DeviceWish, seen: list[_Seen]) -> str:
    """The condition that keeps out most of those that meet the others; sizes in words."""
    small = [_size(one.device) for one in seen if one.why_not in {*_amounts(wish)}]
    if small and _memory(wish) > max(small):
        found, most = format_quantity(_memory(wish), binary=True), format_quantity(max(small), binary=True)
        return f"found {found} of memory, the largest that will do has {most}"
    return Counter(one.why_not for one in seen).most_common(1)[0][0]


def _measured(
    way: Way, meeting: list[_Seen], claim: str, request: str, ways: tuple[Way, ...], bonds: tuple[Bond, ...]
) -> DeviceRequest:
    """A whole GPU where one will do, else the smallest instance."""
    parts = {text(one.device, "profile"): _size(one.device) for one in meeting}
    is_whole = way.is_admin or not parts or "" in parts
    profile = "" if is_whole else min(parts, key=lambda name: (parts[name], name))
    return DeviceRequest(
        count=max(1, way.count),
        milli=WHOLE_MILLI if is_whole and not way.is_admin and not way.memory_bytes else 0,
        memory_bytes=way.memory_bytes if is_whole else 0,
        profile=profile,
        claim=claim,
        request=request,
        ways=ways,
        bonds=bonds,
    )


def _size(device: Device) -> int:
    return to_bytes(device.capacity["memory"].value) if "memory" in device.capacity else 0


def _way(where: str, wish: DeviceWish, claims: Claims) -> Way | str:
    kind = claims.classes.get(wish.device_class_name) or OWN_CLASSES.get(wish.device_class_name)
    if kind is None:
        known = ", ".join(sorted({*claims.classes, *OWN_CLASSES}))
        return f"{where}: there is no DeviceClass {wish.device_class_name}; there are {known}"
    if wish.admin_access and not claims.may_administer:
        return f"{where}: adminAccess is only for namespaces with the label {ADMIN_LABEL}=true: label this one, or leave it out"
    count = 0 if wish.allocation_mode == "All" else wish.count or 1
    if count > MAX_RESULTS:
        return f"{where}: found {count} devices, a claim is given at most {MAX_RESULTS}"
    try:
        conditions = (*_conditions((*kind.spec.selectors, *wish.selectors), claims.types), *_amounts(wish))
        tolerations = msgspec.convert(wish.tolerations, tuple[Toleration, ...])
        memory_bytes = _memory(wish)
    except (InvalidInput, msgspec.ValidationError) as error:
        return f"{where}: {error}"
    return Way(
        name=wish.name,
        conditions=conditions,
        count=count,
        memory_bytes=0 if wish.admin_access else memory_bytes,
        is_admin=bool(wish.admin_access),
        tolerations=tolerations,
    )


def _conditions(selectors: Iterable[DeviceSelector], types: tuple[GpuType, ...]) -> tuple[str, ...]:
    return tuple(with_product_names(one.cel.expression, types) for one in selectors if one.cel is not None)


def _amounts(wish: DeviceWish) -> Iterable[str]:
    """So much as is asked for of each capacity a device must have."""
    for name, amount in (wish.capacity.requests if wish.capacity else {}).items():
        domain, _, own = name.rpartition("/")
        parse_quantity(amount)
        yield f"device.capacity['{domain or DRIVER}'].{own}.compareTo(quantity('{amount}')) >= 0"


def _memory(wish: DeviceWish) -> int:
    given = wish.capacity.requests if wish.capacity else {}
    quantity = given.get("memory", given.get(f"{DRIVER}/memory"))
    return to_bytes(quantity) if quantity is not None else 0


@lru_cache(maxsize=1 << 14)
def devices_seen(conditions: tuple[str, ...], gpu: Gpu) -> tuple[_Seen, ...]:
    """Each device of a GPU that can be had, and which condition keeps it from being one that will do. A GPU in MIG mode cannot be had whole."""
    devices = (one for one in devices_of(gpu) if not (gpu.is_mig and text(one, "type") == "gpu"))
    return tuple(_Seen(gpu, one, _first_failing(conditions, one)) for one in devices)


def _first_failing(conditions: tuple[str, ...], device: Device) -> str:
    scope = {"device": facts(device)}
    for expression in conditions:
        try:
            if not parse_condition(expression)(scope):
                return expression
        except CelError as error:
            return f"{expression} (character {error.at + 1}: {error.message})"
    return ""


def facts(device: Device) -> dict[str, Any]:
    """The device as conditions see it: attributes and capacity by domain."""
    attributes: dict[str, dict[str, Any]] = {}
    for name, value in device.attributes.items():
        domain, _, own = name.rpartition("/")
        given = next(one for one in (value.string, value.int_, value.bool_, value.version) if one is not None)
        attributes.setdefault(domain or DRIVER, {})[own] = semver(given) if value.version else given
    capacity: dict[str, dict[str, Any]] = {}
    for name, amount in device.capacity.items():
        domain, _, own = name.rpartition("/")
        capacity.setdefault(domain or DRIVER, {})[own] = Quantity(parse_quantity(amount.value))
    return {"driver": DRIVER, "attributes": attributes, "capacity": capacity}
