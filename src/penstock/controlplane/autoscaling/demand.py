"""What gateways report of one revision, kept as windows that the laws read."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from math import floor

from penstock.contracts.exchange import RevisionDemand
from penstock.decide.sampling import FIRST_STAT, LONGEST_REPORT_S, Held, reported, settled
from penstock.kit.windows import ExponentialWindow, LinearWindow, Window
from penstock.resources.autoscaler_settings import EXPONENTIAL, AutoscalerSettings

FORGET_S = 60.0
"""Over which the value of a cache fades to half."""
WHOLE_S = 0.5
"""Reports come each second; one over less was sent early."""


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


class Demand:
    """Times are monotonic seconds of the control plane: what clocks of gateways say is not trusted."""

    def __init__(self, settings: AutoscalerSettings) -> None:
        """Nothing was reported."""
        self.loads: dict[str, Load] = {}
        self._kind = settings.algorithm
        self._metric = settings.metric
        self._windows = _windows(settings)
        self._debts: dict[str, float] = {}
        self._filled_at: float | None = None
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
            self._debts[gateway] = FIRST_STAT
            self._record(FIRST_STAT, now)

    def report(self, gateway: str, seen: RevisionDemand, held: Held, window_s: float, now: float) -> None:
        """`window_s` is what the report covers."""
        self._tally.add(seen, held.requests, window_s)
        counted = reported(self._metric, seen, held, window_s)
        owed = self._debts.pop(gateway, 0.0) if window_s >= WHOLE_S else 0.0
        if counted is not None:
            self._record(settled(counted, owed), now)
        self.quiet(gateway)
        for endpoint in seen.endpoints:
            load = self.loads.setdefault(endpoint.name, Load())
            load.streams[gateway] = endpoint.streams
            if endpoint.cached_tokens:
                load.save(endpoint.cached_tokens, now)

    def fill(self, percent: float, now: float) -> None:
        """How full the KV caches of the ready pods are, together: the metric kv-cache-use, which no gateway reports.

        It holds for the seconds since the look before: windows take a gap for silence.
        """
        if self._metric != "kv-cache-use":
            return
        since = now - 1 if self._filled_at is None else max(self._filled_at, now - LONGEST_REPORT_S)
        for second in range(floor(since) + 1, floor(now) + 1):
            self._record(percent, second)
        self._filled_at = now

    def silence(self, now: float) -> None:
        """Gateways have reported, and said nothing of this revision: nothing is asked of it."""
        self._record(0.0, now)

    def quiet_since(self, since: float, now: float) -> None:
        """As if `silence` had been told all along."""
        for window in self._windows:
            window.quiet(since, now)

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

    def _record(self, value: float, now: float) -> None:
        for window in self._windows:
            window.record(now, value)


def _windows(settings: AutoscalerSettings) -> tuple[Window, Window]:
    kind = ExponentialWindow if settings.algorithm == EXPONENTIAL else LinearWindow
    return kind(settings.stable_window_s), kind(settings.panic_window_s)
