"""Under which resource names does a node offer its GPUs, and how many of each?

Names are those of NVIDIA's device plugin: nvidia.com/gpu, nvidia.com/mig-1g.10gb (`+` of a profile's name is a `.`), nvidia.com/gpu.shared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from penstock.contracts.devices import GPU_RESOURCE, MIG_PREFIX, Gpu


def device_counts(gpus: Iterable[Gpu]) -> dict[str, int]:
    """How many devices of each name these GPUs are, whoever holds them.

    A GPU that is partitioned as pods need it counts for each profile as often as it can have that one. One that must not be used counts
    for nothing.
    """
    found: Counter[str] = Counter()
    for gpu in gpus:
        if any(taint.effect in ("NoSchedule", "NoExecute") for taint in gpu.taints):
            continue
        if not gpu.is_mig:
            found[gpu.sharing.resource] += gpu.sharing.replicas
        elif gpu.instances:
            found.update(mig_resource(one.profile, gpu.mig_strategy) for one in gpu.instances)
        else:
            found.update({mig_resource(one.name, gpu.mig_strategy): one.most for one in gpu.type.profiles})
    return dict(found)


def mig_resource(profile: str, strategy: str = "mixed") -> str:
    """The resource's name of an instance: `1g.5gb+me` is nvidia.com/mig-1g.5gb.me."""
    return GPU_RESOURCE if strategy == "single" else MIG_PREFIX + profile.replace("+", ".")


def profile_of(resource: str) -> str:
    """The profile that a resource's name means, "" for other names: nvidia.com/mig-1g.5gb.me is `1g.5gb+me`."""
    if not resource.startswith(MIG_PREFIX):
        return ""
    plain, dot, media = resource.removeprefix(MIG_PREFIX).rpartition(".")
    return f"{plain}+{media}" if dot and not media.endswith("gb") else resource.removeprefix(MIG_PREFIX)


def is_device(resource: str) -> bool:
    """Whether the name is one of GPUs or parts of them, which are counted per device and not per node."""
    return resource == GPU_RESOURCE or resource.startswith((GPU_RESOURCE + ".", MIG_PREFIX))
