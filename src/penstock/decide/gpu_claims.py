"""Which claim asks a cluster's devices for what this pod asks of GPUs?

In the words of NVIDIA's driver for dynamic resource allocation (gpu.nvidia.com): one claim for each pod, one request for each kind of device that a
container asks for. A part by memory asks for so much of a device's capacity; where the driver does not part its devices, that is a whole one which
has as much.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from penstock.contracts.devices import DeviceRequest, GpuType
from penstock.decide.device_slices import DRIVER
from penstock.decide.gpu_affinity import product_names
from penstock.kit.hashing import short_hash
from penstock.resources.devices import (
    CapacityRequests,
    CelSelector,
    ClaimConstraint,
    ClaimRequest,
    ClaimTemplateSpec,
    DeviceClaim,
    DeviceSelector,
    DeviceWish,
    ResourceClaimSpec,
    ResourceClaimTemplate,
)
from penstock.resources.meta import Json, ObjectMeta

CLAIM = "penstock-gpus"
"""The pod's own name for its claim."""
MIG_CLASS = "mig.nvidia.com"


def claim_template(
    name: str, namespace: str, asked: Sequence[DeviceRequest], types: Sequence[GpuType], memory: str
) -> ResourceClaimTemplate:
    """The mould of the pods' claims. `name` is the workload's; a change of what is asked for is another template, since none can be changed.

    `asked` are whole GPUs, MIG instances and parts by memory; `memory` is how much the last are, as a quantity.
    """
    requests = tuple(
        ClaimRequest(name=request_name(i), exactly=_wish(one, types, memory)) for i, one in enumerate(asked)
    )
    parts = tuple(
        request.name
        for request, one in zip(requests, asked, strict=True)
        if one.memory_bytes and one.count > 1
    )
    apart = tuple(ClaimConstraint(requests=(name,), distinct_attribute=f"{DRIVER}/uuid") for name in parts)
    spec = ResourceClaimSpec(devices=DeviceClaim(requests=requests, constraints=apart))
    return ResourceClaimTemplate(
        metadata=ObjectMeta(name=f"{name}-gpus-{short_hash(spec)}", namespace=namespace),
        spec=ClaimTemplateSpec(spec=spec),
    )


def uses(asked: Sequence[DeviceRequest], container: str, *, is_done_first: bool) -> tuple[Json, ...]:
    """What stands under `resources.claims` of a container that asks for devices. One that is done before others start uses all of the pod's."""
    if is_done_first:
        return ({"name": CLAIM},)
    return tuple(
        {"name": CLAIM, "request": request_name(i)}
        for i, one in enumerate(asked)
        if one.container == container
    )


def request_name(index: int) -> str:
    """Requests are numbered as the pod's containers ask."""
    return f"gpu-{index}"


def _wish(one: DeviceRequest, types: Sequence[GpuType], memory: str) -> DeviceWish:
    conditions = list(_conditions(one, types, memory))
    return DeviceWish(
        device_class_name=MIG_CLASS if one.profile else DRIVER,
        selectors=tuple(DeviceSelector(cel=CelSelector(expression=text)) for text in conditions),
        allocation_mode="ExactCount",
        count=one.count,
        capacity=CapacityRequests(requests={"memory": memory}) if one.memory_bytes else None,
    )


def _conditions(one: DeviceRequest, types: Sequence[GpuType], memory: str) -> Iterable[str]:
    attributes = f"device.attributes['{DRIVER}']"
    if one.types:
        yield f"{attributes}.productName.matches('{_pattern(product_names(one.types, types))}')"
    if one.profile:
        yield f"{attributes}.profile == '{one.profile}'"
    if one.memory_bytes:
        yield f"device.capacity['{DRIVER}'].memory.compareTo(quantity('{memory}')) >= 0"


def _pattern(products: Iterable[str]) -> str:
    """The driver parts a product's words by spaces and dashes, labels by dashes only."""
    names = "|".join("[ -]".join(re.split(r"[\s-]+", name)) for name in products)
    return f"^({names})$"
