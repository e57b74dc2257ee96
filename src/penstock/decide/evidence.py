"""What speaks against the canary at each gate of its policy, by all that was seen so far?

Requests are gathered until there are a few of each revision, then each gate's evidence grows by them (`decide/analysis.py`). What a
gate compares with was fixed by the requests before those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

import msgspec

from penstock.contracts.exchange import LATENCY_BOUNDS_S
from penstock.decide.analysis import (
    Bounds,
    Counts,
    alarm_at,
    by_request,
    exceeding,
    grown,
    is_enough,
    slow_bucket,
    slow_buckets,
)
from penstock.resources.rollout import (
    ERROR_RATE,
    INTER_TOKEN_TIME,
    TTFT,
    GateEvidence,
    RevisionCounts,
    RolloutGate,
    RolloutPolicySpec,
    RolloutStatus,
    SignalCounts,
)

NOTHING = RevisionCounts()
Pair = tuple[RevisionCounts, RevisionCounts]


def observe(
    policy: RolloutPolicySpec, status: RolloutStatus, stable: RevisionCounts, canary: RevisionCounts
) -> RolloutStatus:
    """The status after these further requests; `policy` has its defaults."""
    pending = (total(_pair(status.pending)[0], stable), total(_pair(status.pending)[1], canary))
    counted = msgspec.structs.replace(status, step_requests=status.step_requests + canary.requests)
    block = (Counts(total=pending[0].requests), Counts(total=pending[1].requests))
    if not all(is_enough(block, _bounds(gate)) for gate in policy.gates):
        return msgspec.structs.replace(counted, pending=pending)
    seen = _pair(status.seen)
    after = (total(seen[0], pending[0]), total(seen[1], pending[1]))
    known = {evidence.gate: evidence for evidence in status.evidence}
    needed = alarm_at(policy.false_alarm_rate or 1.0, len(policy.gates))
    evidence = tuple(
        _weighed(gate, known.get(label(gate), GateEvidence(gate=label(gate))), seen, pending, after, needed)
        for gate in policy.gates
    )
    return msgspec.structs.replace(counted, seen=after, pending=(), evidence=evidence)


def label(gate: RolloutGate) -> str:
    """What a gate is called where it is told of: its signal and its limit."""
    return f"{gate.signal} {limit(gate)}"


def limit(gate: RolloutGate) -> str:
    """What a gate allows, in words."""
    beyond = f"{1 - (gate.quantile or 0):.2g}"
    if gate.max_seconds is not None:
        return f"beyond {gate.max_seconds:g} s for at most {beyond} of the requests"
    if gate.max_rate is not None:
        return f"at most {gate.max_rate:g}"
    words = [f"{gate.max_ratio or 1:g} times the stable one's"]
    if gate.signal in (TTFT, INTER_TOKEN_TIME):
        words = [f"at most {words[0]} quantile {gate.quantile or 0:g}"]
    else:
        words = [f"at most {words[0]}"]
    return " ".join((*words, f"plus {gate.max_increase:g}") if gate.max_increase else words)


def strength(evidence: GateEvidence) -> str:
    """The evidence as people read it: how many times likelier what was seen is if the canary is worse."""
    return (
        f"{math.exp(min(evidence.log_e, 700.0)):.3g} of the {math.exp(evidence.alarm_at):.3g} that it takes"
    )


def _weighed(
    gate: RolloutGate, before: GateEvidence, seen: Pair, block: Pair, after: Pair, needed: float
) -> GateEvidence:
    buckets = _buckets(gate, seen[0])
    if buckets is None:
        return msgspec.structs.replace(before, limit=limit(gate), alarm_at=needed)
    old, new, all_ = (
        (_counts(gate, pair[0], buckets[0]), _counts(gate, pair[1], buckets[1]))
        for pair in (seen, block, after)
    )
    log_e = grown(before.log_e, old, new, _bounds(gate))
    return GateEvidence(
        gate=before.gate,
        limit=limit(gate),
        log_e=log_e,
        alarm_at=needed,
        stable_rate=all_[0].rate,
        canary_rate=all_[1].rate,
        requests=(all_[0].total, all_[1].total),
        closed=before.closed or log_e >= needed,
    )


def _buckets(gate: RolloutGate, stable: RevisionCounts) -> tuple[int, int] | None:
    """Beyond which buckets times count, for the stable revision and the canary; None while it cannot be said."""
    if gate.signal not in (TTFT, INTER_TOKEN_TIME):
        return 0, 0
    if gate.max_seconds is not None:
        bucket = slow_bucket(LATENCY_BOUNDS_S, gate.max_seconds)
        return bucket, bucket
    return slow_buckets(_times(gate, stable), LATENCY_BOUNDS_S, gate.quantile or 0.0, gate.max_ratio or 1.0)


def _bounds(gate: RolloutGate) -> Bounds:
    if gate.max_seconds is not None:
        return Bounds(ratio=0.0, margin=1 - (gate.quantile or 0.0))
    if gate.max_rate is not None:
        return Bounds(ratio=0.0, margin=gate.max_rate)
    ratio = 1.0 if gate.signal in (TTFT, INTER_TOKEN_TIME) else gate.max_ratio or 1.0
    return Bounds(ratio=ratio, margin=gate.max_increase or 0.0)


def _counts(gate: RolloutGate, seen: RevisionCounts, bucket: int) -> Counts:
    if gate.signal == ERROR_RATE:
        return Counts(min(seen.failures, seen.requests), seen.requests)
    if gate.signal in (TTFT, INTER_TOKEN_TIME):
        return by_request(exceeding(_times(gate, seen), bucket), seen.requests)
    own = next((signal for signal in seen.signals if signal.name == gate.signal), SignalCounts(name=""))
    return Counts(min(own.exceeded, own.total), own.total)


def _times(gate: RolloutGate, seen: RevisionCounts) -> tuple[int, ...]:
    return seen.ttft if gate.signal == TTFT else seen.inter_token


def _pair(counts: tuple[RevisionCounts, ...]) -> Pair:
    """Nothing was seen where nothing is written."""
    return (counts[0], counts[1]) if len(counts) == 2 else (NOTHING, NOTHING)


def total(one: RevisionCounts, other: RevisionCounts) -> RevisionCounts:
    """Both together."""
    signals = {signal.name: signal for signal in one.signals}
    for signal in other.signals:
        known = signals.get(signal.name, SignalCounts(name=signal.name))
        signals[signal.name] = SignalCounts(
            name=signal.name, exceeded=known.exceeded + signal.exceeded, total=known.total + signal.total
        )
    return RevisionCounts(
        requests=one.requests + other.requests,
        failures=one.failures + other.failures,
        ttft=_added(one.ttft, other.ttft),
        inter_token=_added(one.inter_token, other.inter_token),
        signals=tuple(signals.values()),
    )


def _added(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip_longest(one, other, fillvalue=0))
