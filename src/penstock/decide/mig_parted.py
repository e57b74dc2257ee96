"""What is NVIDIA's mig-parted to be told, so that each node gets its layout?

The document is mig-parted's own configuration (`version: v1`), as the GPU operator's MIG manager reads it under the key `config.yaml` of a
ConfigMap; a node takes the configuration that its label `nvidia.com/mig.config` names. Such a ConfigMap replaces the one that comes with the
operator, and so the names that are used without asking are here too: `all-disabled` (the operator's default), `all-enabled`, `all-balanced`.

mig-parted counts instances and leaves their starts to the driver. It lays out a GPU as a whole: one that differs is emptied first, and that
fails while a pod holds an instance of it. Such a GPU is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from msgspec import Struct

from penstock.contracts.devices import Gpu, GpuType
from penstock.decide.mig_layout import Layout, lay_out
from penstock.kit.hashing import short_hash

CONFIG_LABEL = "nvidia.com/mig.config"
CONFIG_KEY = "config.yaml"
Counts = tuple[tuple[str, int], ...]
BALANCED = {"1g": 2, "2g": 1, "3g": 1}
"""As mig-parted's builder has it; parts without 3g have the rest."""


class MigParted(Struct, frozen=True):
    """The document, and each node's value of `CONFIG_LABEL`. Nodes that are laid out alike share a configuration.

    `left` names the GPUs (by UUID) that it says nothing about: pods hold a part of them, and mig-parted would have to empty them.
    """

    document: dict[str, Any]
    labels: dict[str, str]
    left: tuple[str, ...] = ()


def mig_parted(
    nodes: Mapping[str, tuple[Gpu, ...]], layouts: Mapping[str, Layout], held: Collection[str] = ()
) -> MigParted:
    """`nodes` are each node's GPUs, `layouts` those of GPUs in MIG mode by UUID; one that is not named has what exists on it now.

    `held` are the GPUs, by UUID, of which pods hold a part.
    """
    configs: dict[str, list[dict[str, Any]]] = {}
    labels: dict[str, str] = {}
    left: list[str] = []
    for node, gpus in sorted(nodes.items()):
        alike: dict[Counts | None, list[int]] = {}
        for gpu in sorted(gpus, key=lambda one: one.index):
            there = tuple((one.profile, one.start) for one in gpu.instances)
            counts = _counted(layouts.get(gpu.uuid, there))
            if gpu.is_mig and gpu.uuid in held and counts != _counted(there):
                left.append(gpu.uuid)
            else:
                alike.setdefault(counts if gpu.is_mig else None, []).append(gpu.index)
        if alike:
            entries = [_entry(counts, devices) for counts, devices in alike.items()]
            labels[node] = f"penstock-{short_hash(entries)}"
            configs[labels[node]] = entries
    types = {gpu.type.name: gpu.type for gpus in nodes.values() for gpu in gpus}
    document = {"version": "v1", "mig-configs": {**_named(types.values()), **configs}}
    return MigParted(document, labels, tuple(left))


def _counted(layout: Layout) -> Counts:
    names = [name for name, _ in layout]
    return tuple((name, names.count(name)) for name in sorted(set(names)))


def _entry(counts: Counts | None, devices: list[int]) -> dict[str, Any]:
    """For GPUs that are to be alike; None stands for those that are not in MIG mode."""
    if counts is None:
        return {"devices": devices, "mig-enabled": False}
    return {"devices": devices, "mig-enabled": True, "mig-devices": dict(counts)}


def _named(types: Iterable[GpuType]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {
        "all-disabled": [{"devices": "all", "mig-enabled": False}],
        "all-enabled": [{"devices": "all", "mig-enabled": True, "mig-devices": {}}],
    }
    balanced = [
        {
            "devices": "all",
            "device-filter": list(kind.pci_ids),
            "mig-enabled": True,
            "mig-devices": counts,
        }
        for kind in sorted(types, key=lambda one: one.name)
        if kind.pci_ids and (counts := balanced_counts(kind))
    ]
    return {**found, "all-balanced": balanced} if balanced else found


def balanced_counts(kind: GpuType) -> dict[str, int]:
    """The layout of a bit of everything; empty for a type that cannot be partitioned."""
    plain: dict[str, str] = {}
    for one in sorted(kind.profiles, key=lambda profile: profile.memory_slices):
        size = one.name.split(".")[0]
        if "+" not in one.name and "-" not in one.name:
            plain.setdefault(size, one.name)
    counts = {plain[size]: count for size, count in BALANCED.items() if size in plain}
    return counts if lay_out(kind, counts) else {}
