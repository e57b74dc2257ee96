"""A process that is kept alive: restarted when it dies, at once if it had lived, later and later if it had not."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from penstock.app.child import Child, describe_exit, restart_delay_s
from penstock.kit.errors import Unavailable

READY = """
import asyncio, os
from penstock.app.link import Link
async def main():
    link = Link()
    link.say("hello " + os.environ.get("WORD", ""))
    link.ready()
    await link.lost.wait()
asyncio.run(main())
"""
FAILS = """
import asyncio
from penstock.app.link import Link
from penstock.kit.errors import Unavailable
async def main():
    Link().failed(Unavailable("no room", hint="make some"))
asyncio.run(main())
"""
DIES = "raise SystemExit('broken beyond words')"


def child(tmp_path: Path, source: str, said: list[str]) -> Child:
    (tmp_path / "probe_module.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "WORD": "you"}
    keep = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    return Child(
        "probe", module="probe_module", environment=environment, log=tmp_path / "log", keep=(keep,),
        said=lambda name, message: said.append(message),
    )  # fmt: skip


async def test_it_says_when_it_is_ready_is_restarted_when_killed_and_leaves_when_the_supervisor_does(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    probe = child(tmp_path, READY, said)
    running = asyncio.create_task(probe.run())
    async with asyncio.timeout(50):
        await probe.wait_ready()
        assert said == ["hello you"]
        first = probe.pid
        assert first
        os.kill(first, 9)
        while probe.pid in (first, None):
            await asyncio.sleep(0.02)
        assert any("signal 9; restarting now" in line for line in said)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await probe.kill()
        assert probe.pid is None


async def test_whoever_is_cancelled_while_a_process_starts_leaves_no_line_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs: list[tuple[socket.socket, socket.socket]] = []
    make = socket.socketpair

    def kept() -> tuple[socket.socket, socket.socket]:
        pairs.append(make())
        return pairs[-1]

    async def starts(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("penstock.app.child.socket.socketpair", kept)
    monkeypatch.setattr("penstock.app.child.asyncio.create_subprocess_exec", starts)
    running = asyncio.create_task(child(tmp_path, READY, []).run())
    while not pairs:
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [end.fileno() for end in pairs[0]] == [-1, -1]


async def test_a_child_that_cannot_run_says_why_and_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no room") as caught:
        await asyncio.wait_for(child(tmp_path, FAILS, []).run(), 50)
    assert caught.value.hint == "make some"


async def test_a_child_that_dies_before_it_is_ready_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="exit code 1 before it was ready: broken beyond words"):
        await asyncio.wait_for(child(tmp_path, DIES, []).run(), 50)


def test_waits_grow_with_quick_deaths() -> None:
    assert [restart_delay_s(n) for n in range(6)] == [0, 0, 0.25, 0.5, 1.0, 2.0]
    assert restart_delay_s(99) == 10
    assert (describe_exit(-9), describe_exit(3)) == ("signal 9", "exit code 3")
