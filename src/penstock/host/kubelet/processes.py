"""Processes that are not our children: are they still who we think they are, and when do they end?

A process is known by its id and the time at which it started (`/proc/PID/stat`, field 22), so an id that the system gave away
again is never mistaken for ours. Where there is no /proc, psutil's command line takes the place of the start time.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import NamedTuple

import psutil

POLL_S = 0.25


class ProcessId(NamedTuple):
    """A process, safe against reuse of its number. `start` is in clock ticks since boot, 0 where unknown."""

    pid: int
    start: int


def is_alive(process: ProcessId, mention: str = "") -> bool:
    """Whether exactly this process runs; a zombie does not. `mention` must occur in its command line."""
    if process.start:
        return _start_of(process.pid) == process.start and (not mention or mention in _command(process.pid))
    try:
        found = psutil.Process(process.pid)
        return found.status() != psutil.STATUS_ZOMBIE and (
            not mention or mention in " ".join(found.cmdline())
        )
    except psutil.Error:
        return False


async def wait_until_dead(process: ProcessId) -> None:
    """Return once the process is gone; on Linux without polling."""
    if sys.platform == "linux":
        try:
            fd = os.pidfd_open(process.pid)
        except OSError:
            fd = -1
        if fd >= 0:
            try:
                if is_alive(process):
                    await _readable(fd)
            finally:
                os.close(fd)
            return
    while is_alive(process):  # noqa: ASYNC110 - nothing wakes us for a process that is not our child
        await asyncio.sleep(POLL_S)


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


def _start_of(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] in {b"Z", b"X"} else int(fields[19])


def _command(pid: int) -> str:
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return ""
