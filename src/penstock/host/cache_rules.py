"""Rules between model caches and other objects at admission, as KServe's webhooks have them; and that a group has room, which they have not."""

from __future__ import annotations

from typing import TypeVar, get_args

import msgspec

from penstock.decide.caching import Cache, model_key, over_limit, user_of
from penstock.host.metadata import resource_of
from penstock.host.store import Store
from penstock.kit.errors import Cause, Invalid
from penstock.resources.caching import LocalModelCache, LocalModelNamespaceCache, LocalModelNodeGroup
from penstock.resources.meta import Resource
from penstock.resources.scheme import Kind, kind_of
from penstock.resources.serving import InferenceService
from penstock.resources.validate_cache import deny_cache

CACHES: tuple[type[Cache], ...] = get_args(Cache)
R = TypeVar("R", bound=Resource)


def check_cache(new: Resource, store: Store) -> None:
    """Raises Invalid for a second cache of an address, a group that is not there (namespaced caches), and a group without room."""
    if not isinstance(new, CACHES) or new.metadata.deletion_timestamp is not None:
        return
    caches = [one for kind in CACHES for one in _all(kind, store)]
    groups = _all(LocalModelNodeGroup, store)
    if isinstance(new, LocalModelCache):
        denial = deny_cache(new, [one for one in caches if isinstance(one, LocalModelCache)])
        if denial is not None:
            raise _denied(new, denial.field, denial.message, denial.hint)
    else:
        names = {group.metadata.name for group in groups}
        for index, name in enumerate(new.spec.node_groups):
            if name not in names:
                raise _denied(new, f"spec.nodeGroups[{index}]", f"NodeGroup {name} not found")
    for refusal in over_limit(new, caches, groups):
        raise _denied(
            new,
            "spec.modelSize",
            refusal.message,
            f"remove a cache of the group, or raise spec.storageLimit of LocalModelNodeGroup {refusal.group}",
        )


def check_cache_delete(kind: Kind, namespace: str, name: str, store: Store) -> None:
    """Raises Invalid while a service is bound to the cache."""
    cache_kind = next((one for one in CACHES if kind.type is one), None)
    row = store.read(resource_of(kind), namespace, name) if cache_kind else None
    if cache_kind is None or row is None:
        return
    cache = msgspec.json.decode(row.document, type=cache_kind)
    if cache.metadata.deletion_timestamp is not None:
        return
    for service in _all(InferenceService, store, None if isinstance(cache, LocalModelCache) else namespace):
        user_kind, user = user_of(service, cache)
        if user and service.metadata.deletion_timestamp is None:
            about = f"{kind.kind} {name} is being used by {user_kind} {user}"
            raise _denied(cache, "metadata.name", about, "delete the service first, or point it elsewhere")


def _all(kind: type[R], store: Store, namespace: str | None = None) -> list[R]:
    rows = store.list(resource_of(kind_of(kind)), namespace).rows
    return [msgspec.json.decode(row.document, type=kind) for row in rows]


def _denied(
    cache: LocalModelCache | LocalModelNamespaceCache, field: str, message: str, hint: str = ""
) -> Invalid:
    cause = Cause(field, message, "FieldValueForbidden")
    return Invalid(message, hint=hint, causes=(cause,), about=model_key(cache))
