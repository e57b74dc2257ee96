"""From samples to tables and targets."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.gateway.cases import Case
from benchmarks.report import Target

Samples = dict[str, dict[str, list[dict[str, Any]]]]
"""Case, system, and one sample of each repeat."""
Memory = dict[str, dict[str, float]]

ASKED = (("1k-c1", "1 KB c=1"), ("1k-c64", "1 KB c=64"), ("16k-c1", "16 KB c=1"), ("16k-c64", "16 KB c=64"))
RATIOS = (("sglang-router", 0.6), ("vllm-router", 0.6), ("envoy", 1.0), ("nginx", 2.0))
CHUNK_RATIO = 1.0
GOVERNED_RATIO = 1.25
STREAMS_MB, FURTHER_KB = 80.0, 40.0
OURS, BARE = "penstock", "penstock-bare"


def show(cases: Sequence[Case], samples: Samples, held: Memory, missing: dict[str, str]) -> None:
    """One table for each case: medians, and the range of the primary figure."""
    for case in cases:
        if case.streams:
            _show_streams(case, samples[case.name])
            continue
        print(
            f"\n{case.title}\n{'':20} {'CPU µs/' + case.unit:>12} {'range':>17} {case.unit + 's/s':>10}",
            end="",
        )
        print(f" {'p50 µs':>10} {'p99 µs':>10} {'added p50':>10} {'added p99':>10} {'errors':>7}")
        for name, taken in samples[case.name].items():
            cpu = [one["cpu_us"] for one in taken]
            added = [_shown(added_us(samples, case.name, name, rank)) for rank in ("p50", "p99")]
            print(
                f"{name:20} {statistics.median(cpu):12.1f} {min(cpu):8.1f}–{max(cpu):8.1f}"
                f" {_median(one['per_s'] for one in taken):10.0f}"
                f" {_median(one['latency_us']['p50'] for one in taken):10.1f}"
                f" {_median(one['latency_us']['p99'] for one in taken):10.1f}"
                f" {added[0]:>10} {added[1]:>10} {sum(one['errors'] for one in taken):7}"
            )
    if held:
        print(f"\nResident memory, MB\n{'':20} {'idle':>9} {'1,000 streams':>14} {'KB each further':>16}")
        for name, figures in held.items():
            print(
                f"{name:20} {figures['idle_mb']:9.1f} {figures['streams_mb']:14.1f} {figures['further_kb']:16.1f}"
            )
    for name, why in missing.items():
        print(f"\n{name} was not measured: {why}")


def _show_streams(case: Case, samples: dict[str, list[dict[str, Any]]]) -> None:
    print(f"\n{case.title}, first: milliseconds to the first, gap: milliseconds between two")
    print(f"{'':20} {'CPU µs/chunk':>12} {'range':>17} {'first p50':>10} {'first p99':>10} ", end="")
    print(f"{'gap p50':>9} {'gap p99':>9} {'errors':>7}")
    for name, taken in samples.items():
        cpu = [one["cpu_us"] for one in taken]
        times = [
            _median(one[what][rank] for one in taken) / 1000
            for what in ("first_event_us", "gap_us")
            for rank in ("p50", "p99")
        ]
        print(
            f"{name:20} {statistics.median(cpu):12.1f} {min(cpu):8.1f}–{max(cpu):8.1f} {times[0]:10.1f}"
            f" {times[1]:10.1f} {times[2]:10.1f} {times[3]:9.1f} {sum(one['errors'] for one in taken):7}"
        )


def targets(samples: Samples, held: Memory) -> list[Target]:
    """Those whose systems and cases were measured in this run."""
    found = []
    for case, title in ASKED:
        for peer, most in RATIOS:
            found.append((f"CPU per request, {title}, over {peer}", ratio(samples, case, OURS, peer), most))
    chunks = ratio(samples, "streams-256", OURS, "sglang-router")
    found.append(("CPU per streamed chunk over sglang-router", chunks, CHUNK_RATIO))
    ours, theirs = (added_us(samples, "1k-c1", name, "p50") for name in (OURS, "sglang-router"))
    if ours is not None and theirs is not None:
        found.append(("added latency p50 in µs, at most sglang-router's", ours, theirs))
    governed = ratio(samples, "1k-c64", OURS, BARE)
    found.append(("CPU per request with keys, quota and accounting, over without", governed, GOVERNED_RATIO))
    if OURS in held:
        found.append(("MB with 1,000 open streams", held[OURS]["streams_mb"], STREAMS_MB))
        found.append(("KB for each further stream", held[OURS]["further_kb"], FURTHER_KB))
    errors = sum(one["errors"] for case in samples.values() for taken in case.values() for one in taken)
    found.append(("errors of all systems together", float(errors), 0.0))
    return [Target(name, round(value, 3), round(most, 3)) for name, value, most in found if value is not None]


def ratio(samples: Samples, case: str, name: str, other: str) -> float | None:
    """The median of the ratios of CPU time within each repeat."""
    ours, theirs = (samples.get(case, {}).get(one) for one in (name, other))
    if not ours or not theirs:
        return None
    return _median(a["cpu_us"] / b["cpu_us"] for a, b in zip(ours, theirs, strict=True))


def added_us(samples: Samples, case: str, name: str, rank: str) -> float | None:
    """The median over repeats of what a proxy adds to a quantile of latency."""
    through, direct = (samples.get(case, {}).get(one) for one in (name, "direct"))
    if not through or not direct or name == "direct":
        return None
    pairs = zip(through, direct, strict=False)
    return _median(a["latency_us"][rank] - b["latency_us"][rank] for a, b in pairs)


def _median(values: Any) -> float:
    return float(statistics.median(values))


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
