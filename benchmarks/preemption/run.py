"""How much work is lost for each GPU-second that inference takes from training? Ours beside kube-scheduler's order of victims.

Twelve hours of twelve nodes of eight GPUs on virtual time: training fills them, bursts of inference push it aside. Both decide in the same runs, of
the same seeds, on jobs that behave alike: whoever is told to end saves within its grace if it is one that does. Only who is told differs. Ours is
the product's own code. `workload.py` of `penstock.testing.preemption` states every distribution. Three mixes of jobs: all save (some hide it, some
lie); some save nothing at all; and none saves when told, which shows what the order alone is worth. `informed` is no product: it takes our decision with
what each job would really lose, and so tells what knowing more of them could gain. At the end the training example runs for real, twice. `--quick` plays two seeds.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from statistics import median
from typing import NamedTuple

from benchmarks.preemption.curves import loss_curves, show_curves
from benchmarks.report import Target, conclude

from penstock.testing.preemption.policies import POLICIES
from penstock.testing.preemption.workload import HABITS, HOUR_S, NONE_WHEN_TOLD, SOME_BARE, Mix, draw
from penstock.testing.preemption.world import GPUS, Figures, World

SEEDS = 20
ENGINE_START_S = 30.0
"""From a replica's place to its first answer; what its users wait for is this and the wait for its place."""
MIXES: Mapping[str, Mix] = {
    "all save": HABITS,
    "some save nothing": SOME_BARE,
    "none when told": NONE_WHEN_TOLD,
}


class Summed(NamedTuple):
    """All seeds of one policy together; waits of replicas that had to push somebody aside, and of all."""

    lost_per_preempted: float
    lost: float
    preempted: float
    jobs: int
    pods: int
    throughput: float
    pushed: int
    replicas: int
    wait_p50_s: float
    wait_p99_s: float
    wait_mean_s: float
    all_p50_s: float
    all_p99_s: float
    all_mean_s: float
    seeds_ratio: tuple[float, ...]
    lost_by: dict[str, float]


def play(mix: str, policy: str, seed: int) -> tuple[Figures, float]:
    """One run, and the share of all GPU-seconds that became training's progress."""
    workload = draw(seed, habits=MIXES[mix])
    figures = World(workload, POLICIES[policy]).play()
    return figures, figures.useful / (workload.nodes * GPUS * workload.hours * HOUR_S)


def summed(runs: list[tuple[Figures, float]]) -> Summed:
    figures = [figure for figure, _ in runs]
    lost, preempted = sum(f.lost for f in figures), sum(f.preempted for f in figures)
    pushed = sorted(wait for f in figures for wait in f.preempted_waits_s)
    waits = sorted(wait for f in figures for wait in f.waits_s)
    by: dict[str, float] = {}
    for habit, amount in (item for f in figures for item in f.lost_by.items()):
        by[habit] = by.get(habit, 0.0) + amount
    return Summed(
        lost / max(1.0, preempted),
        lost,
        preempted,
        sum(sum(f.restarts.values()) for f in figures),
        sum(f.evictions for f in figures),
        median(share for _, share in runs),
        len(pushed),
        len(waits),
        at(pushed, 0.5),
        at(pushed, 0.99),
        sum(pushed) / max(1, len(pushed)),
        at(waits, 0.5),
        at(waits, 0.99),
        sum(waits) / max(1, len(waits)),
        tuple(round(f.lost / max(1.0, f.preempted), 4) for f in figures),
        {habit: round(amount) for habit, amount in sorted(by.items())},
    )


def at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def show(mix: str, rows: Mapping[str, Summed]) -> None:
    print(f"\nJobs: {mix}")
    print(
        "  policy      lost/preempted  lost GPU-s  preempted GPU-s  jobs  pods  training  pushed  wait p50   p99   mean  all p50   p99   mean"
    )
    for name, row in rows.items():
        print(
            f"  {name:<11} {row.lost_per_preempted:>14.3f} {row.lost:>11.0f} {row.preempted:>16.0f} {row.jobs:>5}"
            f" {row.pods:>5} {row.throughput:>8.1%} {row.pushed:>7} {row.wait_p50_s:>8.1f}s {row.wait_p99_s:>5.1f} {row.wait_mean_s:>6.2f}"
            f" {row.all_p50_s:>7.1f}s {row.all_p99_s:>5.1f} {row.all_mean_s:>6.2f}"
        )
    for name, row in rows.items():
        shares = ", ".join(f"{habit} {amount:.0f}" for habit, amount in row.lost_by.items())
        print(f"    {name}: lost by {shares}")
    for name, row in rows.items():
        low, middle, high = spread(row.seeds_ratio)
        print(
            f"    {name}: lost per preempted GPU-second by seed {low:.3f} to {high:.3f}, median {middle:.3f}"
        )
    lost = rows["penstock"].lost / max(1e-9, rows["kubernetes"].lost)
    print(
        f"    lost per preempted GPU-second: {ratio_of(rows):.1%} of Kubernetes'"
        f" (informed {ratio_of(rows, 'informed'):.1%}); lost in all: {lost:.1%} of Kubernetes'"
    )


def spread(ratios: Sequence[float]) -> tuple[float, float, float]:
    return min(ratios), median(ratios), max(ratios)


def ratio_of(rows: Mapping[str, Summed], policy: str = "penstock") -> float:
    return rows[policy].lost_per_preempted / max(1e-9, rows["kubernetes"].lost_per_preempted)


def targets(found: Mapping[str, Mapping[str, Summed]]) -> list[Target]:
    return [target for mix, rows in found.items() for target in _of(mix, rows)]


def _of(mix: str, rows: Mapping[str, Summed]) -> Iterator[Target]:
    yield Target(f"{mix}: lost per preempted GPU-second in Kubernetes'", round(ratio_of(rows), 4), 0.4)
    for word in ("wait_p50_s", "wait_p99_s"):
        ours_s, theirs_s = (ENGINE_START_S + getattr(rows[name], word) for name in ("penstock", "kubernetes"))
        name = f"{mix}: {word[5:8]} until a replica that pushed answers, in Kubernetes'"
        yield Target(name, round(ours_s / theirs_s, 4), 1.1)
    progress = rows["kubernetes"].throughput / rows["penstock"].throughput
    yield Target(f"{mix}: Kubernetes' training throughput in ours", round(progress, 4), 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two seeds")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    seeds = 2 if chosen.quick else chosen.seeds
    asked = list(product(MIXES, POLICIES, range(seeds)))
    with ProcessPoolExecutor(chosen.processes) as pool:
        played = dict(zip(asked, pool.map(play, *zip(*asked, strict=True)), strict=True))
    found = {
        mix: {policy: summed([played[mix, policy, seed] for seed in range(seeds)]) for policy in POLICIES}
        for mix in MIXES
    }
    for mix, rows in found.items():
        show(mix, rows)
    curves = loss_curves()
    difference = show_curves(*curves)
    same = Target("training example: largest difference of its loss to an undisturbed run's", difference, 0.0)
    conclude(
        "preemption",
        [*targets(found), same],
        is_whole=seeds >= SEEDS,
        seeds=seeds,
        losses=dict(zip(("undisturbed", "gave_way"), curves, strict=True)),
        mixes={mix: {name: row._asdict() for name, row in rows.items()} for mix, rows in found.items()},
    )


if __name__ == "__main__":
    main()
