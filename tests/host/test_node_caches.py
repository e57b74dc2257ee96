"""What a node's disk holds, what may go, and what stays."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from penstock.host import node_caches
from penstock.host.kubelet.layout import Layout
from penstock.host.model_store import (
    FILES,
    LOCK,
    RECORD,
    Entry,
    ModelStore,
    Progress,
    Record,
    digest_of,
    key_of,
    seal,
    write,
)
from penstock.host.node_caches import HostCaches, held_models
from penstock.kit.clock import SystemClock

NODE = "n"
A, B, C = "hf://o/a", "hf://o/b", "hf://o/c"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def caches(layout: Layout) -> HostCaches:
    return HostCaches(layout, frozenset((NODE,)), SystemClock())


def put(layout: Layout, uri: str, content: bytes) -> ModelStore:
    """A complete model of one file."""
    store = ModelStore(layout.cache(NODE))
    tree = store.model(uri) / "snapshot" / FILES
    tree.mkdir(parents=True)
    path = tree / "weights.bin"
    path.write_bytes(content)
    digest = digest_of(path, "blake3")
    blob = store.blob("blake3", digest)
    blob.parent.mkdir(parents=True, exist_ok=True)
    if blob.exists():
        path.unlink()
        os.link(blob, path)
    else:
        os.link(path, blob)
        seal(blob, digest)
    entry = Entry(len(content), "blake3", digest)
    write(tree.parent / RECORD, Record(uri, {"weights.bin": entry}, took_s=1.0))
    (store.model(uri) / LOCK).touch()
    return store


def used_by_a_pod(layout: Layout, uri: str, tmp_path: Path) -> Path:
    link = tmp_path / "pod.bin"
    os.link(layout.cache(NODE) / "models" / key_of(uri) / "snapshot" / FILES / "weights.bin", link)
    return link


async def test_a_model_is_ready_when_its_tree_is_complete(layout: Layout, caches: HostCaches) -> None:
    assert not (await caches.look(NODE, A)).is_ready
    put(layout, A, b"a" * 100)
    assert (await caches.look(NODE, A)).is_ready


async def test_what_is_told_is_how_far_it_is_and_what_nobody_works_at_waits(
    layout: Layout, caches: HostCaches
) -> None:
    store = ModelStore(layout.cache(NODE))
    store.model(A).mkdir(parents=True)
    half = Progress(
        uri=A,
        state="downloading",
        bytes_done=43 << 20,
        bytes_total=100 << 20,
        rate_bytes_per_s=1 << 20,
        eta_s=57.0,
    )
    store.tell(A, half)
    with (store.model(A) / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = (await caches.look(NODE, A)).download
        assert found.told == "downloading 43 % of 100 MiB, 1 MiB/s, 57 s left"
        assert (found.bytes_done, found.bytes_total, found.eta_seconds) == (43 << 20, 100 << 20, 57.0)
    assert (await caches.look(NODE, A)).download.told == "queued"
    store.tell(A, Progress(uri=A, state="failed", reason="the disk is full"))
    assert (await caches.look(NODE, A)).download.told == "failed: the disk is full"


async def test_what_was_named_and_is_no_longer_goes_what_pods_brought_stays(
    layout: Layout, caches: HostCaches
) -> None:
    put(layout, A, b"a" * 100)
    store = put(layout, B, b"b" * 100)
    assert await caches.keep(NODE, (A,)) == ()
    (said,) = await caches.keep(NODE, ())
    assert said.startswith("removed a model that no cache names any more")
    assert not store.is_ready(A)
    assert store.is_ready(B)


async def test_a_model_in_use_leaves_the_cache_but_not_the_pod(
    layout: Layout, caches: HostCaches, tmp_path: Path
) -> None:
    store = put(layout, A, b"a" * 100)
    link = used_by_a_pod(layout, A, tmp_path)
    await caches.keep(NODE, (A,))
    await caches.keep(NODE, ())
    assert link.read_bytes() == b"a" * 100
    assert not store.is_ready(A)


async def test_bytes_that_two_models_share_outlive_either(layout: Layout, caches: HostCaches) -> None:
    put(layout, A, b"x" * 100)
    store = put(layout, B, b"x" * 100)
    assert store.used_bytes() == 100
    await caches.keep(NODE, (A, B))
    await caches.keep(NODE, (B,))
    assert store.used_bytes() == 100
    await caches.keep(NODE, ())
    assert store.used_bytes() == 0


async def test_a_disk_that_gets_full_loses_what_is_worth_least_and_nothing_in_use(
    layout: Layout, caches: HostCaches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for uri, content in ((A, b"a" * 1000), (B, b"b" * 1000), (C, b"c" * 1000)):
        store = put(layout, uri, content)
    used_by_a_pod(layout, A, tmp_path)
    store.note_use(B, SystemClock().now())
    monkeypatch.setattr(node_caches.shutil, "disk_usage", lambda path: Usage(free=100))
    said = await caches.keep(NODE, ())
    assert [one.split(":")[0] for one in said] == [f"evicted {key_of(C)}"]
    assert store.is_ready(A)
    assert store.is_ready(B)
    pins = {held.name: held.pinned for held in held_models(store)}
    assert pins == {key_of(A): "a pod has it in use", key_of(B): ""}


class Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_a_model_that_is_being_brought_is_not_removed(layout: Layout) -> None:
    store = put(layout, A, b"a")
    with (store.model(A) / LOCK).open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert store.remove(key_of(A)) == 0
    assert store.is_ready(A)


async def test_a_model_of_this_machine_is_on_every_node_as_long_as_it_is_there(
    caches: HostCaches, tmp_path: Path
) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    uri = f"file://{tmp_path}/my%20model"
    assert (await caches.look(NODE, uri)).is_ready
    folder.rmdir()
    looked = await caches.look(NODE, uri)
    assert (looked.is_ready, looked.download.told) == (False, "failed: there is no such file or folder")
