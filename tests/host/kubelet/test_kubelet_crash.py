"""The control plane is killed for real: what it started must go on, and its successor must know everything."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from penstock.host.kubelet.attempts import attempts
from penstock.host.kubelet.layout import Layout
from penstock.host.kubelet.orphans import kill_all
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec

HOST = Path(__file__).with_name("crash_host.py")
SCRIPT = "echo up; while ! test -e go; do sleep 0.02; done; exit 6"


def wanted(script: str) -> Pod:
    container = Container(name="main", image="x", command=("/bin/sh", "-c", script))
    spec = PodSpec(node_name="n1", restart_policy="Never", containers=(container,))
    return Pod(metadata=ObjectMeta(name="a", namespace="default"), spec=spec)


class Host:
    """The process that will be killed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def until(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        assert self.process.stdout
        async with asyncio.timeout(30):
            while line := await self.process.stdout.readline():
                document: dict[str, Any] = msgspec.json.decode(line)
                if holds(document["status"]):
                    return document
        raise AssertionError("the host ended")

    async def first_line(self) -> None:
        assert self.process.stdout
        assert await self.process.stdout.readline()

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@pytest.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    hosts: list[Host] = []

    async def spawned(script: str = SCRIPT) -> Host:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(HOST),
            str(tmp_path),
            msgspec.json.encode(wanted(script)).decode(),
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        hosts.append(Host(process))
        return hosts[-1]

    yield spawned
    for host in hosts:
        with contextlib.suppress(ProcessLookupError):
            await host.kill()
    kill_all(tmp_path)


def is_ready(status: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ()))


def copies(mark: str) -> int:
    """How many shells run the container's script; `mark` occurs in it and nowhere else."""
    parents: dict[str, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[:2] == [b"/bin/sh", b"-c"] and mark.encode() in words[2]:
                after_name = (folder / "stat").read_text().rpartition(")")[2]
                parents[folder.name] = after_name.split()[1]
    return sum(parent not in parents for parent in parents.values())  # a child is about to be `sleep`


@pytest.mark.timeout(180)  # nine hosts in a row
@pytest.mark.skipif(sys.platform != "linux", reason="counts processes through /proc")
async def test_whenever_the_control_plane_is_killed_there_is_never_a_second_copy(
    tmp_path: Path, spawn: Any
) -> None:
    mark = f"mark-{tmp_path.parent.name}-{tmp_path.name}"
    random = Random(7)
    for _ in range(8):
        host = await spawn(f": {mark}; {SCRIPT}")
        await host.first_line()
        await asyncio.sleep(random.uniform(0, 0.08))  # while the container is being started or adopted
        await host.kill()
        assert copies(mark) <= 1
    host = await spawn(f": {mark}; {SCRIPT}")
    await host.until(is_ready)
    assert copies(mark) == 1


async def test_pods_outlive_a_killed_control_plane_and_are_adopted(tmp_path: Path, spawn: Any) -> None:
    first = await spawn()
    before = await first.until(is_ready)
    await first.kill()
    folder = Layout(tmp_path).pod("n1", before["uid"]).container("main")
    attempt = attempts(folder)[-1]
    assert attempt.is_running()

    second = await spawn()
    after = await second.until(is_ready)
    own, adopted = before["status"]["containerStatuses"][0], after["status"]["containerStatuses"][0]
    assert adopted["containerID"] == own["containerID"]
    assert adopted["state"] == own["state"]
    assert len(attempts(folder)) == 1
    await second.kill()
    assert attempt.is_running()

    (folder / "cwd" / "go").touch()
    await attempt.wait()
    third = await spawn()
    ended = await third.until(lambda status: status.get("phase") == "Failed")
    assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 6
