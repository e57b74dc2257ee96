"""Which devices do a pod's resource claims ask for?

A claim's request is answered by looking at every device that there is, whole GPUs and MIG instances, as slices would tell it: those that meet the
class's and the request's conditions will do. Where none does, the answer says which condition kept most of them out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from penstock.contracts.devices import WHOLE_MILLI, DeviceRequest, Gpu
from penstock.decide.device_slices import DRIVER, devices_of, text
from penstock.kit.cel import parse_condition
from penstock.kit.cel_values import CelError, Quantity, semver
from penstock.kit.quantity import parse_quantity, to_bytes
from penstock.resources.devices import (
    CelSelector,
    ClaimRequest,
    Device,
    DeviceClass,
    DeviceClassSpec,
    DeviceSelector,
    DeviceWish,
    ResourceClaimSpec,
)
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod


def _own_class(name: str, type_: str) -> DeviceClass:
    condition = f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == '{type_}'"
    selectors = (DeviceSelector(cel=CelSelector(expression=condition)),)
    return DeviceClass(metadata=ObjectMeta(name=name), spec=DeviceClassSpec(selectors=selectors))


OWN_CLASSES = {
    one.metadata.name: one for one in (_own_class(DRIVER, "gpu"), _own_class("mig.nvidia.com", "mig"))
}
"""The classes that NVIDIA's driver brings, where nobody has made others of these names."""


class Claims(Struct, frozen=True):
    """What a pod's claims want: `specs` by the pod's own name for them, None for one that is not there; all device classes."""

    specs: Mapping[str, ResourceClaimSpec | None] = {}
    classes: Mapping[str, DeviceClass] = {}


class _Candidate(NamedTuple):
    gpu: Gpu
    device: Device


class _No(Exception):
    """Raised within this question only."""


def claimed(pod: Pod, claims: Claims, gpus: Iterable[Gpu]) -> tuple[DeviceRequest, ...] | str:
    """One request per request of each claim, in order, or the sentence why it can never be had here."""
    if not pod.spec.resource_claims:
        return ()
    devices = [_Candidate(gpu, device) for gpu in gpus for device in devices_of(gpu)]
    usable = [one for one in devices if not (one.gpu.is_mig and text(one.device, "type") == "gpu")]
    found = []
    try:
        for entry in pod.spec.resource_claims:
            name = str(entry.get("name", ""))
            spec = claims.specs.get(name)
            if spec is None:
                raise _No(f"resourceClaims[{name}]: the claim or template that it names does not exist")
            if spec.devices.constraints:
                raise _No(
                    f"resourceClaims[{name}]: constraints between requests are not supported on this host; leave them out"
                )
            found += [_request(pod, name, one, claims, usable) for one in spec.devices.requests]
    except _No as no:
        return str(no)
    return tuple(found)


def _request(
    pod: Pod, claim: str, request: ClaimRequest, claims: Claims, devices: list[_Candidate]
) -> DeviceRequest:
    """Of alternatives the first that some device here meets."""
    container = _container(pod, claim, request.name)
    wishes = (request.exactly,) if request.exactly is not None else request.first_available
    reasons = []
    for wish in wishes:
        where = f"resourceClaims[{claim}].requests[{request.name}{f'/{wish.name}' if wish.name else ''}]"
        answer = _answer(where, container, wish, claims, devices)
        if isinstance(answer, DeviceRequest):
            return answer
        reasons.append(answer)
    raise _No("; ".join(reasons))


def _answer(
    where: str, container: str, wish: DeviceWish, claims: Claims, devices: list[_Candidate]
) -> DeviceRequest | str:
    if wish.allocation_mode == "All" or wish.admin_access:
        what = "allocationMode All" if wish.allocation_mode == "All" else "adminAccess"
        return f"{where}: {what} is not supported on this host; ask for a count"
    kind = claims.classes.get(wish.device_class_name) or OWN_CLASSES.get(wish.device_class_name)
    if kind is None:
        known = ", ".join(sorted({*claims.classes, *OWN_CLASSES}))
        return f"{where}: there is no DeviceClass {wish.device_class_name}; there are {known}"
    meeting, why_not = _meeting((*kind.spec.selectors, *wish.selectors), devices)
    if devices and not meeting:
        return f"{where}: none of {len(devices)} devices will do: {why_not}"
    memory_bytes = _memory(wish)
    whole = [one for one in meeting if text(one.device, "type") == "gpu"]
    if not meeting or whole:
        largest = max((one.gpu.type.memory_bytes for one in whole), default=memory_bytes)
        if memory_bytes > largest:
            return f"{where}: found {memory_bytes} bytes of memory, the largest that will do has {largest}"
        return DeviceRequest(
            container=container,
            count=wish.count or 1,
            milli=0 if memory_bytes else WHOLE_MILLI,
            memory_bytes=memory_bytes,
            gpus=_uuids(whole, devices),
        )
    return _instance(container, wish, meeting, devices, memory_bytes)


def _instance(
    container: str, wish: DeviceWish, meeting: list[_Candidate], devices: list[_Candidate], memory_bytes: int
) -> DeviceRequest:
    """Of the profiles that will do, the smallest."""
    sizes = {
        text(one.device, "profile"): to_bytes(one.device.capacity["memory"].value)
        for one in meeting
        if to_bytes(one.device.capacity["memory"].value) >= memory_bytes
    }
    profile = min(
        sizes or {text(one.device, "profile"): 0 for one in meeting},
        key=lambda name: (sizes.get(name, 0), name),
    )
    same = [one for one in meeting if text(one.device, "profile") == profile]
    return DeviceRequest(
        container=container, count=wish.count or 1, milli=0, profile=profile, gpus=_uuids(same, devices)
    )


def _uuids(chosen: list[_Candidate], devices: list[_Candidate]) -> frozenset[str]:
    """The devices' GPUs, none named where all will do."""
    named = frozenset(one.gpu.uuid for one in chosen)
    return frozenset() if named == frozenset(one.gpu.uuid for one in devices) else named


def _memory(wish: DeviceWish) -> int:
    given = wish.capacity.requests if wish.capacity else {}
    quantity = given.get("memory", given.get(f"{DRIVER}/memory"))
    return to_bytes(quantity) if quantity is not None else 0


def _container(pod: Pod, claim: str, request: str) -> str:
    """The one container that uses it; "" where several do, which then all see it."""
    users = [
        container.name
        for container in (*pod.spec.containers, *pod.spec.init_containers)
        for one in (container.resources.claims if container.resources else ())
        if one.get("name") == claim and one.get("request", request) == request
    ]
    return users[0] if len(users) == 1 else ""


def _meeting(
    selectors: tuple[DeviceSelector, ...], devices: list[_Candidate]
) -> tuple[list[_Candidate], str]:
    """Those that meet all conditions; where there are none, the condition that the last of the others failed."""
    left = devices
    for selector in selectors:
        if selector.cel is None or not left:
            continue
        expression = selector.cel.expression
        reasons: Counter[str] = Counter()
        passing = []
        for one in left:
            try:
                holds, reason = parse_condition(expression)({"device": facts(one.device)}), expression
            except CelError as error:
                holds, reason = False, f"{expression} (character {error.at + 1}: {error.message})"
            if holds:
                passing.append(one)
            else:
                reasons[reason] += 1
        left = passing
        if not left:
            return [], reasons.most_common(1)[0][0]
    return left, ""


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
