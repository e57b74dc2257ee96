"""What has this container used so far, as its recommended size rests on it?

CPU: every sample, with the weight of what was requested. Memory: the peak of each interval is one sample, so that a short peak
counts as much as a long one; running out of memory is a peak above what there was. Source: kubernetes/autoscaler's
recommender (aggregate container state).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from penstock.kit.histogram import Buckets, DecayingHistogram
from penstock.kit.quantity import parse_quantity, to_bytes
from penstock.resources.vpa import ContainerResourcePolicy

DAY_S = 86_400.0
HALF_LIFE_S = DAY_S
CPU_BUCKETS = Buckets(first=0.01, growth=0.05, most=1000.0)
MEMORY_BUCKETS = Buckets(first=1e7, growth=0.05, most=1e12)
NO_CPU = DecayingHistogram(CPU_BUCKETS, HALF_LIFE_S)
NO_MEMORY = DecayingHistogram(MEMORY_BUCKETS, HALF_LIFE_S)
MIN_CPU_WEIGHT_CORES = 0.1


@dataclass(frozen=True, slots=True)
class Rules:
    """How memory is gathered, and how much more a container needs that ran out of it."""

    interval_s: float = DAY_S
    intervals: int = 8
    oom_ratio: float = 1.2
    oom_bytes: int = 100 << 20

    @property
    def expires_s(self) -> float:
        """A history without samples for so long says nothing any more."""
        return self.interval_s * self.intervals


@dataclass(frozen=True, slots=True)
class History:
    """All pods' use of one container, by name. `samples` counts those of CPU; times are seconds since the epoch."""

    cpu: DecayingHistogram = NO_CPU
    memory: DecayingHistogram = NO_MEMORY
    first_sample_s: float | None = None
    last_sample_s: float | None = None
    samples: int = 0

    @property
    def confidence(self) -> float:
        """Days of history, or days of one sample each minute, whichever is less."""
        if self.first_sample_s is None or self.last_sample_s is None:
            return 0.0
        return min((self.last_sample_s - self.first_sample_s) / DAY_S, self.samples / 1440)


@dataclass(frozen=True, slots=True)
class Window:
    """The present interval of one running container: its end, and the peaks in it that count so far."""

    ends_s: float = 0.0
    peak_bytes: float = 0.0
    oom_bytes: float = 0.0

    @property
    def counted_bytes(self) -> float:
        """What stands in the history for this interval; 0 for nothing."""
        return max(self.peak_bytes, self.oom_bytes)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one container uses at an instant; None where it could not be read."""

    at_s: float
    cpu_cores: float | None = None
    memory_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """The new history and window, and why something was left out."""

    history: History
    window: Window
    reasons: tuple[str, ...] = field(default=())


def rules_of(policy: ContainerResourcePolicy | None) -> Rules:
    """The rules that a container's policy sets, and the defaults for the rest."""
    rules = Rules()
    if policy is None:
        return rules
    ratio, extra = policy.oom_bump_up_ratio, policy.oom_min_bump_up
    return Rules(
        interval_s=float(policy.memory_aggregation_interval_seconds or rules.interval_s),
        intervals=policy.memory_aggregation_interval_count or rules.intervals,
        oom_ratio=rules.oom_ratio if ratio is None else float(parse_quantity(ratio)),
        oom_bytes=rules.oom_bytes if extra is None else to_bytes(extra),
    )


def observe(
    history: History, window: Window, sample: Sample, request_cores: float, rules: Rules | None = None
) -> Observed:
    """With one more sample of a running container that requests `request_cores`. Impossible values are left out."""
    rules = rules or Rules()
    history, window, at_s, reasons = _in_time(history, window, sample.at_s, rules)
    cpu, memory = sample.cpu_cores, sample.memory_bytes
    if cpu is not None and _is_sane(cpu):
        history = replace(
            history,
            cpu=history.cpu.add(cpu, max(request_cores, MIN_CPU_WEIGHT_CORES), at_s),
            samples=history.samples + 1,
            first_sample_s=at_s if history.first_sample_s is None else history.first_sample_s,
            last_sample_s=at_s,
        )
    elif cpu is not None:
        reasons = (*reasons, f"left out a CPU use of {cpu} cores: no use can be that")
    if memory is not None and _is_sane(memory):
        history, window = _with_peak(history, window, memory, at_s, rules, oom=False)
    elif memory is not None:
        reasons = (*reasons, f"left out a memory use of {memory} bytes: no use can be that")
    return Observed(history, window, reasons)


def observe_oom(
    history: History, window: Window, request_bytes: float, at_s: float, rules: Rules | None = None
) -> Observed:
    """With the news that a container ran out of memory, which it had requested `request_bytes` of."""
    rules = rules or Rules()
    history, window, at_s, reasons = _in_time(history, window, at_s, rules)
    used = max(request_bytes, window.peak_bytes)
    needed = max(used * rules.oom_ratio, used + rules.oom_bytes)
    history, window = _with_peak(history, window, needed, at_s, rules, oom=True)
    return Observed(
        history, window, (*reasons, f"ran out of memory: {needed:.0f} bytes are taken as its peak")
    )


def without_usage_peak(history: History, window: Window) -> History:
    """As it is written down: a running container's peak comes again after a restart, what an OOM taught does not."""
    if not window.peak_bytes or window.oom_bytes > window.peak_bytes:
        return history
    return replace(history, memory=history.memory.subtract(window.peak_bytes, 1.0, window.ends_s))


def _in_time(
    history: History, window: Window, at_s: float, rules: Rules
) -> tuple[History, Window, float, tuple[str, ...]]:
    """Without what expired or lies in the future; a clock that went back a little stands still instead."""
    last_s = history.last_sample_s
    if last_s is None:
        return history, window, at_s, ()
    if at_s - last_s > rules.expires_s:
        return History(), Window(), at_s, ("the history had ended: no samples for too long",)
    if last_s - at_s > DAY_S:
        return History(), Window(), at_s, ("began anew: the history lies more than a day in the future",)
    return history, window, max(at_s, last_s), ()


def _with_peak(
    history: History, window: Window, used_bytes: float, at_s: float, rules: Rules, *, oom: bool
) -> tuple[History, Window]:
    """One sample per interval: a higher peak takes the place of the one that counted until now."""
    if not window.ends_s or window.ends_s - at_s > rules.interval_s:
        window = Window(ends_s=at_s)
    memory = history.memory
    if at_s < window.ends_s:
        before = window.counted_bytes
        if before and used_bytes <= before:
            return history, window
        if before:
            memory = memory.subtract(before, 1.0, window.ends_s)
    else:
        passed = math.floor((at_s - window.ends_s) / rules.interval_s) + 1
        window = Window(ends_s=window.ends_s + passed * rules.interval_s)
    memory = memory.add(used_bytes, 1.0, window.ends_s)
    peaks = {"oom_bytes": used_bytes} if oom else {"peak_bytes": used_bytes}
    return replace(history, memory=memory), replace(window, **peaks)


def _is_sane(value: float) -> bool:
    return math.isfinite(value) and value >= 0
