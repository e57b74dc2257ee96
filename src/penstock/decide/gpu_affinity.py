"""Which labels do nodes with these types of GPUs have, at whichever provider?

Each provider has a label of its own, and its own way to write a type's name. A node has one of them, so they are alternatives: terms of a node
affinity, of which one must hold. A name that may also mean a type that was not asked for is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from penstock.contracts.devices import GpuType
from penstock.decide.gpu_class import CLASS_KEYS, class_selector, types_named
from penstock.resources.meta import Json
from penstock.resources.pod import PodSpec

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_CONFIGURED = re.compile(r"-(SHARED|MIG-[0-9]+g\..*)$", re.IGNORECASE)
"""What GPU Feature Discovery appends to a product says how its node is configured, which no other provider's label does."""


def with_provider_labels(
    spec: PodSpec, types: Iterable[GpuType], able: frozenset[str] | None = None
) -> PodSpec:
    """The pod, whose node selector names types of GPUs at one provider, for nodes of all of them. Other selectors stay as they are.

    `types` are all that names can mean, `able` those of them that will do, all if None. Names that mean no type, and products with
    `-SHARED` or `-MIG-…`, are left to the cluster as they are.
    """
    known = tuple(types)
    meant = {
        key: found
        for key, found in class_selector(spec.node_selector, known).items()
        if not _is_exact(spec, key)
    }
    if not meant:
        return spec
    wanted = frozenset.intersection(*(frozenset(one.name for one in found) for found in meant.values()))
    wanted = wanted if able is None else wanted & able
    own = {key: spec.node_selector[key] for key in meant}
    alternatives = [
        {"key": key, "operator": "In", "values": list(values)}
        for key in CLASS_KEYS
        if (
            values := _unambiguous(
                (*_written(key, wanted, known), *([own[key]] if key in own else [])), wanted, known
            )
        )
    ]
    affinity = _with_alternatives(spec.affinity, alternatives)
    if affinity is None:
        return spec
    others = {key: value for key, value in spec.node_selector.items() if key not in meant}
    return replace(spec, node_selector=others, affinity=affinity)


def without_provider_labels(spec: PodSpec, types: Iterable[GpuType]) -> PodSpec:
    """The pod without the selectors that name types of GPUs, for which a claim asks in their stead."""
    meant = class_selector(spec.node_selector, types)
    others = {
        key: value for key, value in spec.node_selector.items() if key not in meant or _is_exact(spec, key)
    }
    return replace(spec, node_selector=others)


def product_names(wanted: frozenset[str], types: Sequence[GpuType]) -> tuple[str, ...]:
    """How GPU Feature Discovery labels these types, by name."""
    return _unambiguous(_written("nvidia.com/gpu.product", wanted, types), wanted, types)


def _is_exact(spec: PodSpec, key: str) -> bool:
    return _CONFIGURED.search(spec.node_selector[key]) is not None


def _written(key: str, wanted: frozenset[str], types: Sequence[GpuType]) -> Iterable[str]:
    """The types' names as this label's values are written."""
    write = _WAYS.get(key, _plain)
    return (
        written
        for one in types
        if one.name in wanted
        for name in (one.product, one.name, *one.classes)
        if (written := write(name))
    )


def _unambiguous(names: Iterable[str], wanted: frozenset[str], types: Sequence[GpuType]) -> tuple[str, ...]:
    return tuple(
        name
        for name in dict.fromkeys(names)
        if (found := types_named(name, types)) and all(one.name in wanted for one in found)
    )


def _product(name: str) -> str:
    """`NVIDIA-A100-SXM4-80GB`: words parted by dashes, as the driver writes them."""
    return name if "-" in name and "_" not in name and name != name.lower() else ""


def _capitals(name: str) -> str:
    """`A100_NVLINK_80GB`, `A40`: capitals, parts divided by underscores."""
    return name.upper() if "-" not in name else ""


def _short(name: str) -> str:
    """`h100`: one word."""
    return name.lower() if re.fullmatch(r"[A-Za-z0-9]+", name) else ""


def _prefixed(name: str) -> str:
    """`nvidia-tesla-t4`."""
    return name if name.startswith("nvidia-") else ""


def _plain(name: str) -> str:
    """`h100-80gb`: any name in small letters."""
    return name if name == name.lower() else ""


_WAYS: dict[str, Callable[[str], str]] = {
    "gpu.nvidia.com/class": _capitals,
    "gpu.nvidia.com/model": _capitals,
    "nvidia.com/gpu.product": _product,
    "cloud.google.com/gke-accelerator": _prefixed,
    "k8s.amazonaws.com/accelerator": _prefixed,
    "eks.amazonaws.com/instance-gpu-name": _short,
    "karpenter.k8s.aws/instance-gpu-name": _short,
    "doks.digitalocean.com/gpu-model": _short,
}


def _with_alternatives(affinity: Json, alternatives: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Each term that is there, with each of the alternatives. None where the terms that are there match no node anyway."""
    given = affinity if isinstance(affinity, dict) else {}
    node = given.get("nodeAffinity") or {}
    required = node.get(REQUIRED) or {}
    there = required.get("nodeSelectorTerms") or [{}]
    if required and not any(there):
        return None
    terms = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), one]}
        for term in there
        if term or not required
        for one in alternatives
    ]
    return {**given, "nodeAffinity": {**node, REQUIRED: {**required, "nodeSelectorTerms": terms}}}
