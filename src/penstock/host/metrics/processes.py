"""What a container's processes consume: CPU time so far, and memory now.

Memory that processes share, such as weights that they map, counts once: each has its part of every page (Linux: PSS, proc(5)). Counted
in full in each, replicas of one model would seem to need its weights as often as there are replicas.

Counted is everything below the container's shim. What children had used is kept by whoever waits for them, and the shim waits
for orphans, so the sum of CPU time never goes back while a container lives.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import NamedTuple

import psutil

from penstock.host.kubelet.attempts import Attempt, attempts
from penstock.host.kubelet.layout import PodFolder

FRESH_S = 1.0
"""How long one look at the machine's processes serves: pods that are looked at together share it."""


class Consumption(NamedTuple):
    """`cpu_s` since the container started; `memory_bytes` resident, a page that n processes have as an nth in each; and its `pids`.

    `run` tells one start of the container from the next: CPU time of different runs is not compared.
    """

    run: str
    cpu_s: float
    memory_bytes: int
    pids: frozenset[int]


class Processes:
    """The machine's processes by their parents. Blocks for milliseconds: call it in a thread, or in several."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen_at = float("-inf")
        self._children: dict[int, list[psutil.Process]] = {}

    def consumption(self, folder: PodFolder) -> dict[str, Consumption]:
        """By container of the pod in this folder, of those that run."""
        if not folder.containers.is_dir():
            return {}
        found: dict[str, Consumption] = {}
        for container in sorted(folder.containers.iterdir()):
            kept = attempts(container)
            if kept and kept[-1].is_running() and (seen := self._consumption(kept[-1])) is not None:
                found[container.name] = seen
        return found

    def _consumption(self, attempt: Attempt) -> Consumption | None:
        identity = attempt.identity()
        if identity is None:
            return None
        shim, first, _ = identity
        try:
            above = psutil.Process(shim.pid)
            waited, command = above.cpu_times(), above.cmdline()
        except psutil.Error:
            return None
        cpu_s = waited.children_user + waited.children_system
        memory_bytes, pids = 0, set()
        for process in self._below(shim.pid):
            # One that ends right now is counted by its parent the next time.
            with contextlib.suppress(psutil.Error), process.oneshot():
                if process.ppid() == shim.pid and process.cmdline() == command:
                    continue  # the shim's keeper, which is ours
                times = process.cpu_times()
                cpu_s += times.user + times.system + times.children_user + times.children_system
                memory_bytes += _memory_bytes(process)
                pids.add(process.pid)
        run = f"{attempt.number}.{first.pid}.{first.start}"
        return Consumption(run, cpu_s, memory_bytes, frozenset(pids)) if pids else None

    def _below(self, pid: int) -> list[psutil.Process]:
        children = self._table(FRESH_S)
        if pid not in children:  # it started since: a shim that runs has a child
            children = self._table(0.0)
        found = list(children.get(pid, ()))
        for process in found:  # grows while it is walked
            found.extend(children.get(process.pid, ()))
        return found

    def _table(self, oldest_s: float) -> dict[int, list[psutil.Process]]:
        with self._lock:
            if time.monotonic() - self._seen_at > oldest_s:
                table: dict[int, list[psutil.Process]] = {}
                for process in psutil.process_iter(["ppid"]):
                    table.setdefault(process.info["ppid"], []).append(process)
                self._children, self._seen_at = table, time.monotonic()
            return self._children


def _memory_bytes(process: psutil.Process) -> int:
    """Of a process whose pages may not be looked at, or on a system that does not tell who shares them: all that it has."""
    if psutil.LINUX:
        with contextlib.suppress(psutil.AccessDenied):
            return int(process.memory_full_info().pss)
    return int(process.memory_info().rss)
