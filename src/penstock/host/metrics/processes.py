"""What a container's processes consume: CPU time so far, and memory now.

Counted is everything below the container's shim. What children had used is kept by whoever waits for them, and the shim waits
for orphans, so the sum of CPU time never goes back while a container lives.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import psutil

from penstock.host.kubelet.attempts import Attempt, attempts
from penstock.host.kubelet.layout import PodFolder


class Consumption(NamedTuple):
    """`cpu_s` since the container started; `memory_bytes` resident, shared pages counted in each process; and its `pids`.

    `run` tells one start of the container from the next: CPU time of different runs is not compared.
    """

    run: str
    cpu_s: float
    memory_bytes: int
    pids: frozenset[int]


def consumption(folder: PodFolder) -> dict[str, Consumption]:
    """By container, of those that run. Reads /proc: call it in a thread."""
    if not folder.containers.is_dir():
        return {}
    found: dict[str, Consumption] = {}
    for container in sorted(folder.containers.iterdir()):
        kept = attempts(container)
        if kept and kept[-1].is_running() and (seen := _consumption(kept[-1])) is not None:
            found[container.name] = seen
    return found


def _consumption(attempt: Attempt) -> Consumption | None:
    identity = attempt.identity()
    if identity is None:
        return None
    shim, first, _ = identity
    try:
        above = psutil.Process(shim.pid)
        waited, command = above.cpu_times(), above.cmdline()
        below = above.children(recursive=True)
    except psutil.Error:
        return None
    cpu_s = waited.children_user + waited.children_system
    memory_bytes, pids = 0, set()
    for process in below:
        # One that ends right now is counted by its parent the next time.
        with contextlib.suppress(psutil.Error):
            if process.cmdline() == command:  # the shim's keeper, which is ours
                continue
            times, memory = process.cpu_times(), process.memory_info()
            cpu_s += times.user + times.system + times.children_user + times.children_system
            memory_bytes += memory.rss
            pids.add(process.pid)
    run = f"{attempt.number}.{first.pid}.{first.start}"
    return Consumption(run, cpu_s, memory_bytes, frozenset(pids)) if pids else None
