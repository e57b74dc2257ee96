"""What `penstock bench` shows: a bar while it runs, then tables. Errors stand beside latency, always."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from penstock.cli.console import console, print_table, warn
from penstock.testing.load.compare import ENOUGH_PAIRS, Ratio
from penstock.testing.load.outcome import Outcome
from penstock.testing.load.player import Pace
from penstock.testing.load.session import Knee, Told
from penstock.testing.load.summary import Objective, Result, Summary

LATE_S = 0.05
"""A load that is later than this with one request in a hundred is itself the bottleneck."""
FEW = 100
"""Below so many answers a 99th percentile is hardly more than the greatest."""
TIMES = ("p50", "p90", "p95", "p99", "max", "mean")


class Report(Struct, frozen=True):
    """All there is to show; what --json writes. `is_partial`: it was ended before its time."""

    seed: int
    results: tuple[Result, ...]
    ratios: tuple[Ratio, ...]
    knees: tuple[Knee, ...]
    is_partial: bool = False


class Bars(Told):
    """One bar for each run: how far it is, how many answers came, and how many failed."""

    def __init__(self, progress: Progress, pace: Pace) -> None:
        self._progress, self._total = progress, pace.requests or pace.duration_s
        self._by_count = pace.requests is not None
        self._task: TaskID | None = None
        self._came = self._failed = 0

    def began(self, target: str, run: str) -> None:
        """A bar for it."""
        self._came = self._failed = 0
        self._task = self._progress.add_task(f"{run} {target}", total=self._total, figures="")

    def answered(self, outcome: Outcome) -> None:
        """It grows."""
        self._came += 1
        self._failed += not outcome.ok
        if self._task is not None:
            passed_s = self._progress.tasks[-1].elapsed or 0.0
            done = self._came if self._by_count else passed_s
            figures = f"{self._came} answers, {self._failed} failed"
            self._progress.update(self._task, completed=done, figures=figures)

    def ended(self) -> None:
        """It goes."""
        if self._task is not None:
            self._progress.remove_task(self._task)


@contextmanager
def watched(pace: Pace) -> Iterator[Told]:
    """Who shows the runs; nobody, where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield Told()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(sys.stderr), transient=True) as progress:
        yield Bars(progress, pace)


def print_report(report: Report) -> None:
    """Tables on standard output, doubts about them on standard error."""
    if report.is_partial:
        warn("stopped early: what follows is of the requests that had ended by then")
    for number, result in enumerate(report.results):
        if number:
            sys.stdout.write("\n")
        _print_result(result, report.seed)
        _print_doubts(result)
    if report.ratios:
        sys.stdout.write("\n")
        rows = [
            (
                one.figure,
                f"{one.ratio:.3f}",
                f"{one.low:.3f} to {one.high:.3f}",
                "yes" if one.decided else "no",
            )
            for one in report.ratios
        ]
        print_table(("first : second", "ratio", "95 % interval", "differs"), rows)
        if len(report.results[0].repeats) < ENOUGH_PAIRS:
            warn(f"intervals of fewer than {ENOUGH_PAIRS} repeats are too narrow")
    for knee in report.knees:
        _print_knee(knee, is_partial=report.is_partial)


def _print_result(result: Result, seed: int) -> None:
    whole = result.whole
    sys.stdout.write(f"{result.model} at {result.target}: {result.workload}, {result.pace}, seed {seed}\n\n")
    rows = [
        (name, *(_milliseconds(getattr(times, share)) for share in TIMES), _over(result, field))
        for name, field, times in (
            ("ttft ms", "ttft_s", whole.ttft_s),
            ("itl ms", "itl_s", whole.itl_s),
            ("e2e ms", "e2e_s", whole.e2e_s),
        )
    ]
    print_table(("", *TIMES, *(("p99 over repeats",) if len(result.repeats) > 1 else ())), rows)
    sys.stdout.write("\n")
    print_table(("", "value", *(("over repeats",) if len(result.repeats) > 1 else ())), _figures(result))
    if result.slowest:
        sys.stdout.write(f"\nslowest first tokens: {', '.join(result.slowest)}\n")
    if whole.errors:
        sys.stdout.write("\n")
        rows = [
            (kind, f"{count}", f"{count / whole.requests:.2%}", result.messages.get(kind, ""))
            for kind, count in whole.errors.items()
        ]
        print_table(("error", "requests", "share", "for example"), rows)


def _figures(result: Result) -> list[tuple[str, ...]]:
    whole, many = result.whole, len(result.repeats) > 1

    def row(name: str, field: str, form: str) -> tuple[str, ...]:
        values = [getattr(one, field) for one in result.repeats]
        spread = (f"{min(values):{form}} to {max(values):{form}}",) if many else ()
        return name, f"{getattr(whole, field):{form}}", *spread

    rows = [
        row("requests", "requests", "d"),
        row("error rate", "error_rate", ".2%"),
        row("requests/s", "requests_per_s", ".3f"),
        row("output tokens/s", "output_tokens_per_s", ".1f"),
        row("prompt tokens/s", "prompt_tokens_per_s", ".1f"),
    ]
    if whole.told_usage:
        rows.append(row("prompt tokens from cache", "cached_share", ".1%"))
    if result.objective != Objective():
        rows.append(row(f"within {_promise(result.objective)}", "attainment", ".2%"))
        rows.append(row("goodput requests/s", "goodput_per_s", ".3f"))
    return rows


def _print_doubts(result: Result) -> None:
    """What speaks against believing the figures."""
    whole: Summary = result.whole
    if whole.late_s.p99 > LATE_S:
        warn(
            f"the load was {_milliseconds(whole.late_s.p99)} ms late with one request in a hundred: it needs more "
            "processor time than it got, and times are longer than the server's"
        )
    if whole.answered and whole.told_usage < 1.0:
        warn(
            f"{1.0 - whole.told_usage:.0%} of the answers told no usage: for them a piece of text counts as a token"
        )
    if 0 < whole.answered < FEW:
        warn(f"99th percentiles of {whole.answered} answers mean little")


def _print_knee(knee: Knee, *, is_partial: bool) -> None:
    rows = [
        (f"{step.rate_per_s:.3f}", f"{step.attainment:.2%}", f"{step.errors}", _milliseconds(step.ttft_p99_s))
        for step in knee.steps
    ]
    print_table(("requests/s", "within objective", "errors", "ttft p99 ms"), rows)
    if is_partial and not knee.is_found:
        sys.stdout.write(
            f"\n{knee.target}: {knee.rate_per_s:.3f} a second held before the search was stopped\n"
        )
    elif not knee.rate_per_s:
        sys.stdout.write(f"\n{knee.target}: no rate was held\n")
    elif knee.is_found:
        sys.stdout.write(f"\n{knee.target}: the knee is at {knee.rate_per_s:.3f} a second\n")
    else:
        sys.stdout.write(f"\n{knee.target}: the knee is at {knee.rate_per_s:.3f} a second or above\n")


def _over(result: Result, field: str) -> str:
    if len(result.repeats) < 2:
        return ""
    values = [getattr(one, field).p99 for one in result.repeats]
    return f"{_milliseconds(min(values))} to {_milliseconds(max(values))}"


def _promise(objective: Objective) -> str:
    parts = (("ttft", objective.ttft_s), ("itl", objective.itl_s))
    return ", ".join(f"{name} {_milliseconds(bound)} ms" for name, bound in parts if bound is not None)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"
