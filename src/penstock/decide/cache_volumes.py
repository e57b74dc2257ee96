"""Which volumes and claims does a cluster need for these model caches, and what do services read from them?

As KServe's controller makes them: for each cache and node group a volume for downloads with a claim in the namespace of the Jobs, and one of each
for every namespace with a service that is bound to it. Volumes are local ones of the group's nodes, so a pod with such a claim goes where the
model is. What a group leaves out of its volume is filled in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from penstock.contracts.model_bindings import Bound, is_below
from penstock.decide.caching import Cache
from penstock.decide.download_job import JOB_NAMESPACE
from penstock.resources.caching import (
    LocalModelNamespaceCache,
    LocalModelNodeGroup,
    LocalVolumeSource,
    PersistentVolume,
    PersistentVolumeSpec,
)
from penstock.resources.core import (
    Namespace,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    VolumeResourceRequirements,
)
from penstock.resources.meta import ObjectMeta, Resource
from penstock.resources.serving import InferenceService

STORAGE_CLASS = "local-storage"
FOLDER = "/mnt/models"
"""Where KServe's node agent keeps models, in folders below `models`."""
MODES = ("ReadWriteOnce",)
_SOURCES = frozenset(PersistentVolumeSpec.__struct_fields__) - {
    "capacity",
    "access_modes",
    "node_affinity",
    "storage_class_name",
    "persistent_volume_reclaim_policy",
    "mount_options",
    "volume_mode",
    "volume_attributes_class_name",
    "claim_ref",
}


def claim_name(cache: str, group: str) -> str:
    """In whichever namespace."""
    return f"{cache}-{group}"


def cache_volumes(
    caches: Sequence[Cache], groups: Iterable[LocalModelNodeGroup], users: Iterable[tuple[str, Bound]]
) -> tuple[Resource, ...]:
    """`users` are the namespaces of services with what they are bound to. A group that is not among `groups` gets nothing."""
    known = {group.metadata.name: group for group in groups}
    made: dict[tuple[str, str, str], Resource] = {}
    bound = [(namespace, one) for namespace, one in users if one.group in known]
    for cache in caches:
        own = cache.metadata.namespace if isinstance(cache, LocalModelNamespaceCache) else ""
        for name in cache.spec.node_groups:
            if name not in known:
                continue
            claim = claim_name(cache.metadata.name, name)
            download = f"{claim}-{own}-download" if own else f"{claim}-download"
            pairs = [(download, JOB_NAMESPACE)]
            pairs += [
                (f"{claim}-{namespace}", namespace)
                for namespace, one in bound
                if (one.cache, one.namespace, one.group) == (cache.metadata.name, own, name)
            ]
            for volume, namespace in pairs:
                for one in _pair(known[name], volume, claim, namespace):
                    made[one.kind, one.metadata.namespace, one.metadata.name] = one
    return (Namespace(metadata=ObjectMeta(name=JOB_NAMESPACE)), *made.values()) if made else ()


def on_volumes(service: InferenceService, bounds: Sequence[Bound]) -> InferenceService:
    """The service, reading what is cached from claims in the place of its addresses."""
    predictor, model = service.spec.predictor, service.spec.predictor.model
    if predictor.storage_uris:
        uris = tuple(replace(one, uri=_on_volume(one.uri, bounds)) for one in predictor.storage_uris)
        predictor = replace(predictor, storage_uris=uris)
    elif model is not None and model.storage_uri:
        predictor = replace(
            predictor, model=replace(model, storage_uri=_on_volume(model.storage_uri, bounds))
        )
    return replace(service, spec=replace(service.spec, predictor=predictor))


def _on_volume(uri: str, bounds: Sequence[Bound]) -> str:
    """`pvc://CLAIM/models/HASH/PART`, as KServe's webhook rewrites it; the address itself if no cache has it."""
    bound = next((one for one in bounds if is_below(uri, one.source)), None)
    if bound is None:
        return uri
    part = uri.rstrip("/")[len(bound.source.rstrip("/")) :]
    folder = hashlib.sha256(bound.source.encode()).hexdigest()[:16]
    return f"pvc://{claim_name(bound.cache, bound.group)}/models/{folder}{part}"


def _pair(
    group: LocalModelNodeGroup, volume: str, claim: str, namespace: str
) -> tuple[PersistentVolume, PersistentVolumeClaim]:
    spec = _volume_spec(group)
    asked = group.spec.persistent_volume_claim_spec
    return (
        PersistentVolume(metadata=ObjectMeta(name=volume), spec=spec),
        PersistentVolumeClaim(
            metadata=ObjectMeta(name=claim, namespace=namespace),
            spec=replace(_claim_spec(asked, spec), volume_name=volume),
        ),
    )


def _volume_spec(group: LocalModelNodeGroup) -> PersistentVolumeSpec:
    spec = group.spec.persistent_volume_spec
    has_source = any(getattr(spec, name) is not None for name in _SOURCES)
    return replace(
        spec,
        capacity=spec.capacity or {"storage": group.spec.storage_limit},
        access_modes=spec.access_modes or MODES,
        storage_class_name=spec.storage_class_name or STORAGE_CLASS,
        local=spec.local if has_source else LocalVolumeSource(path=FOLDER),
    )


def _claim_spec(asked: PersistentVolumeClaimSpec, volume: PersistentVolumeSpec) -> PersistentVolumeClaimSpec:
    """A claim without a class would get the cluster's default one, and never the volume."""
    return replace(
        asked,
        access_modes=asked.access_modes or volume.access_modes,
        storage_class_name=volume.storage_class_name
        if asked.storage_class_name is None
        else asked.storage_class_name,
        resources=asked.resources or VolumeResourceRequirements(requests=dict(volume.capacity)),
    )
