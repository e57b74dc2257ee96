"""What is a router that knows of caches worth with real engines?

Four engines of ours on the CPU, started by `penstock up`, behind each router in turn: round robin, random and least request (Envoy),
sglang-router and vllm-router with cache_aware, and our gateway. Prefixes exceed one engine's cache and fit all four's. Every run has texts
of its own, so none finds another's in a cache; the order turns with every repeat. Each engine has its own share of this machine's cores,
where control groups can be made; routers and load have the rest. Engines tell of their caches all the while, and our gateway listens, also when
others are measured.
Prints tables and one RESULT line; a whole run is kept in `benchmarks/results/routing_real.json`.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from benchmarks.gateway.peers import Missing
from benchmarks.report import Target, conclude
from benchmarks.routing_real.cases import (
    CASES,
    CORES,
    DRIFTING,
    FOOTPRINT_BLOCKS,
    KV_BLOCKS,
    REPLICAS,
    RESTART,
    SHARED,
    SHORT,
    SKEWED,
    TURNS,
    Case,
)
from benchmarks.routing_real.counters import Counters
from benchmarks.routing_real.fleet import NAME, Fleet
from benchmarks.routing_real.systems import SYSTEMS, Contender

from penstock.app.quickstart import model_folder
from penstock.testing.load.player import Pace
from penstock.testing.load.session import Bench, Setup
from penstock.testing.load.summary import Objective, Result
from penstock.testing.load.target import target_of

OURS, ROUND_ROBIN = "penstock", "round-robin"
OBJECTIVE = Objective(ttft_s=1.0)
FILES = 16_384


async def measure(
    case: Case,
    fleet: Fleet,
    contenders: list[Contender],
    repeats: int,
    seconds: float,
    rate_per_s: float | None,
) -> dict[str, dict[str, Any]]:
    """By contender's name."""
    duration_s = seconds * case.stretch
    pace = Pace(
        rate_per_s=rate_per_s,
        concurrency=case.concurrency,
        duration_s=duration_s,
        warmup_s=duration_s / 4,
        ramp_s=duration_s / 8,
    )
    setup = Setup(
        workload=case.workload,
        pace=pace,
        objective=OBJECTIVE,
        model=NAME,
        repeats=repeats,
        timeout_s=120.0,
        tokenizer=model_folder(),
        seed=1 + [one.name for one in CASES].index(case.name) * 1000,
    )
    counters = Counters(fleet, contenders, duration_s / 2 if case.kills else None)
    bench = Bench(setup, [target_of("--url", one.url) for one in contenders], counters)
    try:
        await bench.check()
        results, ratios = await bench.measure()
    finally:
        bench.close()
    return {
        one.name: figures(result)
        | {
            "engines_hit_rate": round(counters.hit_rate(one.name), 4),
            "router_cpu_ms": round(counters.cpu_ms(one.name), 4),
            "ours_to_it": [msgspec.to_builtins(ratio) for ratio in ratios if ratio.against == result.target],
        }
        for one, result in zip(contenders, results, strict=True)
    }


def figures(result: Result) -> dict[str, Any]:
    """All repeats together, and each."""
    return {
        "whole": msgspec.to_builtins(result.whole),
        "repeats": [msgspec.to_builtins(one) for one in result.repeats],
        "errors": result.messages,
    }


def print_case(case: Case, found: dict[str, dict[str, Any]]) -> None:
    """A table."""
    print(f"\n{case.name}")
    head = (
        "req/s",
        "out tok/s",
        "ttft p50",
        "ttft p99",
        "e2e p99",
        "engines' hits",
        "router's CPU",
        "errors",
    )
    print(f"  {'':15}" + "".join(f"{title:>14}" for title in head))
    for name, one in found.items():
        whole = one["whole"]
        cells = (
            f"{whole['requests_per_s']:.2f}",
            f"{whole['output_tokens_per_s']:.1f}",
            f"{whole['ttft_s']['p50'] * 1000:.0f} ms",
            f"{whole['ttft_s']['p99'] * 1000:.0f} ms",
            f"{whole['e2e_s']['p99'] * 1000:.0f} ms",
            f"{one['engines_hit_rate']:.1%}",
            f"{one['router_cpu_ms']:.2f} ms",
            f"{whole['requests'] - whole['answered']}",
        )
        print(f"  {name:15}" + "".join(f"{cell:>14}" for cell in cells))


def targets(found: dict[str, dict[str, dict[str, Any]]], peers: set[str]) -> list[Target]:
    """What was promised; only of what was measured."""
    promises = []

    def throughput(case: str, name: str) -> float:
        return float(found[case][name]["whole"]["requests_per_s"])

    for case in (SHARED, SKEWED, TURNS, DRIFTING, RESTART):
        if case in found and ROUND_ROBIN in found[case]:
            ours = throughput(case, OURS) or 1e-9
            ratio = throughput(case, ROUND_ROBIN) / ours
            promises.append(Target(f"{case}: round robin's throughput to ours", round(ratio, 3), 0.5))
            if among := peers & set(found[case]):
                best = max(throughput(case, name) for name in among) / ours
                promises.append(
                    Target(f"{case}: the best peer's throughput to ours", round(best, 3), 1 / 1.1)
                )
    for case, systems in found.items():
        if case != SHORT and ROUND_ROBIN in systems:
            p99 = {name: systems[name]["whole"]["ttft_s"]["p99"] for name in (OURS, ROUND_ROBIN)}
            ratio = p99[OURS] / (p99[ROUND_ROBIN] or 1e-9)
            promises.append(Target(f"{case}: our p99 TTFT to round robin's", round(ratio, 3), 0.4))
    if SHORT in found:
        others = [throughput(SHORT, name) for name in found[SHORT] if name != OURS]
        if others:
            ratio = max(others) / (throughput(SHORT, OURS) or 1e-9)
            promises.append(Target("short: the best throughput to ours", round(ratio, 3), 1.02))
    failed = [
        1.0 - one["whole"]["answered"] / max(1, one["whole"]["requests"])
        for case, systems in found.items()
        for name, one in systems.items()
        if name == OURS and case != RESTART  # nobody can go on with an answer that was cut
    ]
    if failed:
        promises.append(Target("our error rate, where no engine is killed", round(max(failed), 5), 0.001))
    return promises


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.5)
    parser.add_argument("--systems", nargs="*", default=[one.name for one in SYSTEMS])
    parser.add_argument("--cases", nargs="*", default=[one.name for one in CASES])
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (FILES if hard == resource.RLIM_INFINITY else min(FILES, hard), hard)
    )
    missing: dict[str, str] = {}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-")))
        fleet = stack.enter_context(Fleet(folder / "home", REPLICAS, KV_BLOCKS, CORES))
        engine_cores = CORES if fleet.is_limited() else None
        print(
            f"{REPLICAS} engines of {KV_BLOCKS} KV blocks and {engine_cores or 'all'} cores; shared prefixes are {FOOTPRINT_BLOCKS} blocks"
        )
        contenders = [Contender(OURS, fleet.url, fleet.gateway)]
        for system in SYSTEMS:
            if system.name in arguments.systems:
                try:
                    contenders.append(system.start(fleet.engines, folder / system.name, stack))
                except Missing as why:
                    missing[system.name] = str(why)
                    print(f"{system.name}: SKIPPED: {why}", flush=True)
        for case in CASES:
            if case.name in arguments.cases:
                rate_per_s = None
                if case.share and ROUND_ROBIN in found.get(SHARED, {}):
                    rate_per_s = case.share * found[SHARED][ROUND_ROBIN]["whole"]["requests_per_s"]
                elif case.share:
                    continue
                print(f"{case.name}" + (f": {rate_per_s:.2f} a second" if rate_per_s else ""), flush=True)
                found[case.name] = uvloop.run(
                    measure(case, fleet, contenders, arguments.repeats, arguments.seconds, rate_per_s)
                )
    for case in CASES:
        if case.name in found:
            print_case(case, found[case.name])
    is_whole = not missing and len(found) == len(CASES) and len(contenders) == len(SYSTEMS) + 1
    conclude(
        "routing_real",
        targets(found, {one.name for one in SYSTEMS if one.is_peer}),
        is_whole=is_whole,
        setup={
            "replicas": REPLICAS,
            "kv_blocks": KV_BLOCKS,
            "engine_cores": engine_cores,
            "prefix_blocks": FOOTPRINT_BLOCKS,
            "repeats": arguments.repeats,
            "seconds": arguments.seconds,
            "systems": {one.name: one.note for one in SYSTEMS},
        },
        missing=missing,
        cases=found,
    )


if __name__ == "__main__":
    main()
