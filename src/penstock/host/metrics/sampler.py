"""Looks at every running pod's processes now and then, and remembers what they use: what a metrics server is on Kubernetes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from penstock.contracts.controller import Cache, Key, Watch, own_key
from penstock.decide.usage import Look, Usage, usage
from penstock.host.kubelet.layout import Layout, PodFolder
from penstock.host.metrics.gpus import GpuLoad, GpuReader, in_use
from penstock.host.metrics.processes import Consumption, Processes
from penstock.kit.clock import Clock
from penstock.resources.pod import Pod

INTERVAL_S = 15.0
"""Between looks. All pods are looked at together, at multiples of it: one look at the machine's processes serves them all."""
FIRST_INTERVAL_S = 5.0
"""The second look comes sooner, so that a new pod's usage is soon known."""
SOON_S = 0.01
"""What is due so soon is due."""

Read = Callable[[PodFolder], Awaitable[tuple[Mapping[str, Consumption], tuple[GpuLoad, ...]]]]
"""Looks at a pod by its folder: what its containers consumed, and the machine's GPUs."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A pod at its last look: by container, the look and the usage since the one before."""

    at: float
    looks: Mapping[str, Look] = field(default_factory=dict)
    usages: Mapping[str, Usage] = field(default_factory=dict)


class UsageSampler:
    """Keeps the last usage of each container, by pod. Implements `Controller`."""

    name = "usage"

    def __init__(self, cache: Cache, clock: Clock, *, layout: Layout, read: Read) -> None:
        """`read` looks at a pod, without holding up the event loop."""
        self._cache = cache
        self._clock = clock
        self._layout = layout
        self._read = read
        self._seen: dict[str, _Seen] = {}
        self._uids: dict[Key, str] = {}

    def watches(self) -> tuple[Watch, ...]:
        """Every pod."""
        return (Watch(Pod, own_key),)

    def of(self, pod: Pod) -> Mapping[str, Usage]:
        """By container, as last measured; it says when. Empty where nothing is known."""
        seen = self._seen.get(pod.metadata.uid)
        return seen.usages if seen else {}

    async def reconcile(self, key: Key) -> float | None:
        """Look at the pod, if the last look is long enough ago."""
        pod = self._cache.get(Pod, key.name, key.namespace)
        uid = pod.metadata.uid if pod else ""
        if self._uids.get(key, uid) != uid:
            self._forget(key)
        if pod is None or pod.status.phase != "Running" or not pod.spec.node_name:
            self._forget(key)
            return None
        self._uids[key] = uid
        before = self._seen.get(uid)
        if before is None or _due_in_s(before, self._clock.now()) <= SOON_S:
            before = await self._look(before, self._layout.pod(pod.spec.node_name, uid))
            self._seen[uid] = before
        return _due_in_s(before, self._clock.now())

    async def _look(self, before: _Seen | None, folder: PodFolder) -> _Seen:
        used, loads = await self._read(folder)
        now = self._clock.now()
        looks = {
            name: Look(now, seen.run, seen.cpu_s, seen.memory_bytes, in_use(loads, seen.pids))
            for name, seen in used.items()
        }
        earlier = before.looks if before else {}
        pairs = {name: usage(earlier[name], look) for name, look in looks.items() if name in earlier}
        return _Seen(now, looks, {name: found for name, found in pairs.items() if found is not None})

    def _forget(self, key: Key) -> None:
        self._seen.pop(self._uids.pop(key, ""), None)


def reading_processes(gpus: GpuReader) -> Read:
    """Looks at the real processes, and at these GPUs, in a thread."""

    processes = Processes()

    async def read(folder: PodFolder) -> tuple[Mapping[str, Consumption], tuple[GpuLoad, ...]]:
        return await asyncio.to_thread(lambda: (processes.consumption(folder), gpus.read()))

    return read


def _due_in_s(seen: _Seen, now: float) -> float:
    due_at = seen.at + FIRST_INTERVAL_S
    if seen.looks and seen.looks.keys() == seen.usages.keys():
        due_at = math.ceil(due_at / INTERVAL_S) * INTERVAL_S
    return max(0.0, due_at - now)
