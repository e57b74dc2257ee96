"""What a simulation comes to: times, how often users got what they were promised, replicas, cost, and the course of it all.

Percentiles are by nearest rank over every request. A request that failed missed the objective. Replica-seconds count from when a
replica is asked for until it is gone, its cold start and its draining with it; GPU-hours from when it has its GPUs.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from math import ceil

from msgspec import Struct

from penstock.engine.simulated.profile import EngineProfile
from penstock.testing.sim.recorder import ANSWERED, Recorder, ScaleEvent
from penstock.testing.sim.world import World

BUCKETS = 240


class Spread(Struct, frozen=True):
    """Of times in seconds; all 0 if there were none."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


class Course(Struct, frozen=True):
    """Over time, one entry per bucket of `bucket_s` seconds from `start_s`; a TTFT is None where no request was answered.

    `requests_per_s` by arrival, `asked` and `ready` replicas on average, TTFT of the requests that arrived in the bucket.
    """

    start_s: float
    bucket_s: float
    requests_per_s: tuple[float, ...]
    asked: tuple[float, ...]
    ready: tuple[float, ...]
    ttft_p50_s: tuple[float | None, ...]
    ttft_p99_s: tuple[float | None, ...]


class Result(Struct, frozen=True, kw_only=True):
    """One trace under one policy. `attainment` is the share of requests whose first token came within `slo_ttft_s`.

    `cost` is in `currency`, for the GPUs only.
    """

    trace: str
    policy: str
    engine: str
    services: int
    seed: int
    span_s: float
    slo_ttft_s: float
    requests: int
    answered: int
    failed: dict[str, int]
    attainment: float
    ttft_s: Spread
    latency_s: Spread
    held_s: Spread
    prompt_tokens: int
    output_tokens: int
    replica_seconds: float
    replicas_mean: float
    replicas_peak: int
    gpu_hours: float
    cost: float
    currency: str
    cold_starts: int
    scale_ups: int
    scale_downs: int
    scale_events: tuple[ScaleEvent, ...]
    course: Course


def summed_up(
    world: World, *, trace: str, policy: str, seed: int, gpu_hour_price: float | None = None
) -> Result:
    """After the world's run. The price is the profile's, unless another is given."""
    seen, settings = world.recorder, world.settings
    profile: EngineProfile = settings.profile
    answered = seen.outcomes[ANSWERED]
    requests = sum(seen.outcomes.values())
    slo_s = settings.setup.slo_ttft_s
    span_s = seen.end_s - seen.measure_from_s
    within = sum(1 for ttft_s in seen.ttft_s if ttft_s <= slo_s)
    price = profile.gpu_hour_price if gpu_hour_price is None else gpu_hour_price
    return Result(
        trace=trace,
        policy=policy,
        engine=profile.name,
        services=settings.services,
        seed=seed,
        span_s=round(span_s, 3),
        slo_ttft_s=slo_s,
        requests=requests,
        answered=answered,
        failed={why: count for why, count in sorted(seen.outcomes.items()) if why != ANSWERED},
        attainment=within / requests if requests else 1.0,
        ttft_s=spread(seen.ttft_s),
        latency_s=spread(seen.latency_s),
        held_s=spread(seen.held_s),
        prompt_tokens=seen.prompt_tokens,
        output_tokens=seen.output_tokens,
        replica_seconds=round(seen.replica_s, 3),
        replicas_mean=round(seen.replica_s / span_s, 4) if span_s else 0.0,
        replicas_peak=_peak(seen),
        gpu_hours=round(seen.gpu_s / 3600.0, 6),
        cost=round(seen.gpu_s / 3600.0 * price, 6),
        currency=profile.currency,
        cold_starts=seen.cold_starts,
        scale_ups=sum(1 for event in seen.scale_events if event.after > event.before),
        scale_downs=sum(1 for event in seen.scale_events if event.after < event.before),
        scale_events=tuple(seen.scale_events),
        course=_course(seen),
    )


def spread(values: array[float]) -> Spread:
    """Nearest rank."""
    if not values:
        return Spread(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    ordered = sorted(values)
    shares = (ranked(ordered, share) for share in (0.5, 0.9, 0.95, 0.99, 1.0))
    return Spread(*(round(value, 6) for value in (sum(ordered) / len(ordered), *shares)))


def ranked(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def _peak(seen: Recorder) -> int:
    level = peak = 0
    for at, asked, _ in seen.changes:
        if at >= seen.measure_from_s:
            peak = max(peak, level)
        level += asked
    return max(peak, level)


def _course(seen: Recorder) -> Course:
    start_s, end_s = seen.measure_from_s, seen.end_s
    bucket_s = max(1.0, (end_s - start_s) / BUCKETS)
    count = max(1, ceil((end_s - start_s) / bucket_s))

    def bucket(at: float) -> int:
        return min(count - 1, int((at - start_s) / bucket_s))

    times: list[list[float]] = [[] for _ in range(count)]
    arrivals = [0] * count
    for at, ttft_s in zip(seen.arrived_at, seen.ttft_s, strict=True):
        times[bucket(at)].append(ttft_s)
    for at in (*seen.arrived_at, *seen.failed_at):
        arrivals[bucket(at)] += 1
    for values in times:
        values.sort()
    return Course(
        start_s=start_s,
        bucket_s=round(bucket_s, 6),
        requests_per_s=tuple(round(n / bucket_s, 6) for n in arrivals),
        asked=_levels(((at, asked) for at, asked, _ in seen.changes), start_s, bucket_s, count),
        ready=_levels(((at, ready) for at, _, ready in seen.changes), start_s, bucket_s, count),
        ttft_p50_s=tuple(round(ranked(v, 0.5), 6) if v else None for v in times),
        ttft_p99_s=tuple(round(ranked(v, 0.99), 6) if v else None for v in times),
    )


def _levels(
    changes: Iterable[tuple[float, int]], start_s: float, bucket_s: float, count: int
) -> tuple[float, ...]:
    """The average level in each bucket of something that changes in steps."""
    areas = [0.0] * count
    level, since = 0, start_s
    for at, change in (*changes, (start_s + count * bucket_s, 0)):
        if at > since:
            _fill(areas, level, since - start_s, at - start_s, bucket_s)
            since = at
        level += change
    return tuple(round(area / bucket_s, 4) for area in areas)


def _fill(areas: list[float], level: int, left: float, right: float, bucket_s: float) -> None:
    number = int(left / bucket_s)
    while left < right and number < len(areas):
        end = min(right, (number + 1) * bucket_s)
        areas[number] += level * max(0.0, end - left)
        left, number = end, number + 1
