"""Who follows a log sees every run of the container, also one that is found before it has begun."""

from __future__ import annotations

import asyncio
from pathlib import Path

from penstock.host.kubelet.layout import Layout
from penstock.host.kubelet.logs import PodLogs
from penstock.kit.clock import SystemClock
from penstock.resources.pod import Pod
from penstock.testing.factories import pod

LINE = b"2026-01-01T00:00:00.000000000Z stdout F %s\n"


def known(name: str = "a") -> Pod:
    return pod(name, node="n", uid="uid-1")


async def test_a_run_that_has_not_begun_is_waited_for(tmp_path: Path) -> None:
    folder = Layout(tmp_path).pod("n", "uid-1")
    attempt = folder.container("main") / "0"
    attempt.mkdir(parents=True)
    logs = PodLogs(tmp_path, SystemClock())
    following = asyncio.ensure_future(_all(logs))
    await asyncio.sleep(0.3)
    assert not following.done()
    (attempt / "log").write_bytes(LINE % b"run 0")
    (attempt / "pid").write_text("1 1 1 1 0.0\n")
    (attempt / "exit").write_text("0 0 0.0 0.0\n")
    folder.finish(None)
    async with asyncio.timeout(30):
        assert b"run 0" in await following


async def test_a_run_that_never_began_ends_with_its_pod(tmp_path: Path) -> None:
    folder = Layout(tmp_path).pod("n", "uid-1")
    (folder.container("main") / "0").mkdir(parents=True)
    following = asyncio.ensure_future(_all(PodLogs(tmp_path, SystemClock())))
    await asyncio.sleep(0.1)
    folder.finish(None)
    async with asyncio.timeout(30):
        assert await following == b""


async def _all(logs: PodLogs) -> bytes:
    return b"".join([piece async for piece in logs.open_log(known(), follow=True)])
