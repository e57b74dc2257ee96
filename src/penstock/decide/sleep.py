"""How far may this revision go to sleep, so that it is back within the promised time?

Three depths, the deepest that keeps the promise (`penstock.dev/resume-within`) is taken: Gone, nothing is kept; Cached, no process runs,
but the weights stay in the machine's page cache; Idle, one replica stays. What each costs in time is measured: a start counts as one with
cached weights if nine tenths of their bytes were in memory when it began. A depth whose start was never measured promises nothing.
"""

from __future__ import annotations

from typing import Literal

from penstock.resources.pod_autoscaler import ColdStart, SleepStatus

Depth = Literal["Idle", "Cached", "Gone"]
IDLE: Depth = "Idle"
CACHED: Depth = "Cached"
GONE: Depth = "Gone"


def sleep_depth(resume_within_s: float, known: ColdStart | None) -> SleepStatus:
    """The depth and why; `known` is None before the first start was seen."""
    if known is None:
        return SleepStatus(
            depth=IDLE, reason="no start was measured yet: one replica stays", resume_expected_s=0.0
        )
    promise = f"{resume_within_s:g} s are promised"
    gone_s, cached_s = known.uncached_expected_s, known.expected_s
    if gone_s and gone_s <= resume_within_s:
        reason = f"{promise}; a start from nothing takes {gone_s:g} s"
        return SleepStatus(depth=GONE, reason=reason, resume_expected_s=gone_s)
    if known.totals_s and cached_s <= resume_within_s:
        other = f"one without {gone_s:g} s" if gone_s else "one without was never measured"
        reason = f"{promise}; a start with cached weights takes {cached_s:g} s, {other}"
        return SleepStatus(depth=CACHED, reason=reason, resume_expected_s=cached_s)
    least_s = cached_s or gone_s
    reason = f"{promise}, the quickest start takes {least_s:g} s: one replica stays"
    return SleepStatus(depth=IDLE, reason=reason, resume_expected_s=0.0)
