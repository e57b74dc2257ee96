"""Which objects give a cluster the same pods, GPUs and model caches as these?

Workloads with their asks for GPUs as a cluster hears them, what those need beside them, and the configurations of declared nodes. All other
objects are Kubernetes' or KServe's own and stay as they are. What others name comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from penstock.contracts.devices import UNSHARED, Gpu, GpuType, Sharing
from penstock.decide.kubernetes_gpus import ClusterPod, Style, for_cluster
from penstock.decide.node_configs import NodeConfigs, mig_configs, plugin_configs
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod, PodTemplateSpec
from penstock.resources.workload import Deployment, Job, ReplicaSet


@dataclass(frozen=True, slots=True)
class ClusterManifest:
    """The objects in the order in which to apply them; by node the labels that choose its configurations; by object why it cannot be said."""

    objects: tuple[Resource, ...] = ()
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


def cluster_manifest(
    given: Sequence[Resource], style: Style, types: Sequence[GpuType], nodes: Mapping[str, Sequence[Gpu]]
) -> ClusterManifest:
    """`types` are all that names of GPUs can mean, `nodes` the GPUs of declared nodes."""
    others, workloads = [], []
    beside: dict[tuple[str, str, str], Resource] = {}
    sharings: list[Sharing] = []
    failures: dict[str, str] = {}
    for one in given:
        template = _template(one)
        if template is None:
            others.append(one)
            continue
        made = for_cluster(
            template,
            style,
            types,
            name=one.metadata.name or one.metadata.generate_name.rstrip("-"),
            namespace=one.metadata.namespace,
            ends=isinstance(one, Job),
        )
        if made.failure:
            failures[f"{one.kind} {one.metadata.namespace}/{one.metadata.name}"] = made.failure
        workloads.append(_with_template(one, made.template))
        beside |= {_key(other): other for other in _beside(made)}
        sharings += [made.sharing] if made.sharing else []
    configs = _configs(style, nodes, sharings)
    there = {_key(one) for one in others}
    needed = [
        one
        for one in (*beside.values(), *(config.map for config in configs if config.map))
        if _key(one) not in there
    ]
    labels = {
        name: {key: value for config in configs for key, value in config.labels.get(name, {}).items()}
        for name in nodes
        if any(name in config.labels for config in configs)
    }
    return ClusterManifest((*others, *needed, *workloads), labels, _warnings(style, nodes), failures)


def _configs(
    style: Style, nodes: Mapping[str, Sequence[Gpu]], sharings: Sequence[Sharing]
) -> tuple[NodeConfigs, ...]:
    layouts = mig_configs(nodes)
    return (plugin_configs(nodes, sharings), layouts) if style == "device-plugin" else (layouts,)


def _warnings(style: Style, nodes: Mapping[str, Sequence[Gpu]]) -> tuple[str, ...]:
    """What is declared of nodes and has no word on such a cluster."""
    found = []
    for name, gpus in nodes.items():
        if style == "device-plugin" and any(gpu.is_mig and not gpu.instances for gpu in gpus):
            found.append(
                f"nodes[{name}]: a GPU is divided as pods need it, which only the driver for dynamic resource allocation does; with the "
                "device plugin it offers nothing until a layout is declared"
            )
        if style == "dra" and any(gpu.sharing != UNSHARED for gpu in gpus):
            found.append(
                f"nodes[{name}].sharing: it is the device plugin's; with claims pods say how much memory they need"
            )
    return tuple(found)


def _template(one: Resource) -> PodTemplateSpec | None:
    """The mould of its pods, None for what has none."""
    if isinstance(one, Pod):
        return PodTemplateSpec(metadata=one.metadata, spec=one.spec)
    return one.spec.template if isinstance(one, Deployment | ReplicaSet | Job) else None


def _with_template(one: Resource, template: PodTemplateSpec) -> Resource:
    """An owner that was never stored has no UID, without which Kubernetes takes no reference to it."""
    if isinstance(one, Pod):
        return replace(one, metadata=template.metadata, spec=template.spec)
    assert isinstance(one, Deployment | ReplicaSet | Job), "only these have templates"
    owners = tuple(owner for owner in one.metadata.owner_references if owner.uid)
    metadata = replace(one.metadata, owner_references=owners)
    return replace(one, metadata=metadata, spec=replace(one.spec, template=template))


def _beside(made: ClusterPod) -> Iterator[Resource]:
    if made.priority is not None:
        yield made.priority
    if made.claim is not None:
        yield made.claim


def _key(one: Resource) -> tuple[str, str, str]:
    return one.kind, one.metadata.namespace, one.metadata.name
