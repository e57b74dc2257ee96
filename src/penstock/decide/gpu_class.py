"""Which types of GPU does this name mean?

One type has many names: ours, the product as GPU Feature Discovery labels it, and one per provider. A name may also mean several types
(`a100` is sold with 40 and with 80 GB).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from penstock.contracts.devices import GpuType

CLASS_KEYS = (
    "gpu.nvidia.com/class",
    "nvidia.com/gpu.product",
    "accelerator",
    "cloud.google.com/gke-accelerator",
    "k8s.amazonaws.com/accelerator",
    "eks.amazonaws.com/instance-gpu-name",
    "karpenter.k8s.aws/instance-gpu-name",
    "doks.digitalocean.com/gpu-model",
    "gpu.nvidia.com/model",
)
"""Node labels whose value is the name of a type of GPU, at whichever provider."""
_SUFFIX = re.compile(r"(-mig-[0-9]+g\.[0-9]+gb(\.me)?|-shared)+$")


def types_named(name: str, types: Iterable[GpuType]) -> tuple[GpuType, ...]:
    """All types that bear the name, in the order given; () where none does.

    Case, and which of space, `-` and `_` parts the words, does not matter; nor does what GPU Feature Discovery appends to products of
    GPUs that are shared or partitioned (`-SHARED`, `-MIG-1g.5gb`).
    """
    wanted = _plain(name)
    return tuple(one for one in types if wanted in _names(one))


def class_names(types: Iterable[GpuType]) -> tuple[str, ...]:
    """Every name that means something, for "did you mean"."""
    return tuple(dict.fromkeys(name for one in types for name in (one.name, one.product, *one.classes)))


def class_selector(labels: Mapping[str, str], types: Iterable[GpuType]) -> dict[str, tuple[GpuType, ...]]:
    """The pairs of a node selector that name types of GPU, by key. What a node's own labels say of them need not be looked at."""
    known = tuple(types)
    meant = {key: types_named(labels[key], known) for key in CLASS_KEYS if key in labels}
    return {key: found for key, found in meant.items() if found}


def product_label(model: str) -> str:
    """The product as GPU Feature Discovery labels it, of the name that NVML gives: words parted by dashes."""
    return re.sub(r"\s+", "-", model.strip())


def _names(one: GpuType) -> frozenset[str]:
    return frozenset(map(_plain, (one.name, one.product, *one.classes)))


def _plain(name: str) -> str:
    return _SUFFIX.sub("", re.sub(r"[\s_]+", "-", name.strip().casefold()))
