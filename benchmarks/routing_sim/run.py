"""Which router serves most, soonest, with the same engines? And what does it lose where it knows less?

Plays published workloads and recorded traces in the routing simulator: this platform's own router, every peer's rule, and an oracle, on the
same engines with the same seeds. Prints tables of medians over the seeds and one RESULT line, and writes `benchmarks/results/routing_sim.json`.
Larger fleets are played for a shorter time, and by then warm: `plan.py` says how. `--quick` plays a part of the smallest fleet.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import Target, conclude
from benchmarks.routing_sim import conditions
from benchmarks.routing_sim.cases import CASES, Case, Played, Run, Size, play
from benchmarks.routing_sim.plan import EIGHT, PLAN, QUICK, Plan
from benchmarks.routing_sim.tables import Row, as_json, share_of, show

OURS, OURS_APPROXIMATE = "penstock", "penstock-approximate"
UNFAIR = (OURS, OURS_APPROXIMATE, "oracle")


ACCURACY_SCALE = 0.3


class Table(NamedTuple):
    """All policies on one workload, in one fleet."""

    case: Case
    replicas: int
    warming: float
    rows: Mapping[str, Row]


class Player:
    """Plays in processes of its own, each run once."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def rows(self, runs: Mapping[str, Sequence[Run]]) -> dict[str, Row]:
        """One row for each name."""
        # one seed after the other, for processes keep what they drew last
        by_seed = sorted((run for each in runs.values() for run in each), key=lambda run: run.size.seed)
        waiting = {self._pool.submit(play, run): run for run in by_seed}
        played: dict[Run, Played] = {waiting[done]: done.result() for done in as_completed(waiting)}
        return {name: Row(name, tuple(played[run] for run in each)) for name, each in runs.items()}


def tables(player: Player, plans: Iterable[Plan], cases: Sequence[Case]) -> list[Table]:
    """Printed as they come."""
    found = []
    for plan in plans:
        for case in cases:
            sizes = plan.sizes(case.name)
            rows = player.rows(
                {name: [Run(case.name, name, size) for size in sizes] for name in plan.policies}
            )
            title = f"{case.title}: {plan.replicas} x {case.profile}, blocks of {case.block_tokens} tokens"
            played = f"{sizes[0].scale:g} of the run" + (
                f", the first {plan.warming:.0%} not measured" if plan.warming else ""
            )
            show(f"{title}, {played}", list(rows.values()), rows.get("oracle"))
            found.append(Table(case, plan.replicas, plan.warming, rows))
    return found


def accuracy(player: Player, cases: Sequence[Case], seeds: int, scale: float) -> list[dict[str, object]]:
    """What each kind of ignorance costs: the last column is how much longer answers take than when all is well."""
    found: list[dict[str, object]] = []
    for case in cases:
        if case.name not in conditions.CASES:
            continue
        for policy in conditions.POLICIES:
            share = EIGHT[case.name] * scale
            sizes = [Size(conditions.REPLICAS, seed, share) for seed in range(seeds)]
            rows = player.rows(
                {
                    name: [Run(case.name, policy, size, held) for size in sizes]
                    for name, held in conditions.CONDITIONS
                }
            )
            show(f"{case.title}, {policy}: what it loses", list(rows.values()), None, by="")
            well = rows["all well"].median("e2e_mean_s")
            for name, row in rows.items():
                regret = row.median("e2e_mean_s") / well - 1.0
                print(f"    {name}: answers take {regret:+.1%}")
                found.append(
                    {"case": case.name, "condition": name, "regret": regret, **as_json({name: row})[0]}
                )
                found[-1]["policy"] = policy
    return found


def targets(found: Sequence[Table]) -> list[Target]:
    """What was promised; each is a ratio that should be small."""
    by = {(table.case.name, table.replicas): table.rows for table in found}
    promised: list[Target] = []

    def promise(name: str, rows: Mapping[str, Row], policy: str, field: str, most: float) -> None:
        if policy in rows and OURS in rows:
            ours, theirs = rows[OURS].median(field), rows[policy].median(field)
            value = theirs / ours if field.endswith("rate") else ours / theirs
            promised.append(Target(name, round(value, 4), most))

    for (name, replicas), rows in by.items():
        where = f"{name}, {replicas} replicas"
        if name == "kthena-4096":
            promise(f"{where}: random's throughput in ours", rows, "random", "request_rate", 1 / 3)
            promise(
                f"{where}: approximate prefix's throughput in ours",
                rows,
                "kthena-prefix",
                "request_rate",
                1 / 1.35,
            )
        if name == "llm-d-73":
            promise(f"{where}: random's output in ours", rows, "random", "output_rate", 0.5)
            promised.append(Target(f"{where}: TTFT p90 in s", rows[OURS].median("ttft_p90_s"), 0.5))
        if name.startswith("mooncake"):
            promise(f"{where}: E2E p99 in least request's", rows, "least-request", "e2e_p99_s", 0.40)
            promise(f"{where}: E2E p99 in Dynamo's", rows, "dynamo", "e2e_p99_s", 0.80)
        if name == "short":
            best = min(
                (name for name in rows if name not in UNFAIR), key=lambda one: rows[one].median("e2e_mean_s")
            )
            promise(f"{where}: mean E2E in the best peer's ({best})", rows, best, "e2e_mean_s", 1.02)
        elif "oracle" in rows and OURS in rows:
            share = 1.0 / max(share_of(rows[OURS], rows["oracle"]), 1e-9)
            promised.append(Target(f"{where}: oracle's hits in ours", round(share, 4), 1 / 0.97))
        promised.append(Target(f"{where}: share of errors", rows[OURS].median("error_share"), 0.001))
    return promised


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the smallest fleet's run, one seed")
    parser.add_argument("--cases", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--replicas", type=int, nargs="*", help="fleets of these sizes only")
    parser.add_argument("--policies", nargs="*", help="these policies only")
    parser.add_argument("--seeds", type=int, default=0, help="as many seeds")
    parser.add_argument("--scale", type=float, default=0.0, help="this share of what is planned")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="keep what was measured in this file, also of a part")
    parser.add_argument("--only", choices=("tables", "accuracy"), help="one half of it")
    chosen = parser.parse_args()
    plans = [
        plan._replace(
            policies=list(chosen.policies or plan.policies),
            seeds=chosen.seeds or plan.seeds,
            scale=chosen.scale or plan.scale,
        )
        for plan in (QUICK if chosen.quick else PLAN)
        if not chosen.replicas or plan.replicas in chosen.replicas
    ]
    absent = [case.file.name for case in CASES if case.file and not case.file.is_file()]
    if absent:
        print(f"left out, traces are absent: {', '.join(absent)}")
    cases = [
        case for case in CASES if case.name in chosen.cases and not (case.file and not case.file.is_file())
    ]
    found: list[Table] = []
    lost: list[dict[str, object]] = []
    with ProcessPoolExecutor(chosen.processes) as pool:
        player = Player(pool)
        if chosen.only != "accuracy":
            found = tables(player, plans, cases)
        if chosen.only != "tables":
            lost = accuracy(player, cases, plans[0].seeds, min(ACCURACY_SCALE, plans[0].scale))
    is_default = not (chosen.quick or chosen.replicas or chosen.policies or chosen.seeds or chosen.scale)
    conclude(
        "routing_sim",
        targets(found),
        is_whole=is_default and not chosen.only and not absent and len(cases) == len(CASES),
        out=chosen.out,
        tables=[
            {
                "case": table.case.name,
                "replicas": table.replicas,
                "warming": table.warming,
                "rows": as_json(table.rows),
            }
            for table in found
        ],
        accuracy=lost,
    )


if __name__ == "__main__":
    main()
