"""How much of a cluster's GPUs can be allocated before the first pods fit nowhere? And how long does a decision take?

The published protocol of FGD (Weng et al., ATC'23) on Alibaba's openb traces: 1,213 GPU nodes, a workload's list of tasks in random order and then
tasks drawn from it until all ask for 1.3 times the 6,212 GPUs, seeds 42 to 51, no departures, what fits nowhere is dropped. Placed by the product's
own `decide/placement.py`, beside the authors' published means. As published, FGD and Penstock know the mix of the whole list; "learning" knows only what has arrived. Some rules
are played here too, so that the harness itself is checked against the publication. Then MIG instances that come and go: `mig.py`.

Prints tables with means and standard deviations over seeds, and one RESULT line, and writes `benchmarks/results/placement.json`. `--quick`
plays one seed, `--only WORKLOAD` (several times) some workloads.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from statistics import mean, stdev
from typing import Any, NamedTuple

from benchmarks.placement import mig
from benchmarks.placement.cluster import TRACES, WORKLOADS, arrivals, capacity, inventory, pod_of
from benchmarks.placement.policies import POLICIES, Product
from benchmarks.report import Target, conclude

from penstock.kit import collector

SEEDS = range(42, 52)
CHECKED = (42,)
"""Seeds with which the rules that are published too are played here."""
MARKS = (1.0, 1.3)
"""Demand by capacity at which allocation is read; the last is where tasks end."""
PUBLISHED = ("01-Random", "02-DotProd", "03-GpuClustering", "04-GpuPacking", "05-BestFit", "06-FGD")
SLACK, AHEAD, DECISION_MS, RUN_S = 0.2, 0.5, 2.0, 60.0
MIG_AHEAD = 1.10


class Game(NamedTuple):
    """One run."""

    policy: str
    workload: str
    seed: int


class Played(NamedTuple):
    """Allocated percent at 100 and 130 % of demand; decision times (clock, and CPU), what is done after one on the mean, seconds of the run."""

    allocated: tuple[float, ...]
    p50_ms: float
    p99_ms: float
    cpu_p99_ms: float
    after_ms: float
    run_s: float


def play(game: Game) -> Played:
    """Decide and bind, one task after the other."""
    began = time.perf_counter()
    choose, stock = POLICIES[game.policy](game.workload, game.seed), inventory(game.seed)
    collector.settle()  # as the host does
    asked = allocated = 0
    after_s = 0.0
    marks: list[float] = []
    taken: list[float] = []
    taken_cpu: list[float] = []
    for task in arrivals(game.workload, game.seed):
        asked += task.demand
        before, cpu_before = time.perf_counter(), time.process_time()
        found = choose(task, stock)
        taken_cpu.append(time.process_time() - cpu_before)
        taken.append(time.perf_counter() - before)
        if found is not None:
            allocated += task.demand
            stock = stock.with_(pod_of(task)[0], *found)
            if isinstance(choose, Product):
                bound = time.perf_counter()
                choose.prepare(stock)
                after_s += time.perf_counter() - bound
        if not marks and asked >= capacity():
            marks.append(100 * allocated / capacity())
    marks.append(100 * allocated / capacity())
    return Played(
        tuple(marks),
        share(taken, 0.5),
        share(taken, 0.99),
        share(taken_cpu, 0.99),
        1000 * after_s / len(taken),
        time.perf_counter() - began,
    )


def share(taken_s: list[float], part: float) -> float:
    """Milliseconds that this part of the decisions does not exceed."""
    return 1000 * sorted(taken_s)[int(len(taken_s) * part)]


@cache
def published() -> dict[tuple[str, str], tuple[float, float]]:
    """The authors' means, by workload and policy."""
    with (TRACES / "fgd_published_results_mean.csv").open() as file:
        return {
            (row["workload"].removeprefix("openb_pod_list_"), row["policy"]): (
                float(row["alloc_pct_at_100"]),
                float(row["alloc_pct_at_130"]),
            )
            for row in csv.DictReader(file)
        }


def games(seeds: Iterable[int], workloads: Iterable[str]) -> list[Game]:
    """All runs, the longest kind first."""
    seeds, workloads = list(seeds), list(workloads)
    few = [seed for seed in seeds if seed in CHECKED]
    ours = [Game("penstock", workload, seed) for seed in seeds for workload in workloads]
    others = [
        Game(name, workload, seed)
        for name in POLICIES
        for workload in workloads
        for seed in few
        if name != "penstock"
    ]
    return ours + others


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{mean(values):6.2f}" + (f" ±{stdev(values):.2f}" if len(values) > 1 else "")


def show(played: Mapping[Game, Played]) -> None:
    """Tables by workload."""
    print("\nGPU allocation in percent when 100 % and 130 % have been asked for")
    for workload in dict.fromkeys(game.workload for game in played):
        print(f"\n{workload}")
        for policy in PUBLISHED:
            at = published()[workload, policy]
            print(f"  {policy[3:]:<22} {at[0]:6.2f}       {at[1]:6.2f}        published, 10 seeds")
        for policy in POLICIES:
            runs = [
                one for game, one in played.items() if game.policy == policy and game.workload == workload
            ]
            if runs:
                columns = "  ".join(
                    spread([run.allocated[mark] for run in runs]) for mark in range(len(MARKS))
                )
                p50, p99 = mean(r.p50_ms for r in runs), mean(r.p99_ms for r in runs)
                cpu, after = mean(r.cpu_p99_ms for r in runs), mean(r.after_ms for r in runs)
                print(
                    f"  {policy:<22} {columns}   {len(runs)} seeds, p50 {p50:.2f} ms, p99 {p99:.2f} ms ({cpu:.2f} ms of CPU), {after:.2f} ms after each, {mean(r.run_s for r in runs):.1f} s"
                )


def targets(played: Mapping[Game, Played]) -> list[Target]:
    """What was promised; each is a number that should be small."""
    ours = {
        w: [one for game, one in played.items() if game.policy == "penstock" and game.workload == w]
        for w in dict.fromkeys(game.workload for game in played)
    }
    found, ahead = [], 0
    for workload, runs in ours.items():
        theirs = published()[workload, "06-FGD"]
        gains = [mean(run.allocated[mark] for run in runs) - theirs[mark] for mark in range(len(MARKS))]
        ahead += min(gains) >= AHEAD
        found += [
            Target(
                f"{workload}: points behind published FGD at {int(100 * MARKS[mark])} %",
                round(-gain, 2),
                SLACK,
            )
            for mark, gain in enumerate(gains)
        ]
    found.append(
        Target(
            f"workloads not {AHEAD} points ahead of published FGD at both", len(ours) - ahead, len(ours) - 2
        )
    )
    every = [run for runs in ours.values() for run in runs]
    found.append(
        Target(
            "decision p99 in ms, worst workload",
            round(max(mean(r.p99_ms for r in runs) for runs in ours.values()), 3),
            DECISION_MS,
        )
    )
    found.append(Target("seconds for a run", round(max(run.run_s for run in every), 1), RUN_S))
    return found


def play_mig(task: tuple[str, str, float, int]) -> mig.Tally:
    """One run of `mig.py`."""
    return mig.play(*task)


def mig_tables(pool: ProcessPoolExecutor, seeds: Iterable[int]) -> tuple[list[dict[str, Any]], list[Target]]:
    """Share of instances placed, by mix, load and rule."""
    seeds = list(seeds)
    tasks = [
        (p, m, load, seed) for m in mig.MIXES for load in mig.LOADS for p in mig.POLICIES for seed in seeds
    ]
    tallies = dict(zip(tasks, pool.map(play_mig, tasks), strict=True))
    print(
        f"\nMIG instances placed of those that arrived, {mig.NODES * mig.GPUS_PER_NODE} x {mig.TYPE}, {len(seeds)} seeds (by compute slices)"
    )
    rows: list[dict[str, Any]] = []
    for mix in mig.MIXES:
        for load in mig.LOADS:
            row: dict[str, Any] = {"mix": mix, "load": load}
            for policy in mig.POLICIES:
                some = [tallies[policy, mix, load, seed] for seed in seeds]
                row[policy] = round(sum(t.placed for t in some) / sum(t.arrived for t in some), 4)
                row[f"{policy}, by slices"] = round(
                    sum(t.work_placed for t in some) / sum(t.work for t in some), 4
                )
            rows.append(row)
            shown = "   ".join(f"{p} {row[p]:.3f} ({row[f'{p}, by slices']:.3f})" for p in mig.POLICIES)
            print(f"  {mix:<8} load {load:.1f}   {shown}")
    heavy = [row for row in rows if row["load"] == max(mig.LOADS)]
    promised = [
        Target(
            f"MIG at load {max(mig.LOADS)}: instances placed by {rival} in those by {ours}",
            round(mean(row[rival] / row[ours] for row in heavy), 4),
            round(1 / MIG_AHEAD, 4),
        )
        for rival, ours in mig.RIVALS.items()
    ]
    return rows, promised


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--only", action="append", choices=WORKLOADS, help="this workload, and no MIG")
    options = parser.parse_args()
    if not TRACES.is_dir():
        sys.exit(f"skipped: the traces are not at {TRACES}")
    seeds = [SEEDS[0]] if options.quick else list(SEEDS)
    played: dict[Game, Played] = {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        waiting = {pool.submit(play, game): game for game in games(seeds, options.only or WORKLOADS)}
        began = time.perf_counter()
        for number, done in enumerate(as_completed(waiting), 1):
            game = waiting[done]
            played[game] = one = done.result()
            at = ", ".join(f"{value:.2f}" for value in one.allocated)
            left_s = (time.perf_counter() - began) * (len(waiting) - number) / number
            print(
                f"  [{number}/{len(waiting)}, {left_s:.0f} s left] {game.policy} {game.workload} seed {game.seed}: {at} in {one.run_s:.1f} s",
                flush=True,
            )
        played = {game: played[game] for game in waiting.values()}
        show(played)
        rows, promised = ([], []) if options.only else mig_tables(pool, range(1 if options.quick else 2))
    runs = [{**game._asdict(), **one._asdict()} for game, one in played.items()]
    conclude(
        "placement",
        [*targets(played), *promised],
        is_whole=not (options.quick or options.only),
        runs=runs,
        mig=rows,
    )


if __name__ == "__main__":
    main()
