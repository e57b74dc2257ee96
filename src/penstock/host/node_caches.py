"""The model caches of this host's nodes: each has a folder of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from penstock.contracts.node_caches import CachedModel, Download
from penstock.decide.eviction import Held, evict
from penstock.host.kubelet.layout import Layout
from penstock.host.model_store import FILES, RECORD, USE, ModelStore, Progress, Record, Use, key_of, read
from penstock.kit.clock import Clock

PINNED = "pinned"
"""In a model's folder: a LocalModelNode names it, or named it."""
LOCAL = "file://"
NO_FILE = "there is no such file or folder"
MIB = 1 << 20


class HostCaches:
    """Files are looked at in threads."""

    def __init__(self, layout: Layout, nodes: frozenset[str], clock: Clock) -> None:
        self._layout = layout
        self._nodes = nodes
        self._clock = clock

    @property
    def nodes(self) -> frozenset[str]:
        """All of this host, declared ones among them."""
        return self._nodes

    @property
    def share(self) -> bool:
        """By the peer server."""
        return True

    async def look(self, node: str, uri: str) -> CachedModel:
        """A tree that is complete is ready, whatever its last attempt says."""
        return await asyncio.to_thread(self._look, self._store(node), uri)

    async def keep(self, node: str, uris: Iterable[str]) -> tuple[str, ...]:
        """See `contracts/node_caches.py`."""
        return await asyncio.to_thread(self._keep, self._store(node), frozenset(uris))

    def _store(self, node: str) -> ModelStore:
        return ModelStore(self._layout.cache(node))

    def _look(self, store: ModelStore, uri: str) -> CachedModel:
        """What is on this machine already is linked from where it lies: no cache has it, and no node lacks it."""
        if uri.startswith(LOCAL):
            is_there = Path(unquote(uri.removeprefix(LOCAL).removeprefix("localhost"))).exists()
            failed = Download(told=f"failed: {NO_FILE}", reason=NO_FILE)
            return CachedModel(is_ready=is_there, download=Download() if is_there else failed)
        return CachedModel(is_ready=store.is_ready(uri), download=_download(store.progress(uri)))

    def _keep(self, store: ModelStore, uris: frozenset[str]) -> tuple[str, ...]:
        wanted = {key_of(uri) for uri in uris}
        for uri in uris:
            mark = store.model(uri) / PINNED
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        said = []
        for key in store.model_keys():
            if key not in wanted and (store.models / key / PINNED).exists():
                freed = store.remove(key)
                said.append(
                    f"removed a model that no cache names any more: {freed // MIB} MiB are free again"
                )
        store.sync()
        store.sweep_parts(self._clock.now())
        return (*said, *self._make_room(store))

    def _make_room(self, store: ModelStore) -> list[str]:
        """The cache may take what it has and what the disk has left."""
        if not store.path.is_dir():
            return []
        store.sweep()
        used = store.used_bytes()
        limit = used + shutil.disk_usage(store.path).free
        now = self._clock.now()
        decided = evict(held_models(store), used_bytes=used, limit_bytes=limit, now=now)
        reasons = dict(decided.reasons)
        return [
            f"evicted {key}: {reasons[key]}; {store.remove(key) // MIB} MiB are free again"
            for key in decided.names
        ]


def held_models(store: ModelStore) -> tuple[Held, ...]:
    """What is on the disk, as eviction looks at it."""
    trees = {key: _files(store, key) for key in store.model_keys()}
    links = Counter(inode for files in trees.values() for inode, _ in files)
    return tuple(_held(store, key, files, links) for key, files in trees.items() if files)


def _held(store: ModelStore, key: str, files: list[tuple[int, os.stat_result]], links: Counter[int]) -> Held:
    """In use is what has more links than the blob's and those of the cache's own trees."""
    folder = store.models / key
    use = read(folder / USE, Use) or Use()
    records = [record for one in store.snapshots(key) if (record := read(one / RECORD, Record)) is not None]
    pinned = "a cache names it" if (folder / PINNED).exists() else ""
    if not pinned and any(found.st_nlink > 1 + links[inode] for inode, found in files):
        pinned = "a pod has it in use"
    return Held(
        name=key,
        size_bytes=sum({inode: found.st_size for inode, found in files}.values()),
        last_at=use.last_at,
        weight=use.weight,
        reload_s=max((record.took_s for record in records), default=0.0),
        pinned=pinned,
    )


def _files(store: ModelStore, key: str) -> list[tuple[int, os.stat_result]]:
    """The files of all its trees by inode."""
    paths = (path for one in store.snapshots(key) for path in (one / FILES).rglob("*") if path.is_file())
    return [(found.st_ino, found) for path in paths for found in (path.stat(),)]


def _download(progress: Progress) -> Download:
    return Download(
        told=_told(progress),
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total,
        bytes_per_second=round(progress.rate_bytes_per_s, 1),
        eta_seconds=progress.eta_s,
        attempt=progress.attempt,
        reason=progress.reason,
    )


def _told(progress: Progress) -> str:
    if progress.state == "failed":
        return f"failed: {progress.reason}"
    if progress.state != "downloading":
        return progress.state
    done = f"{progress.bytes_done // MIB} MiB"
    if progress.bytes_total:
        share = 100 * progress.bytes_done // progress.bytes_total
        done = f"{share} % of {progress.bytes_total // MIB} MiB"
    left = f", {progress.eta_s:.0f} s left" if progress.eta_s is not None else ""
    return f"downloading {done}, {progress.rate_bytes_per_s / MIB:.0f} MiB/s{left}"
