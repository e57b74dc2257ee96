"""What does it cost that several gateways route, and how much of that does gossip give back?

The same requests go to the same simulated engines (8 replicas of llama-8b-a100) through 1, 2 and 4 gateways, each request to one by chance:
with gateways that do not hear each other, and with gossip whose messages take 20 and 50 ms, and of which 10 % are lost. Regret is by how much
the time to an answer is longer than with one gateway that sees all, with the same seeds. Routers and gossip are those of the gateway; the
network is simulated, and time is virtual. `--quick` plays one seed of each.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from statistics import mean, median, quantiles
from typing import Any, NamedTuple

from benchmarks.report import Target, conclude
from benchmarks.routing_gateways.cost import Cost, cost
from benchmarks.routing_gateways.workload import Arrival, conversations, shared_prefix
from benchmarks.routing_gateways.world import Network, Outcome, World
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from penstock.engine.simulated.profile import load_profile

PROFILE, ENGINES = "llama-8b-a100", 8
SEEDS, FEWER_SEEDS = 5, 3
Workload = Callable[[int, float, float, int], list[Arrival]]


class Case(NamedTuple):
    """Requests per second in as many groups; what comes in the first `warm_s` of `span_s` is not counted. `most` is the regret that may be."""

    workload: Workload
    rate: float
    groups: int
    span_s: float
    warm_s: float
    most: float


CASES = {
    "shared-prefix": Case(shared_prefix, 10.0, 60, 90.0, 30.0, 0.05),
    "conversations": Case(conversations, 20.0, 0, 90.0, 30.0, 0.05),
    "cold fleet at its limit": Case(shared_prefix, 24.0, 60, 60.0, 0.0, 0.10),
}
NETWORKS: dict[str, Network | None] = {
    "no gossip": None,
    "20 ms": Network(0.020),
    "50 ms": Network(0.050),
    "20 ms, 10 % lost": Network(0.020, 0.1),
}
MAIN = ("no gossip", "20 ms")
"""With all seeds."""
WAYS = ((1, "no gossip"), *((number, name) for number in (2, 4) for name in NETWORKS))


class Job(NamedTuple):
    """One run."""

    case: str
    gateways: int
    network: str
    seed: int


class Figures(NamedTuple):
    """Of one run; seconds."""

    e2e_mean: float
    e2e_p50: float
    e2e_p99: float
    ttft_p50: float
    ttft_p99: float
    hit_rate: float
    requests: int
    bytes_per_s: float


Results = dict[Job, Figures]


def run(job: Job) -> Figures:
    """In a process of its own."""
    case = CASES[job.case]
    world = World(load_profile(PROFILE), ENGINES, job.gateways, NETWORKS[job.network], job.seed)
    arrivals = case.workload(job.seed, case.rate, case.span_s, case.groups)
    return figures(world.run(arrivals, case.span_s, case.warm_s))


def figures(outcome: Outcome) -> Figures:
    """Medians and the like."""
    e2e, ttft = outcome.e2e_s, outcome.ttft_s
    return Figures(
        mean(e2e),
        median(e2e),
        quantiles(e2e, n=100)[98],
        median(ttft),
        quantiles(ttft, n=100)[98],
        outcome.hit_rate,
        len(e2e),
        outcome.bytes_per_s,
    )


def seeds(network: str, *, is_quick: bool) -> Sequence[int]:
    """What each way of a network is played with."""
    return range(1, 2 if is_quick else 1 + (SEEDS if network in MAIN else FEWER_SEEDS))


def play(jobs: Sequence[Job], processes: int) -> Results:
    """All of them, with a bar on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
    ):
        task = progress.add_task("several gateways", total=len(jobs))
        waiting = {pool.submit(run, job): job for job in jobs}
        results: Results = {}
        for done in as_completed(waiting):
            results[waiting[done]] = done.result()
            progress.advance(task)
        return results


def table(results: Results, case: str, *, is_quick: bool) -> tuple[list[dict[str, Any]], list[Target]]:
    """Printed; the rows, and what was promised of them."""
    about, rows, targets = CASES[case], list[dict[str, Any]](), list[Target]()
    print(f"\n{case}: {about.rate:g} requests/s, {ENGINES} engines, means over seeds")
    print(
        f"{'gateways':>8}  {'gossip':<18}{'seeds':>5}{'E2E mean s':>11}{'regret':>8}{'p99 s':>8}{'regret':>8}"
        f"{'TTFT p50':>10}{'p99':>8}{'hits':>8}{'kB/s':>7}"
    )
    for gateways, network in WAYS:
        of = seeds(network, is_quick=is_quick)
        one = over(results, case, gateways, network, of)
        alone = over(results, case, 1, "no gossip", of)
        regret, regret_p99 = one.e2e_mean / alone.e2e_mean - 1, one.e2e_p99 / alone.e2e_p99 - 1
        print(
            f"{gateways:>8}  {network:<18}{len(of):>5}{one.e2e_mean:>11.3f}{regret:>8.1%}{one.e2e_p99:>8.2f}{regret_p99:>8.1%}"
            f"{one.ttft_p50:>10.3f}{one.ttft_p99:>8.2f}{one.hit_rate:>8.1%}{one.bytes_per_s / 1000:>7.1f}",
            flush=True,
        )
        rows.append(
            {
                "case": case,
                "gateways": gateways,
                "gossip": network,
                "seeds": len(of),
                "regret": regret,
                "regret_p99": regret_p99,
                **one._asdict(),
            }
        )
        if gateways > 1 and network == "20 ms":
            name = f"{case}: regret of E2E mean, {gateways} gateways, 20 ms"
            targets.append(Target(name, regret, about.most))
    return rows, targets


def over(results: Results, case: str, gateways: int, network: str, of: Sequence[int]) -> Figures:
    """Means over these seeds."""
    each = [results[Job(case, gateways, network, seed)] for seed in of]
    return Figures(*(mean(values) for values in zip(*each, strict=True)))


def costs_of(spent: Sequence[Cost]) -> list[Target]:
    """Printed, with what was promised."""
    print("\n1,000 requests/s to each gateway, prompts of 7,200 tokens, 128 endpoints")
    for one in spent:
        print(
            f"{one.gateways} gateways: {one.bytes_per_s / 1000:.0f} kB/s and {one.messages_per_s:.0f} messages/s to each other one, "
            f"{one.telling:.1%} of a core to tell, {one.hearing / (one.gateways - 1):.1%} to hear each other one, "
            f"{one.pushed_out} chains pushed out"
        )
    return [Target(f"bytes/s to each of {one.gateways - 1} others", one.bytes_per_s, 1e6) for one in spent]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed of each")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    jobs = [
        Job(case, gateways, network, seed)
        for case in CASES
        for gateways, network in WAYS
        for seed in seeds(network, is_quick=options.quick)
    ]
    results = play(jobs, options.processes)
    rows, targets = list[dict[str, Any]](), list[Target]()
    for case in CASES:
        more, promised = table(results, case, is_quick=options.quick)
        rows += more
        targets += promised
    spent = [cost(gateways, 5.0) for gateways in (2, 4)]
    targets += costs_of(spent)
    conclude(
        "routing_gateways",
        targets,
        is_whole=not options.quick,
        rows=rows,
        costs=[one._asdict() for one in spent],
    )


if __name__ == "__main__":
    main()
