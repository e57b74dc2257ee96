"""What does the gateway cost, and what do others?

Puts each system in turn between a fake engine and a load generator (both in C, both far faster than any proxy) and reads the CPU time
of the system's processes from the kernel: per request, per streamed chunk, per new connection; then its memory under open streams.
Systems take turns within each repeat. Prints tables and one RESULT line; a whole run is kept in `benchmarks/results/gateway.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateway import summary
from benchmarks.gateway.cases import BODIES, CASES, Case, Requests
from benchmarks.gateway.measure import Running, build, cost, end, free_port, one_core, wait_until_listening
from benchmarks.gateway.peers import Missing
from benchmarks.gateway.summary import OURS, Samples
from benchmarks.gateway.systems import SYSTEMS, System
from benchmarks.report import conclude

WARM_UP_S = 0.4
HELD_STREAMS, FURTHER_STREAMS = 1000, 500
SETTLE_S = 3.0


@contextlib.contextmanager
def fake_engine() -> Iterator[Running]:
    port = free_port()
    process = subprocess.Popen([build("backend"), str(port)])
    try:
        wait_until_listening(port, process)
        yield Running("engine", port, process)
    finally:
        end(process)


@dataclass(frozen=True)
class Contender:
    """A system that runs, and how it is asked."""

    proxy: Running
    requests: Requests
    is_slow: bool


@contextlib.contextmanager
def running(system: System, engine: Running) -> Iterator[Contender]:
    """Raises Missing if it is not to be had here, RuntimeError if it does not answer."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        requests = Requests(Path(folder), system.key)
        proxy = system.start(engine.port, Path(folder) / system.name)
        try:
            proxy.wait_until_ready(BODIES["1k"], requests.headers)
            yield Contender(proxy, requests, system.is_slow)
        finally:
            proxy.stop()


def ask(contender: Contender, engine: Running, case: Case, seconds: float) -> dict[str, Any]:
    """One sample, after some requests that do not count."""
    proxy, requests = contender.proxy, contender.requests
    with one_core(proxy, engine) if case.is_alone else contextlib.nullcontext():
        if not case.streams:
            requests.load(case, WARM_UP_S).run(proxy.port)
        return cost(proxy, requests.load(case, seconds))


def ask_all(
    contenders: Sequence[Contender], engine: Running, cases: Sequence[Case], repeats: int, seconds: float
) -> Samples:
    """Every system in turn within each case of each repeat; who begins changes."""
    samples: Samples = {case.name: {one.proxy.name: [] for one in contenders} for case in cases}
    for repeat in range(repeats):
        for number, case in enumerate(cases):
            first = (repeat + number) % len(contenders)
            for one in [*contenders[first:], *contenders[:first]]:
                if one.is_slow and repeat:
                    continue
                sample = ask(one, engine, case, seconds)
                samples[case.name][one.proxy.name].append(sample)
                print(
                    f"repeat {repeat + 1}/{repeats}  {case.title:33} {one.proxy.name:20} {sample['cpu_us']:8.1f} µs CPU"
                    f"  {sample['per_s']:8.0f} {case.unit}s/s  p50 {sample['latency_us']['p50']:9.1f} µs"
                    + (f"  {sample['errors']} ERRORS" if sample["errors"] else ""),
                    flush=True,
                )
    return samples


def memory(contender: Contender) -> dict[str, float]:
    """Megabytes of a system that has just started: idle, and with streams open; kilobytes of each further stream."""
    proxy, requests = contender.proxy, contender.requests
    figures: dict[str, float] = {}
    figures["idle_mb"], figures["idle_pss_mb"] = proxy.memory_mb()
    with contextlib.ExitStack() as open_streams:
        for streams, name in ((HELD_STREAMS, "streams"), (FURTHER_STREAMS, "more_streams")):
            open_streams.callback(end, requests.held(streams).open(proxy.port))
            time.sleep(SETTLE_S)
            figures[f"{name}_mb"], figures[f"{name}_pss_mb"] = proxy.memory_mb()
    figures["further_kb"] = (figures["more_streams_mb"] - figures["streams_mb"]) / FURTHER_STREAMS * 1e3
    return {name: round(value, 2) for name, value in figures.items()}


def memory_of_all(systems: Sequence[System], engine: Running, missing: dict[str, str]) -> summary.Memory:
    """One after the other, each started anew; adds to `missing` why it could not be seen."""
    held: summary.Memory = {}
    for system in systems:
        try:
            with running(system, engine) as contender:
                held[system.name] = memory(contender)
            print(f"memory of {system.name:20} {held[system.name]['streams_mb']:8.1f} MB", flush=True)
        except RuntimeError as why:
            missing[f"memory of {system.name}"] = str(why)
    return held


def start_all(
    systems: Sequence[System], engine: Running, stack: contextlib.ExitStack
) -> tuple[list[Contender], dict[str, str]]:
    """Those that run, and why the others do not."""
    contenders, missing = [], {}
    for system in systems:
        try:
            contenders.append(stack.enter_context(running(system, engine)))
            print(f"{system.name}: {system.note}", flush=True)
        except (Missing, RuntimeError) as why:
            missing[system.name] = str(why)
            print(f"{system.name}: SKIPPED: {why}", flush=True)
    return contenders, missing


def listed(text: str | None, known: Sequence[str]) -> set[str]:
    """Names with commas between, all of them if there is no text."""
    names = set(known) if text is None else set(text.split(","))
    if unknown := names - set(known):
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each sample")
    parser.add_argument("--only", help="systems, with commas between")
    parser.add_argument("--cases", help="cases, with commas between; `memory` is one")
    chosen = parser.parse_args()
    # So that whoever ends the benchmark ends what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    only = listed(chosen.only, [system.name for system in SYSTEMS])
    wanted = listed(chosen.cases, [*(case.name for case in CASES), "memory"])
    systems = [system for system in SYSTEMS if system.name in only]
    cases = [case for case in CASES if case.name in wanted]
    held: summary.Memory = {}
    with fake_engine() as engine:
        with contextlib.ExitStack() as stack:
            contenders, missing = start_all(systems, engine, stack)
            samples = ask_all(contenders, engine, cases, chosen.repeats, chosen.seconds)
        if "memory" in wanted:
            startable = [one for one in systems if one.command is not None and one.name not in missing]
            held = memory_of_all(startable, engine, missing)
    summary.show(cases, samples, held, missing)
    conclude(
        "gateway",
        summary.targets(samples, held),
        is_whole=chosen.only is None and chosen.cases is None and OURS not in missing,
        systems={system.name: system.note for system in systems},
        missing=missing,
        seconds=chosen.seconds,
        samples=samples,
        memory=held,
    )
    if OURS in missing:
        raise SystemExit(f"{OURS} was not measured")


if __name__ == "__main__":
    main()
