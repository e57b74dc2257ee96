"""Which ResourceSlices say what GPUs a node has, and which GPUs do slices say it has?

Devices, attributes and counters are named as NVIDIA's DRA driver names them (gpu.nvidia.com). A GPU in MIG mode is there with its instances, or
with every placement that it could have; all of them draw on the counters of one GPU. What the driver has no word for (our name of the
type, sharing) are attributes of penstock.dev. Slices without those, written by the driver itself, are read too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from penstock.contracts.devices import UNSHARED, Gpu, GpuType, MigInstance, MigProfile, Sharing
from penstock.decide.gpu_class import product_label, types_named
from penstock.kit.quantity import format_quantity, to_bytes
from penstock.resources.devices import (
    Counter,
    CounterConsumption,
    CounterSet,
    Device,
    DeviceAttribute,
    DeviceCapacity,
    ResourcePool,
    ResourceSlice,
    ResourceSliceSpec,
)
from penstock.resources.meta import ObjectMeta

_T = TypeVar("_T")
DRIVER = "gpu.nvidia.com"
MAX_DEVICES = 64
"""In one slice whose devices draw on counters (Kubernetes)."""
MAX_COUNTER_SETS = 8
_BUS = "resource.kubernetes.io/pciBusID"
_TYPE, _MIG = "penstock.dev/type", "penstock.dev/mig"
_STRATEGY, _REPLICAS, _RESOURCE, _REFUSES = (
    f"penstock.dev/{name}" for name in ("sharing", "replicas", "resource", "refusesMany")
)


def slices_of(node: str, gpus: Sequence[Gpu]) -> tuple[ResourceSlice, ...]:
    """The slices of one node, the first of which are of counters. Their generation is left at 0."""
    parted = [gpu for gpu in gpus if gpu.is_mig and gpu.type.profiles]
    sets = [_counter_set(gpu) for gpu in parted]
    devices = [device for gpu in gpus for device in devices_of(gpu)]
    parts = [
        ResourceSliceSpec(driver=DRIVER, pool=_pool(node), node_name=node, shared_counters=tuple(some))
        for some in _chunks(sets, MAX_COUNTER_SETS)
    ]
    parts += [
        ResourceSliceSpec(driver=DRIVER, pool=_pool(node), node_name=node, devices=tuple(some))
        for some in _chunks(devices, MAX_DEVICES)
    ]
    return tuple(
        ResourceSlice(
            metadata=ObjectMeta(name=slice_name(node, number)),
            spec=replace(spec, pool=_pool(node, len(parts))),
        )
        for number, spec in enumerate(parts)
    )


def slice_name(node: str, number: int) -> str:
    """Slices of a node are numbered from 0 without gaps."""
    return f"{node}-{DRIVER}-{number}"


def devices_of(gpu: Gpu) -> tuple[Device, ...]:
    """The GPU itself, and in MIG mode its parts, each as a claim may be given it."""
    whole = Device(
        name=f"gpu-{gpu.index}",
        attributes=_attributes(gpu),
        capacity=_capacity(gpu.type.memory_bytes, gpu.type.multiprocessors),
        consumes_counters=_consumes(gpu, 0, gpu.type.memory_slices, gpu.type.memory_bytes),
        taints=gpu.taints,
        allow_multiple_allocations=True if gpu.sharing != UNSHARED else None,
    )
    return (whole, *(_part(gpu, profile, start, uuid) for profile, start, uuid in _parts(gpu)))


def gpus_of(slices: Iterable[ResourceSlice], types: Iterable[GpuType]) -> dict[str, tuple[Gpu, ...]]:
    """The GPUs of each node, by index; devices of other drivers and of slices that several nodes share are left out.

    A product that is none of `types` is a type of its own, without MIG.
    """
    known = tuple(types)
    devices: dict[str, list[Device]] = {}
    for one in slices:
        if one.spec.driver == DRIVER and one.spec.node_name:
            devices.setdefault(one.spec.node_name, []).extend(one.spec.devices)
    return {node: _gpus(found, known) for node, found in devices.items()}


def _gpus(devices: list[Device], types: tuple[GpuType, ...]) -> tuple[Gpu, ...]:
    parts: dict[str, list[Device]] = {}
    for device in devices:
        if text(device, "type") == "mig":
            parts.setdefault(text(device, "parentUUID"), []).append(device)
    found = [
        _gpu(device, parts.get(text(device, "uuid"), []), types)
        for device in devices
        if text(device, "type") == "gpu"
    ]
    return tuple(sorted(found, key=lambda gpu: gpu.index))


def _gpu(device: Device, parts: list[Device], types: tuple[GpuType, ...]) -> Gpu:
    instances = tuple(
        MigInstance(uuid=text(part, "uuid"), profile=text(part, "profile"), start=start_of(part.name))
        for part in parts
        if text(part, "uuid")
    )
    replicas = device.attributes.get(_REPLICAS)
    refuses = device.attributes.get(_REFUSES)
    return Gpu(
        index=int(device.name.rpartition("-")[2]) if device.name.rpartition("-")[2].isdecimal() else 0,
        uuid=text(device, "uuid"),
        type=_type(device, parts, types),
        driver=text(device, "driverVersion"),
        bus=text(device, _BUS),
        is_mig=bool(parts) or _MIG in device.attributes,
        mig_strategy=text(device, _MIG) or "mixed",
        instances=instances,
        sharing=Sharing(
            strategy=text(device, _STRATEGY),
            replicas=(replicas.int_ if replicas else None) or 1,
            resource=text(device, _RESOURCE) or UNSHARED.resource,
            refuses_many=bool(refuses and refuses.bool_),
        ),
        taints=device.taints,
    )


def _type(device: Device, parts: list[Device], types: tuple[GpuType, ...]) -> GpuType:
    """As the library has it, with the sizes that the slice says: those were read off the device."""
    name, model = text(device, _TYPE), text(device, "productName")
    memory = device.capacity.get("memory")
    memory_bytes = to_bytes(memory.value) if memory else 0
    found = next((one for one in types if one.name == name), None) or next(
        iter(types_named(model, types)), None
    )
    if found is None:
        label = product_label(model)
        return GpuType(name=name or label.lower(), product=label, model=model, memory_bytes=memory_bytes)
    sizes = {
        text(part, "profile"): to_bytes(part.capacity["memory"].value)
        for part in parts
        if "memory" in part.capacity
    }
    return replace(
        found,
        product=product_label(model) or found.product,
        model=model or found.model,
        memory_bytes=memory_bytes or found.memory_bytes,
        profiles=tuple(replace(p, memory_bytes=sizes.get(p.name, p.memory_bytes)) for p in found.profiles),
    )


def text(device: Device, name: str) -> str:
    """An attribute that is a text or a version, "" where there is none."""
    value = device.attributes.get(name)
    return "" if value is None else value.string or value.version or ""


def start_of(name: str) -> int:
    """Where a MIG device begins, by its name `gpu-<index>-mig-<profile id>-<start>-<size>`; -1 for others."""
    words = name.split("-")
    return int(words[4]) if len(words) == 6 and words[4].isdecimal() else -1


def _parts(gpu: Gpu) -> list[tuple[MigProfile, int, str]]:
    if not gpu.is_mig:
        return []
    by_name = {one.name: one for one in gpu.type.profiles}
    if gpu.instances:
        return [
            (by_name[one.profile], one.start, one.uuid) for one in gpu.instances if one.profile in by_name
        ]
    return [(profile, start, "") for profile in gpu.type.profiles for start in profile.starts]


def _part(gpu: Gpu, profile: MigProfile, start: int, uuid: str) -> Device:
    own = {"type": _text("mig"), "profile": _text(profile.name), "parentUUID": _text(gpu.uuid)}
    shared = {
        name: value
        for name, value in _attributes(gpu).items()
        if name not in ("uuid", "type") and not name.startswith("penstock.dev/")
    }
    return Device(
        name=f"gpu-{gpu.index}-mig-{profile.profile_id}-{start}-{profile.memory_slices}",
        attributes={**shared, **own, **({"uuid": _text(uuid)} if uuid else {})},
        capacity=_capacity(profile.memory_bytes, 0),
        consumes_counters=_consumes(gpu, start, profile.memory_slices, profile.memory_bytes),
        taints=gpu.taints,
    )


def _attributes(gpu: Gpu) -> dict[str, DeviceAttribute]:
    capability = gpu.type.compute_capability
    given = {
        "type": _text("gpu"),
        "uuid": _text(gpu.uuid),
        "productName": _text(gpu.type.model or gpu.type.product),
        "brand": _text((gpu.type.model or gpu.type.product).replace("-", " ").split(" ")[0].title()),
        "architecture": _text(gpu.type.architecture.replace("-", " ").title()),
        "cudaComputeCapability": DeviceAttribute(version=f"{capability}.0") if capability else None,
        "driverVersion": DeviceAttribute(version=_semantic(gpu.driver)) if gpu.driver else None,
        _BUS: _text(gpu.bus),
        _TYPE: _text(gpu.type.name),
        _MIG: _text(gpu.mig_strategy) if gpu.is_mig else None,
    }
    if gpu.sharing != UNSHARED:
        given |= {
            _STRATEGY: _text(gpu.sharing.strategy),
            _REPLICAS: DeviceAttribute(int_=gpu.sharing.replicas),
            _RESOURCE: _text(gpu.sharing.resource),
            _REFUSES: DeviceAttribute(bool_=True) if gpu.sharing.refuses_many else None,
        }
    return {name: value for name, value in given.items() if value is not None and value.string != ""}


def _consumes(gpu: Gpu, start: int, width: int, memory_bytes: int) -> tuple[CounterConsumption, ...]:
    if not gpu.is_mig or not gpu.type.profiles:
        return ()
    counters = {f"memory-slice-{i}": Counter(value="1") for i in range(start, start + width)}
    counters["memory"] = _counter(memory_bytes)
    return (CounterConsumption(counter_set=_set_name(gpu), counters=counters),)


def _counter_set(gpu: Gpu) -> CounterSet:
    counters = {f"memory-slice-{i}": Counter(value="1") for i in range(gpu.type.memory_slices)}
    return CounterSet(name=_set_name(gpu), counters={"memory": _counter(gpu.type.memory_bytes), **counters})


def _set_name(gpu: Gpu) -> str:
    return f"gpu-{gpu.index}-counter-set"


def _counter(size_bytes: int) -> Counter:
    return Counter(value=format_quantity(size_bytes, binary=True))


def _capacity(memory_bytes: int, multiprocessors: int) -> dict[str, DeviceCapacity]:
    found = {"memory": DeviceCapacity(value=format_quantity(memory_bytes, binary=True))}
    if multiprocessors:
        found["multiprocessors"] = DeviceCapacity(value=str(multiprocessors))
    return found


def _text(value: str) -> DeviceAttribute:
    """Kubernetes bounds texts at 64 characters."""
    return DeviceAttribute(string=value[:64])


def _semantic(version: str) -> str:
    """Three numbers without leading zeros: a driver's 535.86.05 is 535.86.5."""
    words = [str(int(word)) if word.isdecimal() else "0" for word in version.split(".")[:3]]
    return ".".join([*words, "0", "0"][:3])


def _pool(node: str, count: int = 1) -> ResourcePool:
    return ResourcePool(name=node, resource_slice_count=count)


def _chunks(items: list[_T], size: int) -> list[list[_T]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
