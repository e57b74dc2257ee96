"""How does a cluster hear what this pod asks of GPUs?

By limits, labels and tolerations where NVIDIA's device plugin offers them; by a claim where its driver for dynamic resource allocation does. A
cluster has one of the two. Which node a pod gets is the cluster's own affair, so none is ever named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from penstock.contracts.devices import (
    DEVICES_ANNOTATION,
    GPU_RESOURCE,
    MEMORY_ANNOTATION,
    DeviceRequest,
    GpuType,
    Sharing,
)
from penstock.decide.device_requests import Fleet, asked
from penstock.decide.device_resources import is_device
from penstock.decide.gpu_affinity import with_provider_labels, without_provider_labels
from penstock.decide.gpu_claims import CLAIM, claim_template, uses
from penstock.decide.node_configs import CONFIG_LABEL, config_name
from penstock.decide.tolerations import tolerated
from penstock.decide.work_priority import work_priority
from penstock.resources.core import PriorityClass, Taint
from penstock.resources.devices import ResourceClaimTemplate
from penstock.resources.meta import Quantity
from penstock.resources.pod import (
    Container,
    EnvVar,
    Pod,
    PodSpec,
    PodTemplateSpec,
    ResourceRequirements,
    Toleration,
)

Style = Literal["device-plugin", "dra"]
TAINT = Taint(key=GPU_RESOURCE, value="present", effect="NoSchedule")
"""Customary on nodes that are kept for pods with GPUs; tolerated whatever its value."""
VISIBLE, NOTHING = "NVIDIA_VISIBLE_DEVICES", "void"
MEMORY_VARIABLE = "PENSTOCK_GPU_MEMORY_BYTES"
MOST_MPS_REPLICAS = 48
"""Clients of one device that MPS takes (Volta and later)."""
GIB = 1 << 30


class ClusterPod(Struct, frozen=True, kw_only=True):
    """The pods' mould for a cluster, and what it needs beside it: a claim's mould, a PriorityClass, a way to share GPUs; or why it cannot be said."""

    template: PodTemplateSpec
    claim: ResourceClaimTemplate | None = None
    priority: PriorityClass | None = None
    sharing: Sharing | None = None
    failure: str = ""


class _No(Exception):
    """Raised within this question only."""


def for_cluster(
    template: PodTemplateSpec,
    style: Style,
    types: Sequence[GpuType],
    *,
    name: str,
    namespace: str = "",
    ends: bool = False,
) -> ClusterPod:
    """`types` are all that names can mean. `name` is the workload's; `ends` says that it is work which ends, as a Job's.

    Claims that the pod has of its own stay as they are.
    """
    pod = Pod(metadata=template.metadata, spec=replace(template.spec, resource_claims=()))
    found = asked(pod, Fleet(types=tuple(types)))
    if isinstance(found, str):
        return ClusterPod(template=template, failure=found)
    try:
        able = _able(found, types)
        if style == "dra" and found:
            made = _by_claim(template, found, types, name, namespace)
        else:
            made = _by_limits(template, found, types, able)
    except _No as no:
        return ClusterPod(template=template, failure=str(no))
    spec = _hiding(replace(made.template.spec, node_name=""))
    priority = None
    if found:
        spec, priority = work_priority(_tolerating(spec), ends=ends)
    metadata = replace(
        template.metadata,
        annotations={
            key: value
            for key, value in template.metadata.annotations.items()
            if key not in (DEVICES_ANNOTATION, MEMORY_ANNOTATION)
        },
    )
    return replace(made, template=PodTemplateSpec(metadata=metadata, spec=spec), priority=priority)


def _able(found: Sequence[DeviceRequest], types: Sequence[GpuType]) -> frozenset[str] | None:
    """The types that have what is asked for, None where nothing is asked for. Raises _No where no type has."""
    able = None
    for one in found:
        will_do = [kind for kind in types if not one.types or kind.name in one.types]
        having = frozenset(kind.name for kind in will_do if _has(kind, one))
        if not having:
            raise _No(_lacking(one, will_do))
        able = having if able is None else able & having
    if able is not None and not able:
        raise _No(
            f"no GPU has all of {', '.join(one.resource for one in found)}: a node's GPUs are of one type"
        )
    return able


def _has(kind: GpuType, one: DeviceRequest) -> bool:
    if one.profile:
        return any(profile.name == one.profile for profile in kind.profiles)
    return kind.memory_bytes >= one.memory_bytes


def _lacking(one: DeviceRequest, will_do: Sequence[GpuType]) -> str:
    if one.profile:
        has = "; ".join(
            f"{kind.name} has {', '.join(profile.name for profile in kind.profiles) or 'none'}"
            for kind in will_do
            if one.types or kind.profiles
        )
        return f"{one.resource}: no GPU that will do has the MIG profile {one.profile}: {has}"
    largest = max(will_do, key=lambda kind: kind.memory_bytes)
    return (
        f"{MEMORY_ANNOTATION}: found {one.memory_bytes / GIB:.1f}Gi, the largest GPU that will do ({largest.name}) has "
        f"{largest.memory_bytes / GIB:.1f}Gi: ask for less, or for several GPUs with {GPU_RESOURCE}"
    )


def _by_limits(
    template: PodTemplateSpec,
    found: Sequence[DeviceRequest],
    types: Sequence[GpuType],
    able: frozenset[str] | None,
) -> ClusterPod:
    sharing = _sharing(found, [kind for kind in types if able is not None and kind.name in able])
    spec = with_provider_labels(template.spec, types, able)
    memory = {one.container: one.memory_bytes for one in found if one.memory_bytes}
    resource = sharing.resource if sharing else GPU_RESOURCE

    def limited(container: Container, _: bool) -> Container:
        devices = _devices(container)
        if container.name in memory or (memory and devices):
            devices = {resource: devices.get(GPU_RESOURCE, 1)}
        return _with_memory(_with_devices(container, devices), memory.get(container.name, 0))

    spec = _each(spec, limited)
    if sharing:
        config = {CONFIG_LABEL: config_name(sharing)}
        spec = replace(spec, node_selector={**spec.node_selector, **config})
    return ClusterPod(template=replace(template, spec=spec), sharing=sharing)


def _sharing(found: Sequence[DeviceRequest], able: Sequence[GpuType]) -> Sharing | None:
    """The device plugin knows no parts by memory, only equal ones: as many to a GPU as leave each with enough. None where that is one."""
    parts = [one for one in found if one.memory_bytes]
    if not parts:
        return None
    part = parts[0]
    size = f"{part.memory_bytes / GIB:.1f}Gi"
    if not part.types:
        raise _No(
            f"{MEMORY_ANNOTATION}: found {size} without a type of GPU: the device plugin only makes equal parts, and how many depends "
            "on the GPU; name one in the nodeSelector, as nvidia.com/gpu.product, or use a cluster with dynamic resource allocation (dra)"
        )
    replicas = min(MOST_MPS_REPLICAS, *(kind.memory_bytes // part.memory_bytes for kind in able))
    if replicas < 2:
        return None
    many = next((one for one in parts if one.count > 1), None)
    if many is not None:
        raise _No(
            f"containers[{many.container}]: found {many.count} of {GPU_RESOURCE} with {MEMORY_ANNOTATION}: the device plugin gives a container "
            "one part of one GPU; ask for one, for whole GPUs, or use a cluster with dynamic resource allocation (dra)"
        )
    return Sharing(strategy="mps", replicas=replicas, resource=f"{GPU_RESOURCE}.shared", refuses_many=True)


def _by_claim(
    template: PodTemplateSpec,
    found: Sequence[DeviceRequest],
    types: Sequence[GpuType],
    name: str,
    namespace: str,
) -> ClusterPod:
    shared = next((one for one in found if one.is_shared), None)
    if shared is not None:
        raise _No(
            f"{shared.resource}: a claim cannot say a replica of a shared GPU, whose size is its node's; say how much memory is needed with the "
            f"annotation {MEMORY_ANNOTATION}"
        )
    memory = {one.container: one.memory_bytes for one in found if one.memory_bytes}
    claim = claim_template(
        name, namespace, found, types, template.metadata.annotations.get(MEMORY_ANNOTATION, "")
    )

    def claiming(container: Container, is_done_first: bool) -> Container:
        asks = _devices(container) or container.name in memory
        plain = _with_memory(_with_devices(container, {}), memory.get(container.name, 0))
        if not asks:
            return plain
        resources = plain.resources or ResourceRequirements()
        claims = (*resources.claims, *uses(found, container.name, is_done_first=is_done_first))
        return replace(plain, resources=replace(resources, claims=claims))

    spec = without_provider_labels(_each(template.spec, claiming), types)
    entry = {"name": CLAIM, "resourceClaimTemplateName": claim.metadata.name}
    spec = replace(spec, resource_claims=(*spec.resource_claims, entry))
    return ClusterPod(template=replace(template, spec=spec), claim=claim)


def _each(spec: PodSpec, change: Callable[[Container, bool], Container]) -> PodSpec:
    """Every container changed; the second argument says whether it is done before others start."""
    return replace(
        spec,
        containers=tuple(change(one, False) for one in spec.containers),
        init_containers=tuple(change(one, one.restart_policy != "Always") for one in spec.init_containers),
    )


def _devices(container: Container) -> dict[str, Quantity]:
    """What the container asks of GPUs by name; a zero is nothing."""
    given = container.resources
    both = {**given.requests, **given.limits} if given else {}
    return {key: value for key, value in both.items() if is_device(key) and str(value) != "0"}


def _with_devices(container: Container, devices: Mapping[str, Quantity]) -> Container:
    """These in the place of all devices: as limits only, which Kubernetes takes as requests too."""
    given = container.resources
    if given is None and not devices:
        return container
    given = given or ResourceRequirements()
    limits = {key: value for key, value in given.limits.items() if not is_device(key)}
    requests = {key: value for key, value in given.requests.items() if not is_device(key)}
    counts = {key: str(value) for key, value in devices.items()}
    return replace(container, resources=replace(given, limits={**limits, **counts}, requests=requests))


def _with_memory(container: Container, memory_bytes: int) -> Container:
    """An engine is told how much of the device is its own, since only its own settings hold it to that."""
    return _with_variable(container, MEMORY_VARIABLE, str(memory_bytes)) if memory_bytes else container


def _with_variable(container: Container, name: str, value: str) -> Container:
    if any(one.name == name for one in container.env):
        return container
    return replace(container, env=(*container.env, EnvVar(name=name, value=value)))


def _hiding(spec: PodSpec) -> PodSpec:
    """Containers without devices see none, also where their image says `all` and they come to a node with GPUs."""

    def hidden(container: Container, _: bool) -> Container:
        has_claims = container.resources is not None and container.resources.claims
        holds = _devices(container) or has_claims
        return container if holds else _with_variable(container, VISIBLE, NOTHING)

    return _each(spec, hidden)


def _tolerating(spec: PodSpec) -> PodSpec:
    if tolerated(TAINT, spec.tolerations):
        return spec
    taint = Toleration(key=TAINT.key, operator="Exists", effect=TAINT.effect)
    return replace(spec, tolerations=(*spec.tolerations, taint))
