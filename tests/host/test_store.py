import asyncio
import errno
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.host.store import Store
from penstock.kit.errors import AlreadyExists, Conflict, Expired, NotFound, PlatformError, Unavailable

WRITER = Path(__file__).with_name("crash_writer.py")


@pytest.fixture
def store() -> Store:
    return Store(":memory:")


def write(
    store: Store, name: str, *, expected: int | None = None, body: bytes = b"{}", **kwargs: object
) -> int:
    return store.write("pods", "default", name, body, uid=f"uid-{name}", expected=expected, **kwargs)  # type: ignore[arg-type]


def test_what_was_written_is_read_back_by_key_and_by_uid(store: Store) -> None:
    version = write(store, "a", body=b'{"a":1}')
    row = store.read("pods", "default", "a")
    assert row is not None
    assert (row.document, row.version) == (b'{"a":1}', version)
    assert store.read_uid("uid-a") == row
    assert store.read("pods", "other", "a") is None


def test_a_second_create_and_a_write_over_another_version_are_refused(store: Store) -> None:
    version = write(store, "a")
    with pytest.raises(AlreadyExists):
        write(store, "a")
    with pytest.raises(Conflict):
        write(store, "a", expected=version + 1)
    with pytest.raises(Conflict):
        write(store, "absent", expected=version)
    with pytest.raises(Conflict):
        store.remove("pods", "default", "a", b"{}", expected=version + 1)
    with pytest.raises(NotFound):
        store.remove("pods", "default", "absent", b"{}", expected=version)
    assert store.version == version


def test_versions_never_repeat_across_deletes_and_restarts(tmp_path: Path) -> None:
    seen: list[int] = []
    for _ in range(3):
        store = Store(tmp_path / "store.sqlite")
        seen.append(write(store, "a"))
        seen.append(store.remove("pods", "default", "a", b"{}", expected=seen[-1]))
        store.close()
    assert seen == sorted(set(seen))


def test_pages_of_a_list_together_are_the_whole_list(store: Store) -> None:
    names = [f"n{index:02}" for index in range(10)]
    for name in reversed(names):
        write(store, name)
    collected: list[str] = []
    after = ("", "")
    while True:
        page = store.list("pods", after=after, limit=3)
        collected += [row.name for row in page.rows]
        if not page.more:
            break
        after = (page.rows[-1].namespace, page.rows[-1].name)
    assert collected == names
    assert store.list("pods", "other").rows == ()


def test_dependents_follow_the_owners_that_are_written(store: Store) -> None:
    version = write(store, "child", owner_uids=["uid-parent", "uid-parent", "uid-other"])
    assert [row.name for row in store.dependents("uid-parent")] == ["child"]
    version = write(store, "child", expected=version, owner_uids=["uid-other"])
    assert store.dependents("uid-parent") == ()
    store.remove("pods", "default", "child", b"{}", expected=version)
    assert store.dependents("uid-other") == ()


async def test_a_watch_sees_every_later_change_of_its_resource_once(store: Store) -> None:
    start = write(store, "before")
    position = store.position("pods", start)
    version = write(store, "a", body=b"1")
    store.write("nodes", "", "n", b"{}", uid="node")
    version = write(store, "a", expected=version, body=b"2")
    store.remove("pods", "default", "a", b"3", expected=version)
    await position.wait()
    steps = [(step.type, step.document, step.before) for step in position.take()]
    assert steps == [("ADDED", b"1", None), ("MODIFIED", b"2", b"1"), ("DELETED", b"3", b"2")]
    assert position.take() == []


async def test_a_waiting_watcher_wakes_on_the_next_commit_and_on_close(store: Store) -> None:
    position = store.position("pods", store.version)
    waiter = asyncio.create_task(position.wait())
    await asyncio.sleep(0)
    assert not waiter.done()
    write(store, "a")
    await waiter
    assert len(position.take()) == 1
    waiter = asyncio.create_task(position.wait())
    await asyncio.sleep(0)
    store.close()
    await waiter
    with pytest.raises(Unavailable):
        await position.wait()


def test_history_is_bounded_and_who_falls_behind_is_told_to_list_again() -> None:
    store = Store(":memory:", history_steps=8)
    start = store.version
    slow = store.position("pods", start)
    for index in range(20):
        write(store, f"p{index}")
    with pytest.raises(Expired):
        slow.take()
    with pytest.raises(Expired):
        store.position("pods", start)
    assert len(store.position("pods", store.version - 2).take()) == 2
    store.position("nodes", start)


def test_history_is_bounded_in_bytes() -> None:
    store = Store(":memory:", history_bytes=100_000)
    start = store.version
    for index in range(10):
        write(store, f"p{index}", body=b"x" * 30_000)
    with pytest.raises(Expired):
        store.position("pods", start)


def test_a_change_larger_than_the_bound_still_reaches_who_waits_for_it() -> None:
    store = Store(":memory:", history_bytes=100_000)
    position = store.position("pods", store.version)
    version = write(store, "a", body=b"x" * 300_000)
    assert len(position.take()) == 1
    write(store, "a", expected=version, body=b"y" * 300_000)
    assert len(position.take()) == 1


def test_a_watch_position_from_before_a_restart_or_from_the_future_is_expired(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    early = store.version
    write(store, "a")
    store.close()
    again = Store(tmp_path / "s.sqlite")
    with pytest.raises(Expired):
        again.position("pods", early)
    with pytest.raises(Expired):
        again.position("pods", again.version + 1)
    assert again.position("pods", again.version).take() == []
    again.close()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40), st.integers(0, 40))
def test_a_list_and_the_changes_after_it_give_the_present_state(
    steps: list[tuple[str, bool]], cut: int
) -> None:
    store = Store(":memory:")
    known: dict[str, bytes] = {}
    position = store.position("pods", store.version)
    for index, (name, delete) in enumerate(steps):
        if index == cut:
            page = store.list("pods")
            known = {row.name: row.document for row in page.rows}
            position = store.position("pods", page.version)
        row = store.read("pods", "default", name)
        if delete and row:
            store.remove("pods", "default", name, b"last", expected=row.version)
        else:
            write(store, name, expected=row.version if row else None, body=str(index).encode())
    for step in position.take():
        if step.type == "DELETED":
            del known[step.name]
        else:
            assert (step.type == "ADDED") == (step.name not in known)
            known[step.name] = step.document
    assert known == {row.name: row.document for row in store.list("pods").rows}


def test_a_store_in_use_says_so_and_is_free_again_after_close(tmp_path: Path) -> None:
    first = Store(tmp_path / "s.sqlite")
    with pytest.raises(Unavailable, match="in use by another process") as caught:
        Store(tmp_path / "s.sqlite")
    assert "PENSTOCK_HOME" in caught.value.hint
    first.close()
    Store(tmp_path / "s.sqlite").close()


def test_nobody_else_can_read_what_is_stored(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    write(store, "a")
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    store.close()


def _damaged(path: Path) -> None:
    path.write_bytes(b"this is not a database, and long enough to be sure of it" * 100)


def _newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [(_damaged, "is damaged"), (_newer, "another version of Penstock"), (_folder, "cannot write")],
)
def test_a_file_that_cannot_be_a_store_is_refused_in_words(
    tmp_path: Path, prepare: Callable[[Path], None], message: str
) -> None:
    prepare(tmp_path / "s.sqlite")
    with pytest.raises(Unavailable, match=message) as caught:
        Store(tmp_path / "s.sqlite")
    assert caught.value.hint


def test_a_full_disk_refuses_the_write_and_loses_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    version = write(store, "a", body=b"kept")
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(Unavailable, match="disk is full"):
        write(store, "b", body=b"x" * 1_000_000)
    assert store.version == version
    assert [row.document for row in store.list("pods").rows] == [b"kept"]
    store._connection.execute("PRAGMA max_page_count=1000000")
    assert write(store, "b", body=b"x" * 1_000_000) == version + 1
    store.close()


def test_no_acknowledged_write_is_lost_when_the_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    chance = random.Random(7)
    expected: dict[str, tuple[int, int]] = {}
    newest, acknowledged = 0, 0
    for _ in range(8):
        child = subprocess.Popen([sys.executable, str(WRITER), str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(16)]
        time.sleep(chance.uniform(0.0, 0.12))
        child.kill()
        lines += child.stdout.read().splitlines(keepends=True)
        child.stdout.close()
        child.wait()
        for line in (line for line in lines if line.endswith("\n")):
            acknowledged += 1
            verb, name, version, *size = line.split()
            newest = max(newest, int(version))
            expected.pop(name, None)
            if verb == "kept":
                expected[name] = (int(version), int(size[0]))
        store = Store(path)
        assert store.check() == "ok"
        found = {row.name: (row.version, len(row.document)) for row in store.list("configmaps").rows}
        differing = {name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)}
        assert len(differing) <= 1, "at most the one write in flight may differ"
        assert newest <= store.version <= newest + 1
        assert {row.name for row in store.dependents("owner")} == found.keys()
        if store.version == newest:
            assert not differing
        expected = found
        newest = store.version
        store.close()
    assert acknowledged > 100


async def test_one_wait_for_the_disk_is_for_all_that_wait_and_none_for_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, synced = Store(tmp_path / "s.sqlite"), []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    await store.durable()
    assert not synced
    for name in "abc":
        write(store, name)
    await asyncio.gather(*(store.durable() for _ in range(3)))
    assert len(synced) == 1
    write(store, "d")
    await store.durable()
    assert len(synced) == 2
    store.close()


async def test_a_write_during_the_wait_is_waited_for_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, synced = Store(tmp_path / "s.sqlite"), []
    going, go_on = threading.Event(), threading.Event()

    def slow(log: int) -> None:
        synced.append(log)
        going.set()
        go_on.wait(30)

    monkeypatch.setattr(os, "fdatasync", slow)
    write(store, "a")
    first = asyncio.create_task(store.durable())
    assert await asyncio.to_thread(going.wait, 30)
    write(store, "b")
    second = asyncio.create_task(store.durable())
    go_on.set()
    await asyncio.gather(first, second)
    assert len(synced) == 2
    store.close()


async def test_a_disk_that_refuses_is_told_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(log: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    store = Store(tmp_path / "s.sqlite")
    write(store, "a")
    monkeypatch.setattr(os, "fdatasync", refuse)
    for _ in range(2):
        with pytest.raises(Unavailable, match="Input/output error"):
            await store.durable()
    store.close()


def test_errors_are_of_the_platforms_own_tree(store: Store) -> None:
    store.close()
    with pytest.raises(PlatformError):
        store.read("pods", "default", "a")
