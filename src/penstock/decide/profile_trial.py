"""Is the routing profile that is being tried worse than the one that it would replace?

Judged as a canary of a service is (`decide/evidence.py`): by errors and by times to the first byte, with a test that may be looked at after every
answer. Both profiles send to the same endpoints, so a candidate that slows all of them down is seen only as far as its own requests fare worse.
"""

from __future__ import annotations

from penstock.decide.evidence import observe, strength
from penstock.resources.rollout import (
    ERROR_RATE,
    TTFT,
    RevisionCounts,
    RolloutGate,
    RolloutPolicySpec,
    RolloutStatus,
)

POLICY = RolloutPolicySpec(
    gates=(
        RolloutGate(signal=ERROR_RATE, max_ratio=1.0, max_increase=0.01),
        RolloutGate(signal=TTFT, max_ratio=1.25, max_increase=0.01, quantile=0.95),
    ),
    false_alarm_rate=0.01,
)
"""One request of a hundred more that fails, or that is a quarter slower than only one of twenty is."""


def judged(status: RolloutStatus, proven: RevisionCounts, tried: RevisionCounts) -> RolloutStatus:
    """What speaks against the candidate after these further answers of either profile."""
    return observe(POLICY, status, proven, tried)


def verdict(status: RolloutStatus) -> str:
    """Why the candidate is to be withdrawn, in words; "" while there is no reason to."""
    for gate in status.evidence:
        if gate.closed:
            return (
                f"{gate.gate}: {gate.canary_rate:.3g} of its {gate.requests[1]} requests are beyond that, and "
                f"{gate.stable_rate:.3g} of the other profile's {gate.requests[0]} (evidence {strength(gate)})"
            )
    return ""
