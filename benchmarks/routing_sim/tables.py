"""From runs to rows and tables: medians over the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from benchmarks.routing_sim.cases import Played

COLUMNS = (
    ("req/s", "request_rate", "{:.2f}"),
    ("tok/s", "output_rate", "{:.0f}"),
    ("TTFT p50", "ttft_p50_s", "{:.3f}"),
    ("p90", "ttft_p90_s", "{:.3f}"),
    ("p99", "ttft_p99_s", "{:.3f}"),
    ("E2E mean", "e2e_mean_s", "{:.2f}"),
    ("p99", "e2e_p99_s", "{:.2f}"),
    ("hits", "hit_share", "{:.1%}"),
    ("accuracy", "accuracy", "{:.3f}"),
    ("errors", "error_share", "{:.2%}"),
)


@dataclass(frozen=True)
class Row:
    """One policy on one workload, or under some conditions: one run for each seed."""

    name: str
    runs: tuple[Played, ...]

    def median(self, field: str) -> float:
        """Of a figure, over the seeds."""
        return statistics.median(getattr(run.figures, field) for run in self.runs)

    @property
    def took_s(self) -> float:
        """Processor time of one run."""
        return statistics.median(run.took_s for run in self.runs)


def show(title: str, rows: Sequence[Row], oracle: Row | None, *, by: str = "output_rate") -> None:
    """Best first; the last columns are the share of the oracle's hits, and the processor time of a run."""
    head = f"{'':34}" + "".join(f" {name:>9}" for name, _, _ in COLUMNS)
    print(f"\n{title}\n{head} {'of oracle':>9} {'run s':>7}")
    for row in sorted(rows, key=lambda row: -row.median(by)) if by else rows:
        cells = "".join(f" {_cell(form, row.median(field)):>9}" for _, field, form in COLUMNS)
        of_oracle = f"{share_of(row, oracle):.1%}" if oracle else ""
        print(f"{row.name:34}{cells} {of_oracle:>9} {row.took_s:7.1f}", flush=True)


def share_of(row: Row, oracle: Row) -> float:
    """Its hits in the oracle's."""
    return row.median("hit_share") / max(oracle.median("hit_share"), 1e-9)


def as_json(rows: Mapping[str, Row]) -> list[dict[str, Any]]:
    """For the file of results: medians, and the range of the rate of output."""
    found = []
    for row in rows.values():
        fields = row.runs[0].figures.__struct_fields__
        rates = [run.figures.output_rate for run in row.runs]
        figures = {field: round(row.median(field), 6) for field in fields}
        more = {
            "output_rate_least": min(rates),
            "output_rate_most": max(rates),
            "run_s": round(row.took_s, 2),
        }
        found.append({"policy": row.name, "seeds": len(row.runs), **figures, **msgspec.to_builtins(more)})
    return found


def _cell(form: str, value: float) -> str:
    return "" if value < 0 else form.format(value)
