"""What does it cost that several gateways route, and how much of that does gossip give back?

The same requests go to the same simulated engines (8 replicas of llama-8b-a100) through 1, 2 and 4 gateways, each request to one by chance:
with gateways that do not hear each other, and with gossip whose messages take 20, 50 and 200 ms, and of which 10 % are lost. Regret is by how
much the time to an answer is longer than with one gateway that sees all. Routers and gossip are those of the gateway; the network is simulated.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import mean, median, quantiles
from typing import NamedTuple

from benchmarks.report import Target, conclude
from benchmarks.routing_gateways.cost import cost
from benchmarks.routing_gateways.workload import Arrival, conversations, shared_prefix
from benchmarks.routing_gateways.world import Network, Outcome, World

from penstock.engine.simulated.profile import load_profile

PROFILE, ENGINES = "llama-8b-a100", 8
WARM_S = 50.0
Workload = Callable[[int, float, float, int], list[Arrival]]


class Case(NamedTuple):
    """Requests per second, and how many groups there are."""

    workload: Workload
    rate: float
    groups: int


CASES = {
    "shared-prefix": Case(shared_prefix, 10.0, 60),
    "conversations": Case(conversations, 20.0, 0),
}
NETWORKS: dict[str, Network | None] = {
    "no gossip": None,
    "20 ms": Network(0.020),
    "50 ms": Network(0.050),
    "200 ms": Network(0.200),
    "20 ms, 10 % lost": Network(0.020, 0.1),
}


class Job(NamedTuple):
    """One run."""

    case: str
    gateways: int
    network: str
    seed: int
    span_s: float


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


def run(job: Job) -> Figures:
    """In a process of its own."""
    case = CASES[job.case]
    world = World(load_profile(PROFILE), ENGINES, job.gateways, NETWORKS[job.network], job.seed)
    arrivals = case.workload(job.seed, case.rate, job.span_s, case.groups)
    return figures(world.run(arrivals, job.span_s, WARM_S))


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


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--span-s", type=float, default=120.0)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    ways = [(1, "no gossip"), *((number, name) for number in (2, 4) for name in NETWORKS)]
    jobs = [
        Job(case, gateways, network, seed, options.span_s)
        for case in CASES
        for gateways, network in ways
        for seed in range(1, options.seeds + 1)
    ]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        results = dict(zip(jobs, pool.map(run, jobs), strict=True))
    rows, targets = [], []
    for case, about in CASES.items():
        print(f"\n{case}: {about.rate:g} requests/s, {ENGINES} engines, mean of {options.seeds} seeds")
        print(
            f"{'gateways':>8}  {'gossip':<18}{'E2E mean s':>11}{'regret':>8}{'p99 s':>8}{'regret':>8}"
            f"{'TTFT p50':>10}{'p99':>8}{'hits':>8}{'kB/s':>7}"
        )
        alone = _over_seeds(results, case, 1, "no gossip")
        for gateways, network in ways:
            one = _over_seeds(results, case, gateways, network)
            regret, regret_p99 = one.e2e_mean / alone.e2e_mean - 1, one.e2e_p99 / alone.e2e_p99 - 1
            print(
                f"{gateways:>8}  {network:<18}{one.e2e_mean:>11.3f}{regret:>8.1%}{one.e2e_p99:>8.2f}{regret_p99:>8.1%}"
                f"{one.ttft_p50:>10.3f}{one.ttft_p99:>8.2f}{one.hit_rate:>8.1%}{one.bytes_per_s / 1000:>7.1f}"
            )
            rows.append({"case": case, "gateways": gateways, "gossip": network, **one._asdict()})
            if gateways > 1 and network == "20 ms":
                targets.append(
                    Target(f"{case}: regret of E2E mean, {gateways} gateways, 20 ms", regret, 0.05)
                )
    costs = [cost(gateways, 5.0) for gateways in (2, 4)]
    print("\n1,000 requests/s to each gateway, prompts of 7,200 tokens, 128 endpoints")
    for spent in costs:
        print(
            f"{spent.gateways} gateways: {spent.bytes_per_s / 1000:.0f} kB/s and {spent.messages_per_s:.0f} messages/s to each other one, "
            f"{spent.telling:.1%} of a core to tell, {spent.hearing:.1%} to hear, {spent.pushed_out} chains pushed out"
        )
        targets.append(Target(f"bytes/s to each of {spent.gateways - 1} others", spent.bytes_per_s, 1e6))
    is_whole = options.seeds >= 3 and options.span_s >= 120
    conclude(
        "routing_gateways", targets, is_whole=is_whole, rows=rows, costs=[one._asdict() for one in costs]
    )


def _over_seeds(results: dict[Job, Figures], case: str, gateways: int, network: str) -> Figures:
    of = [
        got
        for job, got in results.items()
        if (job.case, job.gateways, job.network) == (case, gateways, network)
    ]
    return Figures(*(mean(values) for values in zip(*of, strict=True)))


if __name__ == "__main__":
    main()
