"""What engines and routers count while a load runs: prompt tokens found in caches, and processor time."""

from __future__ import annotations

import asyncio

import psutil
from benchmarks.gateway.measure import cpu_ns
from benchmarks.routing_real.fleet import Cached, Fleet
from benchmarks.routing_real.systems import Contender

from penstock.testing.load.outcome import Outcome
from penstock.testing.load.session import Told


class Counters(Told):
    """Reads them before and after each run; with `kill_after_s` kills one engine so long after its start, the next one in each repeat."""

    def __init__(self, fleet: Fleet, contenders: list[Contender], kill_after_s: float | None) -> None:
        self._fleet, self._kill_after_s = fleet, kill_after_s
        self._by_url = {one.url: one for one in contenders}
        self._found = {one.name: [0.0, 0.0] for one in contenders}
        self._cpu_ns = dict.fromkeys(self._found, 0)
        self._asked = dict.fromkeys(self._found, 0)

    def began(self, target: str, run: str) -> None:
        self._one, self._run, self._answers = self._by_url[target], run, 0
        self._before, self._lost, self._again = self._fleet.cached(), dict[str, Cached](), None
        self._processes: list[psutil.Process] = list(self._one.processes())
        self._cpu_before = cpu_ns(self._processes)
        if self._kill_after_s is not None:
            self._again = asyncio.create_task(self._kill(self._kill_after_s))

    def answered(self, outcome: Outcome) -> None:
        self._answers += 1

    def ended(self) -> None:
        name = self._one.name
        self._cpu_ns[name] += cpu_ns(self._processes) - self._cpu_before
        self._asked[name] += self._answers
        if self._kill_after_s is not None:
            self._fleet.wait_until_ready()
        nothing = Cached(0.0, 0.0)
        hits = queries = 0.0
        for url, now in self._fleet.cached().items():
            before, lost = self._before[url], self._lost.get(url, nothing)
            hits += now.hits + lost.hits - before.hits
            queries += now.queries + lost.queries - before.queries
        self._found[name][0] += hits
        self._found[name][1] += queries
        share = hits / queries if queries else 0.0
        print(f"  {self._run}  {name:15} {self._answers:6} answers  {share:6.1%} cached", flush=True)

    def hit_rate(self, name: str) -> float:
        """Of all its runs together."""
        hits, queries = self._found[name]
        return hits / queries if queries else 0.0

    def cpu_ms(self, name: str) -> float:
        """Of the router itself, for each request."""
        return self._cpu_ns[name] / 1e6 / max(1, self._asked[name])

    async def _kill(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        url = self._fleet.engines[int(self._run.partition("/")[0]) % len(self._fleet.engines)]
        self._lost[url] = await asyncio.to_thread(self._fleet.kill, url)
