"""How many replica-seconds does each law need to keep the same promise, on traces that none of them knows?

Plays recorded traces in the simulator under Knative's law, its GPU profile, HPA, KEDA and the forecast class, with the same engine and
cold start; bounds from below come from the best fixed count and from a law that knows the trace. Each peer's one knob, its target, is
tried over a grid, and the cheapest setting that keeps the promise counts: once chosen for each trace with hindsight, and once as one
setting for all traces, which is what an operator can do. The forecast class has no knob. Prints tables and one RESULT line, and writes
`benchmarks/results/autoscaling.json`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks.autoscaling.cases import (
    CASES,
    COLD_STARTS_S,
    ENGINE,
    FIXED,
    FORECAST,
    FORESIGHT,
    FORESIGHTS,
    OBJECTIVE,
    PEERS,
    SEEDS,
    SLO_TTFT_S,
    TRACES,
    Case,
    Figures,
    Law,
    Run,
    others,
    play,
)
from benchmarks.autoscaling.tables import Row, as_json, show, show_settings
from benchmarks.report import Target, conclude
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

RATIO = 0.75
COUNTS = tuple(float(n) for n in range(2, 31))
Known = dict[Run, Figures]
Play = Callable[[Iterable[Run]], None]


def player(pool: ProcessPoolExecutor, progress: Progress, known: Known) -> Play:
    """Plays what is not known yet, and shows how far it is."""

    def all_of(runs: Iterable[Run]) -> None:
        missing = [run for run in dict.fromkeys(runs) if run not in known]
        task = progress.add_task(missing[0].case.name if missing else "", total=len(missing))
        waiting = {pool.submit(play, run): run for run in missing}
        for done in as_completed(waiting):
            known[waiting[done]] = done.result()
            progress.advance(task)
        progress.remove_task(task)

    return all_of


def median(known: Known, case: Case, law: Law, setting: float | None, cold_s: float) -> tuple[float, float]:
    """Replica-seconds and attainment over the seeds."""
    samples = [known[Run(case, law, setting, cold_s, seed)] for seed in SEEDS]
    return statistics.median(s.replica_s for s in samples), statistics.median(s.attainment for s in samples)


def cheapest(
    known: Known, play_all: Play, case: Case, law: Law, settings: Sequence[float], cold_s: float
) -> float | None:
    """The cheapest setting that keeps the promise in the median over the seeds; None where none does."""
    first = {setting: known[Run(case, law, setting, cold_s, SEEDS[0])] for setting in settings}
    kept = [setting for setting in settings if first[setting].attainment >= OBJECTIVE]
    for setting in sorted(kept, key=lambda setting: first[setting].replica_s):
        play_all(Run(case, law, setting, cold_s, seed) for seed in SEEDS)
        if median(known, case, law, setting, cold_s)[1] >= OBJECTIVE:
            return setting
    return None


def bound(
    known: Known, play_all: Play, case: Case, law: Law, settings: Sequence[float], cold_s: float
) -> float | None:
    """The first setting (more replicas from one to the next) that keeps the promise in the median, by bisection."""
    low, high = 0, len(settings)
    while low < high:
        middle = (low + high) // 2
        play_all(Run(case, law, settings[middle], cold_s, seed) for seed in SEEDS)
        if median(known, case, law, settings[middle], cold_s)[1] >= OBJECTIVE:
            high = middle
        else:
            low = middle + 1
    return settings[low] if low < len(settings) else None


def rows_of(known: Known, play_all: Play, case: Case, cold_s: float) -> list[Row]:
    """All laws on one trace, each at its best for it; and the peers with their defaults."""
    runs = [Run(case, law, s, cold_s, SEEDS[0]) for law in PEERS for s in case.targets]
    runs += [Run(case, law, None, cold_s, seed) for law in (*PEERS, FORECAST) for seed in SEEDS]
    play_all(runs)
    rows = []
    for law in (*PEERS, FORECAST):
        rows.append(_row(known, case, law, None, cold_s, "defaults" if law.has_knob else "no knob"))
    best = {law: cheapest(known, play_all, case, law, case.targets, cold_s) for law in PEERS}
    for law, settings in ((FIXED, COUNTS), (FORESIGHT, FORESIGHTS)):
        best[law] = bound(known, play_all, case, law, settings, cold_s)
    for law, setting in best.items():
        if setting is None:
            rows.append(Row(law.name, law.title, "no setting keeps it", None, ()))
        else:
            rows.append(_row(known, case, law, setting, cold_s, f"hindsight: {setting:g}"))
    return rows


def _row(known: Known, case: Case, law: Law, setting: float | None, cold_s: float, how: str) -> Row:
    samples = tuple(known[Run(case, law, setting, cold_s, seed)] for seed in SEEDS)
    return Row(law.name, law.title, how, setting, samples)


def one_setting(
    known: Known, play_all: Play, cases: Sequence[Case], law: Law, cold_s: float
) -> dict[str, Row] | None:
    """The setting that keeps the promise on all of these traces at the least cost, each trace counting as much as the others."""
    shared = [s for s in cases[0].targets if all(s in case.targets for case in cases)]
    kept = [
        s
        for s in shared
        if all(known[Run(case, law, s, cold_s, SEEDS[0])].attainment >= OBJECTIVE for case in cases)
    ]
    least = {
        case: min(known[Run(case, law, s, cold_s, SEEDS[0])].replica_s for s in shared) for case in cases
    }
    kept.sort(
        key=lambda s: sum(
            known[Run(case, law, s, cold_s, SEEDS[0])].replica_s / least[case] for case in cases
        )
    )
    for setting in kept:
        play_all(Run(case, law, setting, cold_s, seed) for case in cases for seed in SEEDS)
        if all(median(known, case, law, setting, cold_s)[1] >= OBJECTIVE for case in cases):
            return {
                case.name: _row(known, case, law, setting, cold_s, f"for all: {setting:g}") for case in cases
            }
    return None


def targets_of(rows: dict[str, list[Row]], shared: dict[str, dict[str, Row] | None]) -> list[Target]:
    """Ours against the best of the others on each trace; where ours misses the promise itself, that is a target of its own."""
    targets = []
    for name, table in rows.items():
        ours = next(row for row in table if row.name == FORECAST.name)
        targets.append(Target(f"{name}: share of requests that miss the promise", 1 - ours.attainment, 0.01))
        peers = {law.name for law in PEERS}
        hindsight = [row.replica_s for row in table if row.name in peers and row.samples and row.setting]
        fixed = [by_case[name].replica_s for by_case in shared.values() if by_case]
        for how, found in (
            ("best peer, one setting for all", fixed),
            ("best peer, tuned to the trace in hindsight", hindsight),
        ):
            if found:
                targets.append(
                    Target(f"{name}: replica-seconds over {how}", ours.replica_s / min(found), RATIO)
                )
    return targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--traces", nargs="+", choices=[case.name for case in CASES], help="these only; keeps no results"
    )
    parser.add_argument(
        "--others", action="store_true", help="Mooncake's and made-up traces, which no target is about"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if not TRACES.is_dir():
        sys.exit(f"the traces are not there: {TRACES}")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        aimed = [case for case in CASES if not arguments.traces or case.name in arguments.traces]
        compare(others(Path(folder)) if arguments.others else aimed, arguments)


def compare(cases: Sequence[Case], arguments: argparse.Namespace) -> None:
    """Plays and shows everything; the last line is the result."""
    main_cold_s, short_cold_s = COLD_STARTS_S
    known: Known = {}
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        ProcessPoolExecutor(arguments.jobs) as pool,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        play_all = player(pool, progress, known)
        rows: dict[str, list[Row]] = {}
        print(
            f"{ENGINE}; promise: {OBJECTIVE:.0%} of first tokens within {SLO_TTFT_S:g} s; cold start {main_cold_s:g} s"
        )
        for case in cases:
            rows[case.name] = rows_of(known, play_all, case, main_cold_s)
            show(case.title, rows[case.name])
        shared = {law.title: one_setting(known, play_all, cases, law, main_cold_s) for law in PEERS}
        ours = {name: next(row for row in table if row.name == FORECAST.name) for name, table in rows.items()}
        show_settings([case.name for case in cases], shared, ours)
        short: dict[str, Any] = {}
        for case in cases:
            if case.cut.to_s is None and not arguments.others:
                short[case.name] = rows_of(known, play_all, case, short_cold_s)
                show(f"{case.title}, cold start {short_cold_s:g} s", short[case.name])
    conclude(
        "autoscaling",
        [] if arguments.others else targets_of(rows, shared),
        is_whole=not arguments.traces and not arguments.others,
        engine=ENGINE,
        objective=OBJECTIVE,
        slo_ttft_s=SLO_TTFT_S,
        cold_starts_s=COLD_STARTS_S,
        seeds=SEEDS,
        traces={name: as_json(table) for name, table in rows.items()},
        one_setting={
            title: by_case and {name: as_json([row])[0] for name, row in by_case.items()}
            for title, by_case in shared.items()
        },
        short_cold_start={name: as_json(table) for name, table in short.items()},
    )


if __name__ == "__main__":
    main()
