"""Which labels does a node with these GPUs have?

As GPU Feature Discovery (NVIDIA) names them, sizes in MiB. A node whose GPUs differ is labelled by its first one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from penstock.contracts.devices import GPU_RESOURCE, Gpu, MigProfile

PREFIX = "nvidia.com"


def gpu_labels(gpus: Sequence[Gpu]) -> dict[str, str]:
    """The labels; none without GPUs."""
    if not gpus:
        return {}
    first = gpus[0]
    found = {
        f"{PREFIX}/gpu.present": "true",
        f"{PREFIX}/gpu.mode": "compute",
        f"{PREFIX}/mig.capable": _word(any(gpu.type.profiles for gpu in gpus)),
        f"{PREFIX}/mps.capable": _word(any(gpu.sharing.strategy == "mps" for gpu in gpus)),
        f"{PREFIX}/gpu.sharing-strategy": first.sharing.strategy or "none",
    }
    if first.type.architecture:
        found[f"{PREFIX}/gpu.family"] = first.type.architecture
    if first.type.compute_capability:
        major, _, minor = first.type.compute_capability.partition(".")
        found |= {f"{PREFIX}/gpu.compute.major": major, f"{PREFIX}/gpu.compute.minor": minor}
    return found | _driver(first.driver) | _product(gpus)


def _driver(version: str) -> dict[str, str]:
    if not version:
        return {}
    words = dict(zip(("major", "minor", "revision"), version.split("."), strict=False))
    return {
        f"{PREFIX}/cuda.driver-version.{part}": word for part, word in (words | {"full": version}).items()
    }


def _product(gpus: Sequence[Gpu]) -> dict[str, str]:
    parted = [gpu for gpu in gpus if gpu.is_mig]
    strategy = parted[0].mig_strategy if parted else ""
    labels = {f"{PREFIX}/mig.strategy": strategy} if parted else {}
    profiles = Counter(one.profile for gpu in parted for one in gpu.instances)
    if strategy == "single" and len(profiles) == 1:
        profile = _profile(parted[0], next(iter(profiles)))
        product = f"{parted[0].type.product}-MIG-{profile.name.replace('+', '.')}"
        labels |= _sized(f"{PREFIX}/gpu", product, profiles.total(), profile.memory_bytes, 1)
        return labels | _slices(f"{PREFIX}/gpu", profile)
    for name, count in profiles.items():
        profile = _profile(next(gpu for gpu in parted if _has(gpu, name)), name)
        key = f"{PREFIX}/mig-{name.replace('+', '.')}"
        product = f"{parted[0].type.product}-MIG-{name.replace('+', '.')}"
        labels |= _sized(key, product, count, profile.memory_bytes, 1) | _slices(key, profile)
    first = next((gpu for gpu in gpus if not gpu.is_mig), gpus[0])
    shared = first.sharing.strategy and first.sharing.resource == GPU_RESOURCE
    product = first.type.product + ("-SHARED" if shared else "")
    replicas = first.sharing.replicas
    return labels | _sized(f"{PREFIX}/gpu", product, len(gpus), first.type.memory_bytes, replicas)


def _sized(key: str, product: str, count: int, memory_bytes: int, replicas: int) -> dict[str, str]:
    return {
        f"{key}.product": product[:63],
        f"{key}.count": str(count),
        f"{key}.memory": str(memory_bytes >> 20),
        f"{key}.replicas": str(replicas),
    }


def _slices(key: str, profile: MigProfile) -> dict[str, str]:
    slices = str(profile.compute_slices)
    return {f"{key}.slices.gi": slices, f"{key}.slices.ci": slices}


def _profile(gpu: Gpu, name: str) -> MigProfile:
    found = next((one for one in gpu.type.profiles if one.name == name), None)
    return found or MigProfile(
        name=name, profile_id=-1, compute_slices=0, memory_slices=0, starts=(), memory_bytes=0, most=0
    )


def _has(gpu: Gpu, profile: str) -> bool:
    return any(one.profile == profile for one in gpu.instances)


def _word(value: bool) -> str:
    return "true" if value else "false"
