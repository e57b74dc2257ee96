"""Does a pod's spec keep Kubernetes' rules?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from penstock.kit.quantity import parse_quantity
from penstock.resources.checkpoint import validate_contract
from penstock.resources.meta import ObjectMeta, Quantity
from penstock.resources.pod import Container, Pod, PodSpec, PodTemplateSpec, Probe
from penstock.resources.validation import (
    Causes,
    annotation_keys,
    at_least,
    duplicate,
    forbidden,
    label_name,
    label_pairs,
    missing,
    one_of,
    required,
    wrong,
)

RESTART_POLICIES = ("Always", "OnFailure", "Never")


def validate_pod(pod: Pod, old: Pod | None) -> Causes:
    """Causes in a pod, and in what it changes of an old one."""
    yield from validate_pod_spec("spec", pod.spec)
    yield from validate_contract("metadata", pod.metadata, pod.spec)
    if old is not None and _fixed(old.spec, pod.spec) != _fixed(pod.spec, pod.spec):
        yield forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to"
            " existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was"
            " previously negative)",
        )


def _fixed(spec: PodSpec, new: PodSpec) -> PodSpec:
    """The spec with what may change taken from `new`; node and priority may be set once."""
    images = {container.name: container.image for container in (*new.containers, *new.init_containers)}

    def same_image(containers: tuple[Container, ...]) -> tuple[Container, ...]:
        return tuple(replace(item, image=images.get(item.name, item.image)) for item in containers)

    return replace(
        spec,
        containers=same_image(spec.containers),
        init_containers=same_image(spec.init_containers),
        active_deadline_seconds=new.active_deadline_seconds,
        termination_grace_period_seconds=new.termination_grace_period_seconds,
        tolerations=new.tolerations,
        node_name=spec.node_name or new.node_name,
        priority=new.priority if spec.priority is None else spec.priority,
        scheduling_gates=new.scheduling_gates,
        affinity=new.affinity if _narrows(spec, new) else spec.affinity,
    )


def _narrows(old: PodSpec, new: PodSpec) -> bool:
    """A pod that waits at a gate may be kept to fewer nodes: terms may get more requirements, none may go (KEP-3838)."""
    before, after = old.affinity or {}, new.affinity or {}
    others = [{k: v for k, v in part.items() if k != "nodeAffinity"} for part in (before, after)]
    terms, narrowed = _node_terms(before), _node_terms(after)
    return bool(
        old.scheduling_gates
        and others[0] == others[1]
        and (not terms or len(terms) == len(narrowed))
        and all(
            one.get(part, []) == other.get(part, [])[: len(one.get(part, []))]
            for one, other in zip(terms, narrowed, strict=False)
            for part in ("matchExpressions", "matchFields")
        )
    )


def _node_terms(affinity: Mapping[str, Any]) -> list[Any]:
    required = (affinity.get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    return list(required.get("nodeSelectorTerms") or ())


def validate_template(field: str, template: PodTemplateSpec) -> Causes:
    """Causes in a workload's pod template."""
    meta: ObjectMeta = template.metadata
    yield from label_pairs(f"{field}.metadata.labels", meta.labels)
    yield from annotation_keys(f"{field}.metadata.annotations", meta.annotations)
    yield from validate_contract(f"{field}.metadata", meta, template.spec)
    yield from validate_pod_spec(f"{field}.spec", template.spec)


def validate_pod_spec(field: str, spec: PodSpec) -> Causes:
    """Causes in a pod's spec."""
    volumes: set[str] = set()
    for i, volume in enumerate(spec.volumes):
        where = f"{field}.volumes[{i}].name"
        yield from label_name(where, volume.name)
        if volume.name in volumes:
            yield duplicate(where, volume.name)
        volumes.add(volume.name)
    if not spec.containers:
        yield required(f"{field}.containers")
    names: set[str] = set()
    for part, containers in (("containers", spec.containers), ("initContainers", spec.init_containers)):
        for i, container in enumerate(containers):
            where = f"{field}.{part}[{i}]"
            yield from label_name(f"{where}.name", container.name)
            if container.name in names:
                yield duplicate(f"{where}.name", container.name)
            names.add(container.name)
            yield from validate_container(where, container, volumes)
    yield from one_of(f"{field}.restartPolicy", spec.restart_policy, RESTART_POLICIES)
    yield from label_pairs(f"{field}.nodeSelector", spec.node_selector)
    yield from at_least(f"{field}.activeDeadlineSeconds", spec.active_deadline_seconds, 1)
    yield from at_least(f"{field}.terminationGracePeriodSeconds", spec.termination_grace_period_seconds)


def validate_container(field: str, container: Container, volumes: set[str]) -> Causes:
    """Causes in one container, of a pod with volumes of these names."""
    yield from _validate_ports(f"{field}.ports", container)
    yield from _validate_environment(f"{field}.env", container)
    yield from _validate_mounts(f"{field}.volumeMounts", container, volumes)
    yield from _validate_resources(f"{field}.resources", container)
    for name, probe in (
        ("startupProbe", container.startup_probe),
        ("readinessProbe", container.readiness_probe),
        ("livenessProbe", container.liveness_probe),
    ):
        if probe is not None:
            yield from _validate_probe(f"{field}.{name}", probe)


def _validate_ports(field: str, container: Container) -> Causes:
    names: set[str] = set()
    for i, port in enumerate(container.ports):
        where = f"{field}[{i}]"
        if not 1 <= port.container_port <= 65535:
            yield wrong(
                f"{where}.containerPort", port.container_port, "must be between 1 and 65535, inclusive"
            )
        yield from one_of(f"{where}.protocol", port.protocol, ("TCP", "UDP", "SCTP"))
        if port.name and port.name in names:
            yield duplicate(f"{where}.name", port.name)
        names.add(port.name)


def _validate_environment(field: str, container: Container) -> Causes:
    for i, variable in enumerate(container.env):
        where = f"{field}[{i}]"
        if not variable.name:
            yield required(f"{where}.name")
        elif "=" in variable.name:
            yield wrong(
                f"{where}.name", variable.name, "a valid environment variable name must not contain '='"
            )
        if variable.value and variable.value_from is not None:
            yield wrong(f"{where}.valueFrom", "", "may not be specified when `value` is not empty")


def _validate_mounts(field: str, container: Container, volumes: set[str]) -> Causes:
    paths: set[str] = set()
    for i, mount in enumerate(container.volume_mounts):
        where = f"{field}[{i}]"
        if mount.name not in volumes:
            yield missing(f"{where}.name", mount.name)
        if not mount.mount_path:
            yield required(f"{where}.mountPath")
        elif mount.mount_path in paths:
            yield wrong(f"{where}.mountPath", mount.mount_path, "must be unique")
        paths.add(mount.mount_path)
        if ".." in mount.sub_path.split("/"):
            yield wrong(f"{where}.subPath", mount.sub_path, "must not contain '..'")


def _validate_resources(field: str, container: Container) -> Causes:
    if container.resources is None:
        return
    requests, limits = container.resources.requests, container.resources.limits
    for part, values in (("limits", limits), ("requests", requests)):
        for name, quantity in values.items():
            if parse_quantity(quantity) < 0:
                yield wrong(f"{field}.{part}[{name}]", quantity, "must be greater than or equal to 0")
    yield from _validate_extended(field, requests, limits)
    for name, quantity in requests.items():
        if is_extended(name):
            continue
        if name in limits and parse_quantity(quantity) > parse_quantity(limits[name]):
            yield wrong(
                f"{field}.requests", quantity, f"must be less than or equal to {name} limit of {limits[name]}"
            )


def is_extended(name: str) -> bool:
    """Whether the resource is one that a device plugin offers, as nvidia.com/gpu: with a domain that is not Kubernetes' own."""
    domain, slash, _ = name.partition("/")
    return bool(slash) and not f".{domain}".endswith(".kubernetes.io") and not name.startswith("requests.")


def _validate_extended(
    field: str, requests: Mapping[str, Quantity], limits: Mapping[str, Quantity]
) -> Causes:
    """Extended resources are whole numbers, and never overcommitted."""
    for part, values in (("limits", limits), ("requests", requests)):
        for name, quantity in values.items():
            if is_extended(name) and parse_quantity(quantity) != int(parse_quantity(quantity)):
                yield wrong(f"{field}.{part}[{name}]", quantity, "must be an integer")
    for name, quantity in requests.items():
        if not is_extended(name):
            continue
        if name not in limits:
            yield required(f"{field}.limits[{name}]", "Limit must be set for non overcommitable resources")
        elif parse_quantity(quantity) != parse_quantity(limits[name]):
            yield wrong(f"{field}.requests", quantity, f"must be equal to {name} limit of {limits[name]}")


def _validate_probe(field: str, probe: Probe) -> Causes:
    handlers = [probe.http_get, probe.tcp_socket, probe.exec, probe.grpc]
    given = sum(handler is not None for handler in handlers)
    if given == 0:
        yield required(field, "must specify a handler type")
    elif given > 1:
        yield forbidden(field, "may not specify more than 1 handler type")
    for name, value, least in (
        ("initialDelaySeconds", probe.initial_delay_seconds, 0),
        ("timeoutSeconds", probe.timeout_seconds, 1),
        ("periodSeconds", probe.period_seconds, 1),
        ("successThreshold", probe.success_threshold, 1),
        ("failureThreshold", probe.failure_threshold, 1),
    ):
        # Kubernetes reads 0 as "not given" here and sets its default.
        yield from at_least(f"{field}.{name}", value or None, least)
