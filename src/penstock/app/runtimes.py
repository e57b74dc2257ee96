"""The runtimes that come with Penstock: `penstock/runtimes/*.yaml`, applied at each start.

They belong to Penstock's own field manager, so what a user changed on one stays, and a runtime that a user deleted comes back
only with the next version of its file.
"""

from __future__ import annotations

import logging
from importlib.resources import files

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.kit.errors import AlreadyExists, NotFound
from penstock.kit.hashing import short_hash
from penstock.resources.admission import admit
from penstock.resources.documents import documents
from penstock.resources.meta import ObjectMeta
from penstock.resources.runtime import ClusterServingRuntime

SHIPPED = "penstock.dev/shipped"
"""Label of a shipped runtime; its value is the hash of the spec as shipped."""
log = logging.getLogger(__name__)


def shipped_runtimes() -> tuple[ClusterServingRuntime, ...]:
    """All of them, admitted as a user's manifest would be, by name."""
    folder = files("penstock") / "runtimes"
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda f: f.name)
    return tuple(_runtime(document) for file in found for document in documents(file.read_text()))


async def ensure_runtimes(cluster: Cluster) -> None:
    """Create those that are missing; bring those up to date that nobody has edited."""
    for runtime in shipped_runtimes():
        try:
            await cluster.create(runtime)
        except AlreadyExists:
            await _refresh(cluster, runtime)


async def _refresh(cluster: Cluster, shipped: ClusterServingRuntime) -> None:
    try:
        there = await cluster.get(ClusterServingRuntime, shipped.metadata.name)
    except NotFound:
        return
    label = there.metadata.labels.get(SHIPPED)
    if label == shipped.metadata.labels[SHIPPED]:
        return
    if label != _hash(there):
        log.warning("runtime %s was edited; the newer shipped one is not taken", there.metadata.name)
        return
    metadata = msgspec.structs.replace(
        there.metadata, labels=shipped.metadata.labels, annotations=shipped.metadata.annotations
    )
    await cluster.replace(msgspec.structs.replace(there, metadata=metadata, spec=shipped.spec))


def _runtime(document: dict[str, object]) -> ClusterServingRuntime:
    runtime = admit(document, strict=True).object
    assert isinstance(runtime, ClusterServingRuntime), "shipped runtimes are for every namespace"
    meta: ObjectMeta = runtime.metadata
    labels = {**meta.labels, SHIPPED: _hash(runtime)}
    return msgspec.structs.replace(runtime, metadata=msgspec.structs.replace(meta, labels=labels))


def _hash(runtime: ClusterServingRuntime) -> str:
    annotations = {k: v for k, v in runtime.metadata.annotations.items() if k.startswith("penstock.dev/")}
    return short_hash(msgspec.to_builtins((runtime.spec, annotations)))
