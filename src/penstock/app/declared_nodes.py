"""Nodes that are declared in the settings, to try out a cluster's shape: which GPUs they have."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import msgspec

from penstock.app.gpu_types import find_gpu_type
from penstock.app.node_settings import DeclaredNode
from penstock.contracts.devices import UNSHARED, Gpu, GpuType, MigInstance, Sharing
from penstock.decide.device_plugin import plugin_config
from penstock.decide.mig_layout import lay_out
from penstock.host.nodes import NodeTemplate
from penstock.kit.errors import InvalidInput, nearest
from penstock.resources.core import Taint

_NAMESPACE = uuid.UUID("6a1f7b0e-6d5e-4c57-9a39-4f0c3c9a1d55")
MAX_GPUS = 64
"""Of one declared node."""


def node_template(node: DeclaredNode) -> NodeTemplate:
    """The node as the host knows nodes. Raises InvalidInput with the field that is wrong."""
    return NodeTemplate(
        name=node.name,
        capacity={"cpu": node.cpu, "memory": node.memory},
        gpus=declared_gpus(node),
        labels=node.labels,
        taints=msgspec.convert(node.taints, tuple[Taint, ...]),
    )


def declared_gpus(node: DeclaredNode, where: str = "") -> tuple[Gpu, ...]:
    """The node's GPUs, whose UUIDs are always the same. Raises InvalidInput with the field that is wrong; `where` is the node's own path."""
    where = where or f"nodes[{node.name}]"
    sharing = _sharing(where, node)
    found: list[Gpu] = []
    for i, some in enumerate(node.gpus):
        field = f"{where}.gpus[{i}]"
        kind = find_gpu_type(some.type, field=f"{field}.type")
        if some.count < 1 or len(found) + some.count > MAX_GPUS:
            raise InvalidInput(f"{field}.count: found {some.count}, expected 1 to {MAX_GPUS} on a node")
        for index in range(len(found), len(found) + some.count):
            name = f"{node.name}/{index}"
            found.append(
                Gpu(
                    index=index,
                    uuid=f"GPU-{uuid.uuid5(_NAMESPACE, name)}",
                    type=kind,
                    bus=f"0000:{index + 1:02x}:00.0",
                    is_mig=some.mig is not None,
                    mig_strategy=node.mig_strategy,
                    instances=tuple(_instances(f"{field}.mig", name, kind, some.mig)),
                    sharing=UNSHARED if some.mig is not None else sharing,
                )
            )
    return tuple(found)


def _sharing(where: str, node: DeclaredNode) -> Sharing:
    if node.mig_strategy not in ("single", "mixed"):
        raise InvalidInput(f"{where}.migStrategy: found {node.mig_strategy!r}, expected single or mixed")
    if not node.sharing:
        return UNSHARED
    config = plugin_config({"version": "v1", "sharing": node.sharing})
    if config.mistakes:
        raise InvalidInput(f"{where}.{config.mistakes[0]}")
    return config.sharing


def _instances(field: str, name: str, kind: GpuType, mig: dict[str, int] | None) -> Iterator[MigInstance]:
    if mig is None:
        return
    if not kind.profiles:
        raise InvalidInput(f"{field}: {kind.name} cannot be partitioned", hint="leave it out")
    known = [one.name for one in kind.profiles]
    for profile in mig:
        if profile not in known:
            close = nearest(profile, known, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise InvalidInput(
                f"{field}: {kind.name} has no MIG profile {profile!r}",
                hint=f"{hint}it has {', '.join(known)}",
            )
    places = lay_out(kind, mig)
    if places is None:
        wanted = ", ".join(f"{count} {profile}" for profile, count in mig.items())
        raise InvalidInput(f"{field}: {wanted} do not fit together on {kind.name}")
    for profile, start in places:
        made = uuid.uuid5(_NAMESPACE, f"{name}/{profile}/{start}")
        yield MigInstance(uuid=f"MIG-{made}", profile=profile, start=start)
