"""The objects of one kind, found by name, namespace, label or owner without looking at all the others."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal, NamedTuple

from penstock.resources.meta import Resource
from penstock.resources.selectors import LabelTerm, matches

Place = tuple[str, str]
"""Namespace and name."""


class _Trait(NamedTuple):
    """What objects are found by: their namespace, their controlling owner's uid, or the `value` of a label."""

    family: Literal["namespace", "owner", "label"]
    value: str
    label: str = ""


class Index:
    """Iterates over places in order. A look-up costs what it yields, not what there is."""

    def __init__(self) -> None:
        """Empty."""
        self._objects: dict[Place, Any] = {}
        self._by_trait: dict[_Trait, dict[Place, None]] = {}
        self._ordered: tuple[Place, ...] | None = None

    def __iter__(self) -> Iterator[Place]:
        if self._ordered is None:
            self._ordered = tuple(sorted(self._objects))
        return iter(self._ordered)

    def get(self, place: Place) -> Any | None:
        """The object, or None."""
        return self._objects.get(place)

    def put(self, place: Place, obj: Any | None) -> Any | None:
        """Replace what is there, None removes it; what was there before."""
        before = self._objects.pop(place, None)
        if before is not None:
            for trait in _traits(before):
                group = self._by_trait[trait]
                del group[place]
                if not group:
                    del self._by_trait[trait]
        if obj is not None:
            self._objects[place] = obj
            for trait in _traits(obj):
                self._by_trait.setdefault(trait, {})[place] = None
        if before is None or obj is None:
            self._ordered = None
        return before

    def find(self, namespace: str | None, terms: tuple[LabelTerm, ...], owner: str) -> tuple[Any, ...]:
        """All that match, ordered by place; `owner` is the controlling owner's uid, "" for any."""
        exact = [_Trait("label", term.values[0], term.key) for term in terms if term.operator == "="]
        if namespace is not None:
            exact.append(_Trait("namespace", namespace))
        if owner:
            exact.append(_Trait("owner", owner))
        groups: list[Collection[Place]] = [self._by_trait.get(trait, {}) for trait in exact]
        if not groups:
            ordered = map(self._objects.__getitem__, self)
            return tuple(o for o in ordered if not terms or matches(terms, o.metadata.labels))
        smallest = min(groups, key=len)
        places = [place for place in smallest if all(place in group for group in groups)]
        found = (self._objects[place] for place in sorted(places))
        return tuple(obj for obj in found if matches(terms, obj.metadata.labels))


def _traits(obj: Resource) -> Iterator[_Trait]:
    meta = obj.metadata
    yield _Trait("namespace", meta.namespace)
    for key, value in meta.labels.items():
        yield _Trait("label", value, key)
    for reference in meta.owner_references:
        if reference.controller:
            yield _Trait("owner", reference.uid)
