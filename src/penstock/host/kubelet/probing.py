"""When is a container asked next, and what do the answers so far mean?

Counted probes come every `period_s`, as in Kubernetes. Until the first success of a startup or readiness probe, further ones are
made in between, so that a pod is ready as soon as its program is and not up to a period later. Their failures do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.resources.pod import Probe

EAGER_S = 0.1
EAGER_EXEC_S = 1.0
EAGER_LIMIT_S = 1.0


@dataclass(frozen=True, slots=True)
class ProbeRule:
    """A probe's numbers with Kubernetes' defaults filled in. `eager_s` is None for a probe that is never hurried."""

    initial_delay_s: float = 0.0
    period_s: float = 10.0
    timeout_s: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3
    eager_s: float | None = None


@dataclass(frozen=True, slots=True)
class ProbeState:
    """Answers in a row, and the verdict: None until a threshold was reached."""

    verdict: bool | None = None
    successes: int = 0
    failures: int = 0


def rule_of(probe: Probe, *, eager: bool) -> ProbeRule:
    """The numbers of `probe`. Commands are hurried less than sockets, because each costs a process."""
    pace_s = EAGER_EXEC_S if probe.exec else EAGER_S
    return ProbeRule(
        initial_delay_s=float(probe.initial_delay_seconds or 0),
        period_s=float(probe.period_seconds or 10),
        timeout_s=float(probe.timeout_seconds or 1),
        success_threshold=probe.success_threshold or 1,
        failure_threshold=probe.failure_threshold or 3,
        eager_s=pace_s if eager else None,
    )


def observe(state: ProbeState, rule: ProbeRule, *, ok: bool, counted: bool) -> ProbeState:
    """The state after one more answer. An answer between two periods counts only if it is a success."""
    if ok:
        successes = state.successes + 1
        return ProbeState(True if successes >= rule.success_threshold else state.verdict, successes, 0)
    if not counted:
        return ProbeState(state.verdict, 0, state.failures)
    failures = state.failures + 1
    return ProbeState(False if failures >= rule.failure_threshold else state.verdict, 0, failures)


def pause_s(rule: ProbeRule, *, since_start_s: float, until_counted_s: float, seen_success: bool) -> float:
    """Seconds until the next probe. The hurry lets off with time: a tenth of what the start has taken, at most 1 s."""
    if rule.eager_s is None or seen_success:
        return max(0.0, until_counted_s)
    eager_s = max(rule.eager_s, min(since_start_s / 10, EAGER_LIMIT_S))
    return max(0.0, min(eager_s, until_counted_s))
