"""Seconds that each node of this host would take to load a pod's weights: its cache is looked at while such a pod waits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from penstock.contracts.controller import Cache
from penstock.decide.caching import Cache as ModelCache
from penstock.decide.load_time import Copy, Loading, Rates, load_times
from penstock.host.kubelet.layout import Layout
from penstock.host.model_store import FILES, RECORD, ModelStore, Record, key_of, read
from penstock.kit import page_cache
from penstock.kit.clock import Clock
from penstock.kit.disk_rate import read_rate
from penstock.kit.quantity import to_bytes
from penstock.resources.caching import LocalModelCache, LocalModelNamespaceCache

LOOK_AGAIN_S = 5.0
"""Pods that wait are looked at whenever anything changes; disks are not."""
MEASURE_AGAIN_S = 3600.0
MAX_KNOWN = 256
"""Sets of models whose times are remembered."""

Models = frozenset[str]


class LoadTimes:
    """Files are looked at in threads."""

    def __init__(self, cache: Cache, clock: Clock, *, layout: Layout, nodes: Iterable[str]) -> None:
        """`nodes` are those whose caches are below `layout`."""
        self._cache = cache
        self._clock = clock
        self._stores = {node: ModelStore(layout.cache(node)) for node in sorted(nodes)}
        self._known: dict[Models, tuple[float, Mapping[str, Loading]]] = {}
        self._disks: dict[int, tuple[float, float | None]] = {}

    async def of(self, models: Models) -> Mapping[str, Loading]:
        """By node; nothing where nobody knows how large a model is."""
        now = self._clock.now()
        at, times = self._known.pop(models, (-LOOK_AGAIN_S, {}))
        if now >= at + LOOK_AGAIN_S:
            sizes = {uri: self._said(uri) for uri in models}
            try:
                at, times = now, await asyncio.to_thread(self._look, sizes, now)
            except OSError:
                at, times = now, {}  # a disk that cannot be read keeps no pod from its node
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[models] = at, times
        return times

    def _said(self, uri: str) -> int | None:
        """What a cache says of its size."""
        caches: tuple[ModelCache, ...] = (
            *self._cache.list(LocalModelCache),
            *self._cache.list(LocalModelNamespaceCache),
        )
        sizes = [to_bytes(one.spec.model_size) for one in caches if one.spec.source_model_uri == uri]
        return max(sizes, default=None)

    def _look(self, said: Mapping[str, int | None], now: float) -> dict[str, Loading]:
        sizes, rates = dict(said), {}
        held: dict[str, dict[str, Copy]] = {}
        for node, store in self._stores.items():
            held[node] = {}
            for uri in said:
                held[node][uri], size = _copy(store, uri)
                sizes[uri] = sizes[uri] if size is None else size
            rates[node] = self._rates(store, now)
        return load_times(sizes, held, rates)

    def _rates(self, store: ModelStore, now: float) -> Rates:
        trees = _trees(store, store.model_keys())
        records = [record for _, record in trees]
        files = [
            (entry.size_bytes, tree / FILES / name)
            for tree, record in trees
            for name, entry in record.files.items()
        ]
        return Rates(
            source=_rate(record for record in records if not record.is_from_peer),
            peer=_rate(record for record in records if record.is_from_peer),
            read=self._disk(max(files)[1], now) if files else None,
        )

    def _disk(self, file: Path, now: float) -> float | None:
        """How fast the disk reads that has the file: of one disk at most once in a while."""
        try:
            disk = file.stat().st_dev
        except OSError:
            return None
        at, rate = self._disks.get(disk, (-MEASURE_AGAIN_S, None))
        if now >= at + MEASURE_AGAIN_S:
            rate = read_rate(file)
            self._disks[disk] = now, rate
        return rate


def _trees(store: ModelStore, keys: Iterable[str]) -> list[tuple[Path, Record]]:
    """The complete trees of these models, and what is recorded of each."""
    folders = [folder for key in keys for folder in store.snapshots(key)]
    return [(one, record) for one in folders if (record := read(one / RECORD, Record)) is not None]


def _rate(records: Iterable[Record]) -> float | None:
    """All their bytes over all their time."""
    some = [(record.size_bytes, record.took_s) for record in records if record.took_s > 0]
    return sum(size for size, _ in some) / sum(took_s for _, took_s in some) if some else None


def _copy(store: ModelStore, uri: str) -> tuple[Copy, int | None]:
    """What there is of the model, and how large it is, None where this node does not know."""
    trees = _trees(store, (key_of(uri),))
    if not trees:
        progress = store.progress(uri)
        return Copy(there_bytes=progress.bytes_done), progress.bytes_total
    tree, record = max(trees, key=lambda one: one[0].name)
    resident = sum(_resident(tree / FILES / name) for name in record.files)
    return Copy(record.size_bytes, min(resident, record.size_bytes)), record.size_bytes


def _resident(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int((page_cache.resident_share(descriptor) or 0.0) * os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
