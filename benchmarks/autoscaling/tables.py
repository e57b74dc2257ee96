"""From simulations to rows and tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.autoscaling.cases import Figures


@dataclass(frozen=True)
class Row:
    """One law as `how` it was set, and one sample for each seed; no samples where no setting keeps the promise."""

    name: str
    title: str
    how: str
    setting: float | None
    samples: tuple[Figures, ...]

    @property
    def replica_s(self) -> float:
        return statistics.median(sample.replica_s for sample in self.samples)

    @property
    def attainment(self) -> float:
        return statistics.median(sample.attainment for sample in self.samples)


def show(title: str, rows: Sequence[Row]) -> None:
    """Medians over the seeds, and the range of the primary figure."""
    print(f"\n{title}")
    print(
        f"{'':27} {'setting':>19} {'replica-s':>10} {'range':>17} {'mean':>6} {'in time':>8}"
        f" {'TTFT p50':>9} {'p99':>7} {'events':>7} {'cost':>8}"
    )
    for row in rows:
        if not row.samples:
            print(f"{row.title:27} {row.how:>19}")
            continue
        seconds = [sample.replica_s for sample in row.samples]
        middle = {
            key: statistics.median(asdict(sample)[key] for sample in row.samples)
            for key in ("replicas_mean", "attainment", "ttft_p50_s", "ttft_p99_s", "scale_events", "cost")
        }
        print(
            f"{row.title:27} {row.how:>19} {row.replica_s:10.0f} {min(seconds):8.0f}–{max(seconds):8.0f}"
            f" {middle['replicas_mean']:6.2f} {middle['attainment']:8.2%} {middle['ttft_p50_s']:8.2f}s"
            f" {middle['ttft_p99_s']:6.2f}s {middle['scale_events']:7.0f} {middle['cost']:8.2f}"
        )


def show_settings(
    traces: Sequence[str], shared: Mapping[str, Mapping[str, Row] | None], ours: Mapping[str, Row]
) -> None:
    """Each law with one setting for all traces: replica-seconds, and what ours needs of them."""
    print("\nOne setting for all traces: replica-seconds (and those of the forecast class over them)")
    print(f"{'':27} {'setting':>19} " + " ".join(f"{name:>24}" for name in traces))
    for title, by_case in shared.items():
        if by_case is None:
            print(f"{title:27} {'no setting keeps it':>19}")
            continue
        how = next(iter(by_case.values())).how
        cells = [
            f"{by_case[name].replica_s:16.0f} ({ours[name].replica_s / by_case[name].replica_s:5.2f})"
            for name in traces
        ]
        print(f"{title:27} {how:>19} " + " ".join(cells))


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For the file of results."""
    return [asdict(row) for row in rows]
