"""How much can one replica do within the promised time to a first token, and how many replicas bear a load?

Nobody has to state a concurrency target: the capacity follows from what is seen anyway. Replicas behind one router are close to one queue
with N servers, where a first token takes the request's own work plus its wait (Sakasegawa 1977, an approximation of M/M/N):

    ttft = w/c · (1 + ρ^(√(2(N+1)) − 1) / (N (1 − ρ))),   ρ = x/c

with w the work of a request, x the work done per replica and second, and c the capacity that is looked for; all but c are measured. Work
is counted in tokens where they are known, else in requests. The share of first tokens that come later than t is then
ρ^√(2(N+1)) · exp(−N (1 − ρ) (t − w/c) c/w).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, sqrt

from msgspec import Struct
from msgspec.structs import replace

from penstock.contracts.exchange import LATENCY_BOUNDS_S

REQUESTS_KEPT = 300
"""Answers over which time to first token and throughput are averaged."""
SLOWER_DOWN = 2.5
"""Times come long during a burst, and answers late: a lower capacity is believed so many times more slowly."""
BOUNDS_S = (*LATENCY_BOUNDS_S, LATENCY_BOUNDS_S[-1] * 1.4)
"""What is longer than the last is taken to be little longer."""
MOST_BUSY = 0.999
BISECTIONS = 12
"""They leave some 0.05 % of doubt about a capacity."""
ROUNDING = 0.05
"""A load that exceeds n replicas by less than this part of one is given n."""


class Capacity(Struct, frozen=True, kw_only=True, gc=False):
    """Averages over the last answers, and what follows: `per_replica` is work a second, 0 until something was measured."""

    per_replica: float = 0.0
    ttft_s: float = 0.0
    throughput: float = 0.0
    answers: int = 0


def first_tokens(counts: Sequence[int], slo_s: float) -> tuple[int, float, float]:
    """How many came, their average time in seconds, and how many of them were later than `slo_s` (counts by LATENCY_BOUNDS_S)."""
    total, time_s, late = 0, 0.0, 0.0
    for bound, count in zip(BOUNDS_S, counts, strict=False):
        if not count:
            continue
        total += count
        time_s += count * bound * 0.84
        lower = bound / 1.4142135623730951
        if bound > slo_s:
            late += count * min(1.0, (bound - slo_s) / (bound - lower))
    return total, time_s / total if total else 0.0, late


def learn(
    known: Capacity,
    *,
    answers: int,
    ttft_s: float,
    throughput: float,
    work: float,
    ready: int,
    as_planned: bool,
) -> Capacity:
    """After `answers` first tokens took `ttft_s` on average, while each of `ready` replicas did `throughput` work a second."""
    if answers <= 0 or ready <= 0 or ttft_s <= 0.0 or work <= 0.0:
        return known
    if known.per_replica and not as_planned:
        # Times tell of a backlog then, and not of a replica; but what is done meanwhile can be done.
        return replace(known, per_replica=max(known.per_replica, throughput))
    seen = known.answers + answers
    share = min(1.0, max(answers / REQUESTS_KEPT, answers / seen))
    mean_ttft_s = known.ttft_s + (ttft_s - known.ttft_s) * share
    mean_throughput = known.throughput + (throughput - known.throughput) * share
    fitting = _fitting(mean_ttft_s, mean_throughput, work, ready)
    if fitting < known.per_replica and seen > REQUESTS_KEPT:
        share /= SLOWER_DOWN
    return Capacity(
        per_replica=known.per_replica + (fitting - known.per_replica) * share,
        ttft_s=mean_ttft_s,
        throughput=mean_throughput,
        answers=seen,
    )


def _fitting(ttft_s: float, throughput: float, work: float, ready: int) -> float:
    """The capacity at which the formula gives the measured time: between none waits and M/M/1, so bisection ends."""
    exponent = sqrt(2.0 * (ready + 1)) - 1.0
    low = max(throughput / MOST_BUSY, work / ttft_s)
    high = low + 2.0 * work / ttft_s
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        busy = throughput / middle
        if work / middle * (1.0 + busy**exponent / (ready * (1.0 - busy))) > ttft_s:
            low = middle
        else:
            high = middle
    return low


def late_share(replicas: int, busy: float, slack: float) -> float:
    """Share of requests that wait longer than `slack` times the work of one, while the replicas are `busy` (1: always)."""
    if busy >= 1.0:
        return 1.0
    return float(busy ** sqrt(2.0 * (replicas + 1))) * exp(-replicas * (1.0 - busy) * max(0.0, slack))


def replicas_for(load: float, per_replica: float, work: float, slo_s: float, allowed: float) -> int:
    """Fewest replicas that bear `load` (work a second) with at most the share `allowed` of first tokens later than `slo_s`.

    Where even an idle replica is too slow for the promise, more of them do not help: at most one and 1.6 times the bare need.
    """
    least = load / per_replica
    replicas = max(1, ceil(least - ROUNDING))
    slack = slo_s * per_replica / work - 1.0 if work > 0.0 else 0.0
    most = 1.6 * least + 1.0
    while replicas < most and late_share(replicas, load / (replicas * per_replica), slack) > allowed:
        replicas += 1
    return replicas
