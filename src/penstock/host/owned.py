"""Which objects an object controls."""

from __future__ import annotations

from typing import TypeVar

from penstock.contracts.controller import Cache
from penstock.resources.meta import Resource

R = TypeVar("R", bound=Resource)


def owned(cache: Cache, kind: type[R], owner: Resource) -> tuple[R, ...]:
    """The objects of `kind` in the owner's namespace whose controller it is."""
    return cache.list(kind, owner.metadata.namespace, owner=owner.metadata.uid)


def is_owned(obj: Resource, owner: Resource) -> bool:
    """Whether `owner` is the object's controller."""
    return any(
        reference.controller and reference.uid == owner.metadata.uid
        for reference in obj.metadata.owner_references
    )
