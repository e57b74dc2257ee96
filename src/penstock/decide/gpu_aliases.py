"""Which types of GPU does what a pod says of nodes and devices mean, in whichever provider's words?

A type has a label of its own at each provider, and another spelling. What a pod says by any of them holds for nodes that have none of these labels
but such GPUs: conditions on labels are given the types that they mean, which `node_rules` compares with those of a node; conditions of claims are
given the names that drivers use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from penstock.contracts.devices import GpuType
from penstock.decide.gpu_class import CLASS_KEYS, class_selector, types_named
from penstock.resources.pod import Pod

MEANT = "gpuTypes"
"""In a condition on a label: the types that it means, by our names."""
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
SELECTOR, AFFINITY = "nodeSelector", "nodeAffinity"
_PRODUCT = re.compile(
    r"""(?P<what>device\.attributes\[(?:'gpu\.nvidia\.com'|"gpu\.nvidia\.com")\]\.productName)\s*(?P<sign>==|!=|\bin\b)\s*"""
    r"""(?P<names>'[^'\\]*'|"[^"\\]*"|\[[^\]\\]*\])"""
)


class Meaning(NamedTuple):
    """What a part of the pod (`where`) says, as it is written, and which types that leaves."""

    where: str
    words: str
    types: frozenset[str]


def plain(pod: Pod, types: Iterable[GpuType], *, asks: bool) -> Pod:
    """The pod with the meaning of what it says of types of GPU. If it `asks` for devices, these say what its node selector would."""
    known = tuple(types)
    selector, affinity = pod.spec.node_selector, (pod.spec.affinity or {}).get("nodeAffinity") or {}
    meant = class_selector(selector, known) if any(key in selector for key in CLASS_KEYS) else {}
    is_said = any(_is_about(one) for one in _expressions(affinity))
    if not meant and not is_said:
        return pod
    spec = pod.spec
    if meant:
        spec = replace(spec, node_selector={k: v for k, v in selector.items() if k not in meant})
    own = [] if asks else [_with_meaning(_pair(key, selector[key]), known) for key in meant]
    node = _meaning(affinity, own, known)
    return replace(pod, spec=replace(spec, affinity={**(spec.affinity or {}), "nodeAffinity": node}))


def meanings(pod: Pod, types: Iterable[GpuType], there: frozenset[str]) -> tuple[Meaning, ...]:
    """What the node selector and the required node affinity leave of the types; `there` are those that nodes have."""
    known = tuple(types)
    selector = class_selector(pod.spec.node_selector, known)
    found = [
        Meaning(SELECTOR, f"{key}: {pod.spec.node_selector[key]}", frozenset(one.name for one in some))
        for key, some in selector.items()
    ]
    affinity = (pod.spec.affinity or {}).get("nodeAffinity") or {}
    terms = [term for term in (affinity.get(REQUIRED) or {}).get("nodeSelectorTerms") or () if term]
    alternatives = [_left(term, known, there) for term in terms]
    if not alternatives or any(one is None for one in alternatives):
        return tuple(found)
    said = [one for one in alternatives if one is not None]
    either = Meaning(
        AFFINITY, " or ".join(one.words for one in said), frozenset[str]().union(*(one.types for one in said))
    )
    return (*found, either)


def _left(term: Mapping[str, Any], types: tuple[GpuType, ...], there: frozenset[str]) -> Meaning | None:
    """What one term leaves; None where it says nothing of types."""
    words: list[str] = []
    left: frozenset[str] | None = None
    for one in term.get("matchExpressions") or ():
        meant = _types(one, types)
        if not meant or one.get("operator") not in ("In", "NotIn"):
            continue
        names = meant if one["operator"] == "In" else there - meant
        left = names if left is None else left & names
        words.append(f"{one['key']} {one['operator']} [{', '.join(map(str, one.get('values') or ()))}]")
    return None if left is None else Meaning(AFFINITY, " and ".join(words), left)


def with_product_names(expression: str, types: Iterable[GpuType]) -> str:
    """A claim's condition, in which names of types are those that the driver gives (attribute productName). Other names stay as they are."""
    known = tuple(types)

    def written(match: re.Match[str]) -> str:
        quoted = re.findall(r"'([^']*)'|\"([^\"]*)\"", match["names"])
        given = [single or double for single, double in quoted]
        names = [name for one in given for name in _products(one, known)]
        if names == given:
            return match[0]
        held = f"{match['what']} in [{', '.join(repr(name) for name in dict.fromkeys(names))}]"
        return f"!({held})" if match["sign"] == "!=" else f"({held})"

    return _PRODUCT.sub(written, expression)


def _products(name: str, types: tuple[GpuType, ...]) -> list[str]:
    """How drivers name what this name means; itself where it is one of them, or means nothing."""
    found = [one.model or one.product for one in types_named(name, types)]
    return [name] if name in found or not found else [*found, name]


def _meaning(affinity: Mapping[str, Any], own: list[dict[str, Any]], types: tuple[GpuType, ...]) -> Any:
    required = affinity.get(REQUIRED) or {}
    terms = [_of_term(term, types) for term in required.get("nodeSelectorTerms") or ()]
    if own:
        terms = [
            {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), *own]}
            for term in terms or [{}]
        ]
    preferred = [
        {**one, "preference": _of_term(one.get("preference") or {}, types)}
        for one in affinity.get(PREFERRED) or ()
    ]
    found = {**affinity}
    if terms:
        found[REQUIRED] = {**required, "nodeSelectorTerms": terms}
    if preferred:
        found[PREFERRED] = preferred
    return found


def _of_term(term: Mapping[str, Any], types: tuple[GpuType, ...]) -> dict[str, Any]:
    expressions = [_with_meaning(one, types) for one in term.get("matchExpressions") or ()]
    return {**term, "matchExpressions": expressions} if expressions else dict(term)


def _with_meaning(one: Mapping[str, Any], types: tuple[GpuType, ...]) -> dict[str, Any]:
    meant = _types(one, types)
    is_about_any = one.get("operator") in ("Exists", "DoesNotExist") and _is_about(one)
    return {**one, MEANT: sorted(meant)} if meant or is_about_any else dict(one)


def _types(one: Mapping[str, Any], types: tuple[GpuType, ...]) -> frozenset[str]:
    if not _is_about(one):
        return frozenset()
    values = map(str, one.get("values") or ())
    return frozenset(kind.name for value in values for kind in types_named(value, types))


def _is_about(one: Mapping[str, Any]) -> bool:
    return one.get("key") in CLASS_KEYS


def _pair(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": [value]}


def _expressions(affinity: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for term in (affinity.get(REQUIRED) or {}).get("nodeSelectorTerms") or ():
        yield from term.get("matchExpressions") or ()
    for one in affinity.get(PREFERRED) or ():
        yield from (one.get("preference") or {}).get("matchExpressions") or ()
