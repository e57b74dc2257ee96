"""What gateways report of one revision, kept as windows that the laws read.

A report covers the seconds since the one before: its averages, times those seconds, are areas, and areas of several gateways and of
several reports within a second add up to the second's average. So short reports count for little, and late ones for all they cover.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

from penstock.contracts.exchange import RevisionDemand
from penstock.kit.windows import ExponentialWindow, LinearWindow, Window
from penstock.resources.autoscaler_settings import EXPONENTIAL, AutoscalerSettings

FORGET_S = 60.0
"""Over which the value of a cache fades to half."""
WHOLE_S = 0.5
"""Reports come each second; one over less was sent early."""
POKE = 1.0
"""What the first request of a sleeping revision counts at once; its gateway's next report is less by as much (Knative)."""


@dataclass(slots=True)
class Load:
    """One endpoint: streams by gateway as last reported, and the tokens that its cache has saved lately, fading."""

    streams: dict[str, int] = field(default_factory=dict)
    saved: float = 0.0
    saved_at: float = 0.0

    def worth(self, now: float) -> float:
        """Tokens; half of them after FORGET_S."""
        return self.saved * float(0.5 ** ((now - self.saved_at) / FORGET_S))

    def save(self, tokens: int, now: float) -> None:
        """The cache has saved so many more."""
        self.saved, self.saved_at = self.worth(now) + tokens, now


@dataclass(slots=True)
class Tally:
    """What was reported since it was last taken: `area_s` in request-seconds, with those that wait; `ttft` counts by LATENCY_BOUNDS_S."""

    requests: int = 0
    area_s: float = 0.0
    prompt_tokens: float = 0.0
    ttft: tuple[int, ...] = ()

    def add(self, seen: RevisionDemand, held: float, window_s: float) -> None:
        """One report."""
        self.requests += max(0, seen.requests)
        self.area_s += max(0.0, seen.in_flight + held) * window_s
        self.prompt_tokens += max(0.0, seen.prompt_tokens)
        if seen.ttft:
            self.ttft = tuple(map(sum, zip_longest(self.ttft, seen.ttft, fillvalue=0)))


class Held(NamedTuple):
    """Requests that wait for the service, as far as they are this revision's: their average number, and the longest wait.

    A wait is the same for all of a service's pods, so it is counted once for each of the `ready`.
    """

    requests: float = 0.0
    wait_s: float = 0.0
    ready: int = 0


class Demand:
    """Times are monotonic seconds of the control plane: what clocks of gateways say is not trusted."""

    def __init__(self, settings: AutoscalerSettings) -> None:
        """Nothing was reported."""
        self.loads: dict[str, Load] = {}
        self._kind = settings.algorithm
        self._metric = settings.metric
        self._windows = _windows(settings)
        self._debts: dict[str, float] = {}
        self._tally = Tally()

    def adapt(self, settings: AutoscalerSettings, now: float) -> None:
        """Other settings: windows are resized; another metric or algorithm begins anew."""
        if (settings.algorithm, settings.metric) != (self._kind, self._metric):
            self._kind, self._metric = settings.algorithm, settings.metric
            self._windows = _windows(settings)
            return
        lengths = (settings.stable_window_s, settings.panic_window_s)
        for window, length_s in zip(self._windows, lengths, strict=True):
            window.resize(length_s, now)

    def poke(self, gateway: str, now: float) -> None:
        """Its first request waits there."""
        if gateway not in self._debts:
            self._debts[gateway] = POKE
            self._record(POKE, now)

    def report(self, gateway: str, seen: RevisionDemand, held: Held, window_s: float, now: float) -> None:
        """`window_s` is what the report covers."""
        self._tally.add(seen, held.requests, window_s)
        area = self._area(seen, held, window_s)
        owed = self._debts.get(gateway, 0.0)
        if owed and window_s >= WHOLE_S:
            area, _ = max(0.0, area - owed), self._debts.pop(gateway)
        self._record(area, now)
        self.quiet(gateway)
        for endpoint in seen.endpoints:
            load = self.loads.setdefault(endpoint.name, Load())
            load.streams[gateway] = endpoint.streams
            if endpoint.cached_tokens:
                load.save(endpoint.cached_tokens, now)

    def fill(self, percent: float, now: float) -> None:
        """How full the KV caches of the ready pods are, together: the metric kv-cache-use, which no gateway reports."""
        if self._metric == "kv-cache-use":
            self._record(percent, now)

    def silence(self, now: float) -> None:
        """Gateways have reported, and said nothing of this revision: nothing is asked of it."""
        self._record(0.0, now)

    def gone(self, gateway: str) -> None:
        """A gateway is not connected any more: what it had under way is over."""
        self._debts.pop(gateway, None)
        for load in self.loads.values():
            load.streams.pop(gateway, None)

    def quiet(self, gateway: str) -> None:
        """A gateway's report does not name the revision: nothing of it is under way there."""
        for load in self.loads.values():
            load.streams.pop(gateway, None)

    def take(self) -> Tally:
        """All that was reported since this was last asked."""
        taken, self._tally = self._tally, Tally()
        return taken

    def keep(self, endpoints: frozenset[str]) -> None:
        """Forget the endpoints that are gone."""
        for name in [name for name in self.loads if name not in endpoints]:
            del self.loads[name]

    def averages(self, now: float) -> tuple[float, float] | None:
        """Of the stable and the panic window; None where nothing was reported for longer than the stable one."""
        stable, panic = self._windows
        return None if stable.is_empty(now) else (stable.average(now), panic.average(now))

    def _area(self, seen: RevisionDemand, held: Held, window_s: float) -> float:
        match self._metric:
            case "rps":
                return float(max(0, seen.requests))
            case "in-flight-tokens":
                return max(0.0, seen.tokens_in_flight) * window_s
            case "queue-wait":
                return max(0.0, held.wait_s) * max(1, held.ready) * window_s
            case "kv-cache-use":
                return 0.0
        return max(0.0, seen.in_flight + held.requests) * window_s

    def _record(self, value: float, now: float) -> None:
        for window in self._windows:
            window.record(now, value)


def _windows(settings: AutoscalerSettings) -> tuple[Window, Window]:
    kind = ExponentialWindow if settings.algorithm == EXPONENTIAL else LinearWindow
    return kind(settings.stable_window_s), kind(settings.panic_window_s)
