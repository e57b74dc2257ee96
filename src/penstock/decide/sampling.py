"""What does one look at the demand count in a revision's windows?

Source: Knative's autoscaler (pkg/autoscaler/metrics: sample_size, stats_scraper, collector) and activator (pkg/activator/handler). What is
recorded of several sources within a second adds up, so each source tells its own part of the second's average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import NamedTuple

from penstock.contracts.exchange import RevisionDemand
from penstock.resources.autoscaler_settings import Metric

FIRST_STAT = 1.0
"""What the first request of a sleeping revision counts at once; its gateway's next report is less by as much."""
LONGEST_REPORT_S = 60.0
"""One that covers more comes of a clock that jumped, or of a gateway that slept."""
ALL_UP_TO = 3
_CERTAINTY = 1.96**2 * 100 / 25
"""Of a sample that is 95 % certain within 20 percent of a mean whose variance is 100: ten squared over five squared."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What one pod tells: averages and counts of the last second, and which part of them came through a gateway that tells them too."""

    concurrency: float = 0.0
    proxied_concurrency: float = 0.0
    requests: float = 0.0
    proxied_requests: float = 0.0


class Recorded(NamedTuple):
    """What goes into the windows, by metric."""

    concurrency: float
    rps: float


class Held(NamedTuple):
    """Requests that wait for the service, as far as they are this revision's: their average number, and the longest wait.

    A wait is the same for all of a service's pods, so it is counted once for each of the `ready`.
    """

    requests: float = 0.0
    wait_s: float = 0.0
    ready: int = 0


def sample_size(ready: int) -> int:
    """How many of so many ready pods must be asked to know all of them well enough."""
    if ready <= ALL_UP_TO:
        return max(0, ready)
    return ceil(ready * _CERTAINTY / (ready + _CERTAINTY - 1))


def recorded(stats: Sequence[Stat], ready: int) -> Recorded | None:
    """What all ready pods count, by the stats of a sample of them; None where too few have answered, or none is ready."""
    if ready <= 0 or len(stats) < sample_size(ready):
        return None
    scale = ready / len(stats)
    concurrency = sum(stat.concurrency - stat.proxied_concurrency for stat in stats)
    return Recorded(concurrency * scale, sum(stat.requests - stat.proxied_requests for stat in stats) * scale)


def reported(metric: Metric, seen: RevisionDemand, held: Held, window_s: float) -> float | None:
    """What a gateway's report counts that covers so many seconds: its average is spread over the second that it comes in.

    So reports of several gateways add up, short ones count for little, and late ones for all that they cover. Requests that wait count
    as concurrency. None for the KV cache, of which gateways know nothing: its use is `recorded` of engines.
    """
    covered_s = min(_sound(window_s), LONGEST_REPORT_S)
    match metric:
        case "rps":
            return _sound(seen.requests)
        case "in-flight-tokens":
            return _sound(seen.tokens_in_flight) * covered_s
        case "queue-wait":
            return _sound(held.wait_s) * max(1, held.ready) * covered_s
        case "kv-cache-use":
            return None
    return (_sound(seen.in_flight) + _sound(held.requests)) * covered_s


def _sound(value: float) -> float:
    """What is less than nothing, or no number, counts as nothing."""
    return value if isfinite(value) and value > 0 else 0.0


def settled(counted: float, owed: float) -> float:
    """A report after a first stat was counted in advance."""
    return max(0.0, counted - owed)
