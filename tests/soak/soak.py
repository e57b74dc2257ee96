"""A real gateway process under mixed load and faults: no answer lost or doubled; memory, descriptors and tasks stay flat.

`python tests/soak/soak.py --seconds 1800`; exits 1 when something that must never be has been.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import socket
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil
from soak_engine import Book, SoakEngine
from soak_load import Callers, Ledger

from penstock.contracts.exchange import Endpoint, RevisionRoute, RouteTable, ServiceRoute

ENGINES = 3
FAULT_SHARE = 0.05
EACH = 3
RESTART_EVERY_S = 7.0
DOWN_S = 0.3
WARM_SHARE = 0.3
MAX_WARM_S = 180.0
GROWTH_BYTES = 8 << 20
"""Of a run of 30 s, in which not all that is bounded has filled; a leak of 1 KB a request is more."""
GROWTH_SHARE = 0.05
MIN_RIGHT_SHARE = 0.6
SETTLE_S = 30.0


@dataclass
class Sample:
    at: float
    rss: int
    descriptors: int
    tasks: int


@dataclass
class Gateway:
    """The process under test."""

    port: int
    process: asyncio.subprocess.Process
    tasks: int = 0
    samples: list[Sample] = field(default_factory=list)

    def sample(self) -> Sample:
        seen = psutil.Process(self.process.pid)
        at = asyncio.get_running_loop().time()
        return Sample(at, seen.memory_info().rss, seen.num_fds(), self.tasks)

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.tasks = int(line)


@contextlib.asynccontextmanager
async def gateway(engines: list[SoakEngine]) -> AsyncIterator[Gateway]:
    with tempfile.TemporaryDirectory() as name, socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))  # and never listens: so nobody else is given the port
        folder, port = Path(name), held.getsockname()[1]
        (folder / "table.json").write_bytes(msgspec.json.encode(table(engines)))
        program = Path(__file__).with_name("soak_gateway.py")
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(program), str(port), name, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"
        running = Gateway(port, process)
        listening = asyncio.create_task(running.listen())
        try:
            yield running
        finally:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.wait(), 30)
            await listening


def table(engines: list[SoakEngine]) -> RouteTable:
    endpoints = tuple(
        Endpoint(name=f"m-1-{n}", address="127.0.0.1", port=e.port) for n, e in enumerate(engines)
    )
    revision = RevisionRoute(name="m-1", weight_percent=100, endpoints=endpoints)
    service = ServiceRoute(
        namespace="default",
        name="m",
        uid="1",
        engine_model="m",
        phase="Ready",
        revisions=(revision,),
        timeout_s=15.0,
    )
    return RouteTable(version=1, services=(service,))


async def restart(engines: list[SoakEngine]) -> None:
    """One engine after the other dies and comes back."""
    for turn in range(1 << 30):
        await asyncio.sleep(RESTART_EVERY_S)
        engine = engines[turn % len(engines)]
        await engine.stop()
        await asyncio.sleep(DOWN_S)
        await engine.start()


async def settle(running: Gateway, before: Sample) -> Sample:
    """What is left when callers and engines are gone; waits for as long as that may take."""
    loop = asyncio.get_running_loop()
    until = loop.time() + SETTLE_S
    while True:
        await asyncio.sleep(0.5)
        now = running.sample()
        if (now.descriptors <= before.descriptors and now.tasks <= before.tasks) or loop.time() > until:
            return now


async def soak(seconds: float, seed: int) -> dict[str, Any]:
    """The figures; `violations` is empty when all held."""
    loop = asyncio.get_running_loop()
    book = Book()
    ledger = Ledger(book)
    engines = [SoakEngine(book, seed + n, FAULT_SHARE) for n in range(ENGINES)]
    for engine in engines:
        await engine.start()
    async with gateway(engines) as running:
        await asyncio.sleep(2.5)
        while not running.tasks:
            await asyncio.sleep(0.1)
        before, begun = running.sample(), loop.time()
        callers = Callers(running.port, ledger, seed)
        callers.start(EACH)
        restarting = asyncio.create_task(restart(engines))
        while (passed := loop.time() - begun) < seconds and running.process.returncode is None:
            await asyncio.sleep(min(1.0, seconds - passed))
            running.samples.append(running.sample())
        restarting.cancel()
        await callers.stop()
        for engine in engines:
            await engine.stop()
        after = await settle(running, before)
        died = running.process.returncode
    ledger.close()
    return report(ledger, running.samples, before, after, died, seconds)


def report(
    ledger: Ledger, samples: list[Sample], before: Sample, after: Sample, died: int | None, seconds: float
) -> dict[str, Any]:
    warm_s = min(MAX_WARM_S, seconds * WARM_SHARE)
    warm = [one for one in samples if one.at - samples[0].at >= warm_s]
    quarter = max(1, len(warm) // 4)
    early, late = warm[:quarter], warm[-quarter:]
    rss = [statistics.median(one.rss for one in part) for part in (early, late)]
    slope = (
        statistics.linear_regression([s.at for s in warm], [s.rss for s in warm]).slope
        if len(warm) > 1
        else 0.0
    )
    violations = dict(ledger.violations)
    if died is not None:
        violations["the gateway ended"] = died
    if rss[1] - rss[0] > max(GROWTH_BYTES, rss[0] * GROWTH_SHARE):
        violations["memory grew by bytes"] = int(rss[1] - rss[0])
    for name in ("descriptors", "tasks"):
        if getattr(after, name) > getattr(before, name):
            violations[f"{name} left over"] = getattr(after, name) - getattr(before, name)
    asked = sum(ledger.ends.values())
    if ledger.ends["right"] < MIN_RIGHT_SHARE * (
        asked - ledger.ends["left by the caller"] - ledger.ends["noise refused"]
    ):
        violations["too few right answers"] = ledger.ends["right"]
    return {
        "seconds": seconds,
        "asked": asked,
        "per_second": round(asked / seconds, 1),
        "ends": dict(ledger.ends.most_common()),
        "faults": dict(ledger.book.counts.most_common()),
        "rss_mb": {"before": mb(before.rss), "early": mb(rss[0]), "late": mb(rss[1]), "after": mb(after.rss)},
        "rss_slope_kb_per_minute": round(slope * 60 / 1024, 1),
        "descriptors": {"before": before.descriptors, "most": max(s.descriptors for s in samples), "after": after.descriptors},
        "tasks": {"before": before.tasks, "most": max(s.tasks for s in samples), "after": after.tasks},
        "violations": violations,
        "details": ledger.details,
    }  # fmt: skip


def mb(size: float) -> float:
    return round(size / (1 << 20), 1)


def main() -> int:
    """For `make soak`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536), most))
    figures = asyncio.run(soak(given.seconds, given.seed))
    print(json.dumps(figures, indent=2))
    return 1 if figures["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
