"""Makes the objects that another one asks for be as it asks: creates, changes and deletes them, and nothing that is not its own."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache
from penstock.kit.errors import AlreadyExists, NotFound
from penstock.kit.hashing import short_hash
from penstock.resources.annotations import WISHED
from penstock.resources.meta import Resource


async def keep_children(
    cluster: Cluster,
    cache: Cache,
    owner: Resource,
    kinds: Iterable[type[Resource]],
    wished: Collection[Resource],
    *,
    left: Collection[str] = (),
) -> tuple[str, ...]:
    """Of `kinds`, `owner` has exactly `wished` afterwards; what was done, in words. Status is left to whoever writes it, and so are labels and
    annotations that are named in `left`.

    An object of somebody else that has a wished name is left as it is.
    """
    done = []
    for kind in kinds:
        wanted = {obj.metadata.name: _stamped(obj) for obj in wished if type(obj) is kind}
        own = cache.list(kind, owner.metadata.namespace, owner=owner.metadata.uid)
        for there in own:
            name = there.metadata.name
            wish = wanted.pop(name, None)
            if wish is None:
                with contextlib.suppress(NotFound):
                    await cluster.delete(kind, name, owner.metadata.namespace)
                    done.append(f"{kind.__name__} {name} deleted")
            elif (patch := _difference(there, wish, left)) is not None:
                await cluster.patch(kind, name, owner.metadata.namespace, patch)
                done.append(f"{kind.__name__} {name} changed")
        for name, wish in wanted.items():
            with contextlib.suppress(AlreadyExists):
                await cluster.create(wish)
                done.append(f"{kind.__name__} {name} created")
    return tuple(done)


def _stamped(wish: Resource) -> Resource:
    """With a hash of what is wished, by which a later wish for less is told from what the cluster has filled in."""
    asked = {WISHED: short_hash(_plain(wish))}
    meta = msgspec.structs.replace(wish.metadata, annotations={**wish.metadata.annotations, **asked})
    return msgspec.structs.replace(wish, metadata=meta)


def _difference(there: Resource, wish: Resource, left: Collection[str]) -> dict[str, Any] | None:
    """A merge patch that makes spec, labels and annotations those of `wish`; None where they are, or say more."""
    before, after = _plain(there), _plain(wish)
    for part in before["metadata"].values():
        for key in left:
            part.pop(key, None)
    if there.metadata.annotations.get(WISHED) == wish.metadata.annotations[WISHED] and _covers(before, after):
        return None
    return _with_removals(before, after)


def _plain(obj: Resource) -> dict[str, Any]:
    """What a wish is about."""
    document: dict[str, Any] = msgspec.to_builtins(obj)
    meta = document["metadata"]
    named = {part: meta[part] for part in ("labels", "annotations") if part in meta}
    return {"metadata": named, "spec": document.get("spec") or {}}


def _covers(there: Any, wish: Any) -> bool:
    """Whether everything that is wished is there, whatever else is."""
    if isinstance(wish, dict) and isinstance(there, dict):
        return all(key in there and _covers(there[key], value) for key, value in wish.items())
    if isinstance(wish, list) and isinstance(there, list):
        return len(there) == len(wish) and all(map(_covers, there, wish))
    return bool(there == wish)


def _with_removals(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """RFC 7386: what is not there any more is null."""
    gone = {key: None for key in before if key not in after}
    kept = {
        key: _with_removals(before[key], value)
        if isinstance(value, dict) and isinstance(before.get(key), dict)
        else value
        for key, value in after.items()
    }
    return {**gone, **kept}
