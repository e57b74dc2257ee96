"""Do model caches and node groups keep KServe's rules?"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.kit.quantity import parse_quantity
from penstock.resources.caching import LocalModelCache, LocalModelNamespaceCache, LocalModelNodeGroup
from penstock.resources.meta import Quantity
from penstock.resources.validation import Causes, Denial, required, wrong

Cache = LocalModelCache | LocalModelNamespaceCache


def validate_cache(new: Cache, old: Cache | None) -> Causes:
    """Causes in a cache."""
    if not new.spec.source_model_uri:
        yield required("spec.sourceModelUri")
    if not new.spec.node_groups:
        yield required("spec.nodeGroups", "at least 1 node group is required")
    yield from _size("spec.modelSize", new.spec.model_size)
    if old is not None and old.spec.source_model_uri != new.spec.source_model_uri:
        yield wrong("spec.sourceModelUri", new.spec.source_model_uri, "StorageUri is immutable")


def validate_node_group(new: LocalModelNodeGroup) -> Causes:
    """Causes in a node group."""
    yield from _size("spec.storageLimit", new.spec.storage_limit)


def deny_cache(new: LocalModelCache, peers: Iterable[LocalModelCache] = ()) -> Denial | None:
    """Whether another cluster cache holds the same model already."""
    for peer in peers:
        if (
            peer.metadata.name != new.metadata.name
            and peer.spec.source_model_uri == new.spec.source_model_uri
        ):
            return Denial(
                "spec.sourceModelUri",
                f"LocalModelCache {peer.metadata.name} has the same StorageURI {new.spec.source_model_uri}",
                f"add the node groups to {peer.metadata.name} instead",
            )
    return None


def _size(field: str, size: Quantity) -> Causes:
    if parse_quantity(size) <= 0:
        yield wrong(field, size, "must be greater than zero")
