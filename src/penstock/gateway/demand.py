"""How much is asked of each service, and of each of its revisions, since it was told last.

Averages over time are areas under a number: what ends adds the time at which it does, what begins takes it away, and what is under way
counts up to the moment of asking. So an event costs an addition, whatever else is under way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

from penstock.contracts.exchange import (
    LATENCY_BOUNDS_S,
    EndpointDemand,
    RevisionDemand,
    RouteTable,
    ServiceDemand,
    ServiceRoute,
)
from penstock.gateway.call import Call

Id = tuple[str, str]
Home = tuple[Id, str]
"""The service and the revision of an endpoint."""
BYTES_PER_TOKEN = 4.0
"""Of a prompt, until an engine has told how many it counts."""
FADE = 0.9
"""How much of what was learned about prompts counts again after each report."""
MANY_BYTES = 1000.0
"""Prompts of which so much was seen weigh as much as what was assumed."""
_BUCKETS = len(LATENCY_BOUNDS_S) + 1


class Queue(NamedTuple):
    """Who waits for a service: the first for `wait_s` seconds by now, for an endpoint of one of the revisions `wanted`."""

    wait_s: float
    wanted: frozenset[str]


NOBODY = Queue(0.0, frozenset())


class RevisionLoad:
    """`tokens` are those in flight; whoever passes on a piece of a stream adds one. Times are monotonic.

    Between two events tokens grow evenly, as far as anybody knows.
    """

    __slots__ = ("_area_s", "_asked", "_at", "_before", "_itl", "_learned_bytes", "_learned_tokens", "_mark", "_token_area_s", "_tokens_per_byte",
                 "_ttft", "cached", "failures", "in_flight", "requests", "tokens")  # fmt: skip

    def __init__(self, now: float) -> None:
        self.in_flight = self.requests = self.failures = self._before = 0
        self.tokens = self._mark = self._area_s = self._token_area_s = self._asked = 0.0
        self._at = now
        self._tokens_per_byte = 1.0 / BYTES_PER_TOKEN
        self._learned_bytes = self._learned_tokens = 0.0
        self._ttft: list[int] | None = None
        self._itl: list[int] | None = None
        self.cached: dict[str, int] = {}

    def begin(self, now: float, prompt_bytes: int) -> float:
        """A request goes there; how many tokens its prompt is taken for."""
        estimate = prompt_bytes * self._tokens_per_byte
        tokens = self.tokens if self.in_flight else 0.0
        self.in_flight += 1
        self.requests += 1
        self._area_s -= now
        self._token_area_s += (self._mark + tokens) * (now - self._at)
        self._at = now
        self.tokens = self._mark = tokens + estimate
        self._asked += estimate
        return estimate

    def first_byte(self, after_s: float) -> None:
        """An answer that is no error began so long after its request had come."""
        ttft = self._ttft
        if ttft is None:
            ttft = self._ttft = [0] * _BUCKETS
        ttft[bisect_left(LATENCY_BOUNDS_S, after_s)] += 1

    def end(self, call: Call, now: float, tokens: float, prompt_bytes: int, failed: bool) -> None:
        """It is over, and so are its `tokens`: those that its prompt was taken for, and those generated. `call` has what the engine told."""
        self.over(now, tokens, failed=failed)
        told = call.prompt_tokens
        if told > 0:
            self._learned_bytes += prompt_bytes
            self._learned_tokens += told
            if call.cached_tokens > 0:
                self.cached[call.endpoint] = self.cached.get(call.endpoint, 0) + call.cached_tokens
        if call.streams and call.completion_tokens > 1:
            between_s = (call.last_byte_at - call.first_byte_at) / (call.completion_tokens - 1)
            if self._itl is None:
                self._itl = [0] * _BUCKETS
            self._itl[bisect_left(LATENCY_BOUNDS_S, between_s)] += 1

    def over(self, now: float, tokens: float, *, failed: bool) -> None:
        """As `end`, of what is nobody's call."""
        present = self.tokens
        self.in_flight -= 1
        self._area_s += now
        if failed:
            self.failures += 1
        self._token_area_s += (self._mark + present) * (now - self._at)
        self._at = now
        self.tokens = self._mark = present - tokens if self.in_flight else 0.0

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.in_flight or self.requests or self._area_s)

    def take(
        self, name: str, now: float, window_s: float, streams: Mapping[str, int], *, wanted: bool
    ) -> RevisionDemand:
        """What there is to tell since the last time; counting begins anew. `streams` are requests under way by endpoint."""
        self._token_area_s += (self._mark + self.tokens) * (now - self._at)
        self._at, self._mark = now, self.tokens
        endpoints = sorted({*streams, *self.cached})
        demand = RevisionDemand(
            name=name,
            in_flight=_average(self._area_s + self.in_flight * now, window_s),
            tokens_in_flight=_average(self._token_area_s / 2, window_s),
            prompt_tokens=self._asked,
            requests=self.requests,
            ended=self._before + self.requests - self.in_flight,
            failures=self.failures,
            ttft=tuple(self._ttft or ()),
            itl=tuple(self._itl or ()),
            endpoints=tuple(
                EndpointDemand(name=e, streams=streams.get(e, 0), cached_tokens=self.cached.get(e, 0))
                for e in endpoints
            ),
            wanted=wanted,
        )
        self._area_s, self._token_area_s = -self.in_flight * now, 0.0
        self._before, self.requests, self.failures = self.in_flight, 0, 0
        self._asked = 0.0
        self._ttft = self._itl = None
        self.cached = {}
        self._learn()
        return demand

    def _learn(self) -> None:
        if self._learned_tokens:
            seen, counted = self._learned_bytes, self._learned_tokens
            self._tokens_per_byte = (MANY_BYTES / BYTES_PER_TOKEN + counted) / (MANY_BYTES + seen)
            self._learned_bytes, self._learned_tokens = seen * FADE, counted * FADE


class ServiceLoad:
    """All requests of one service; `in_flight` are on their way to engines, `waiting` wait for a first endpoint.

    Whoever sends one on its way counts it here by himself, and `area_s` less the time; since that is part of each request.
    """

    __slots__ = ("area_s", "failures", "in_flight", "requests", "revisions", "waiting")

    def __init__(self) -> None:
        self.area_s = 0.0
        self.in_flight = self.waiting = self.requests = self.failures = 0
        self.revisions: dict[str, RevisionLoad] = {}

    def wait(self, now: float) -> None:
        """A request waits from now on. It counts as one that came."""
        self.area_s -= now
        self.waiting += 1
        self.requests += 1

    def leave(self, now: float, *, runs: bool, failed: bool) -> None:
        """It waits no more; one that `runs` begins right now, and is not counted twice for that."""
        self.area_s += now
        self.waiting -= 1
        self.requests -= runs
        self.failures += failed

    def revision(self, name: str, now: float) -> RevisionLoad:
        """The load of one revision."""
        found = self.revisions.get(name)
        if found is None:
            found = self.revisions[name] = RevisionLoad(now)
        return found

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.in_flight or self.waiting or self.requests or self.area_s)

    def take(self, now: float, window_s: float) -> tuple[float, int, int]:
        """Average in flight, requests and failures since the last time; counting begins anew."""
        present = self.in_flight + self.waiting
        told = (_average(self.area_s + present * now, window_s), self.requests, self.failures)
        self.area_s, self.requests, self.failures = -present * now, 0, 0
        return told


class Help:
    """What an endpoint does for another service's request: to its own service a request like any other. From its making to `end`."""

    __slots__ = ("_estimate", "_load", "_share")

    def __init__(self, load: ServiceLoad, revision: str, now: float, prompt_bytes: int) -> None:
        """`load` is its own service's."""
        load.area_s -= now
        load.in_flight += 1
        load.requests += 1
        self._load, self._share = load, load.revision(revision, now)
        self._estimate = self._share.begin(now, prompt_bytes)

    def end(self, now: float, *, failed: bool) -> None:
        """It is done, or given up."""
        self._load.area_s += now
        self._load.in_flight -= 1
        self._load.failures += failed
        self._share.over(now, self._estimate, failed=failed)


class Demand:
    """By service. One writer: the event loop of this worker."""

    def __init__(self) -> None:
        self.loads: dict[Id, ServiceLoad] = {}
        self._homes: dict[str, Home] = {}

    def of(self, key: Id) -> ServiceLoad:
        """The load of one service."""
        load = self.loads.get(key)
        if load is None:
            load = self.loads[key] = ServiceLoad()
        return load

    def help(self, namespace: str, home: str, now: float, prompt_bytes: int) -> Help:
        """One of `home` (SERVICE/REVISION) begins to do something for another service's request."""
        name, _, revision = home.partition("/")
        return Help(self.of((namespace, name)), revision, now, prompt_bytes)

    def keep(self, table: RouteTable, streams: Mapping[str, int]) -> None:
        """Forget services that are gone, and revisions too, once nothing of them is left to tell.

        Endpoints that the table knows no more are remembered as long as requests are under way there: they drain.
        """
        known = {(s.namespace, s.name): s for s in table.services}
        for key, load in list(self.loads.items()):
            service = known.get(key)
            names = {r.name for r in service.revisions} if service is not None else set()
            load.revisions = {
                name: own for name, own in load.revisions.items() if name in names or not own.is_idle
            }
            if service is None and load.is_idle:
                del self.loads[key]
        homes = {
            e.name: (key, r.name)
            for key, s in known.items()
            for r in s.revisions
            for e in (*r.endpoints, *r.starting)
        }
        left = {name: home for name, home in self._homes.items() if name in streams}
        self._homes = left | homes

    def report(
        self,
        now: float,
        window_s: float,
        routes: Mapping[Id, ServiceRoute],
        queues: Mapping[Id, Queue],
        streams: Mapping[str, int],
    ) -> tuple[ServiceDemand, ...]:
        """Of every service of which there is something to tell. `streams` are requests under way by endpoint."""
        told = []
        by_home: dict[Home, dict[str, int]] = {}
        for name, count in streams.items():
            if name in self._homes:
                by_home.setdefault(self._homes[name], {})[name] = count
        for key, load in sorted(self.loads.items()):
            if load.is_idle:
                continue
            queue, route = queues.get(key, NOBODY), routes.get(key)
            shares = route.revisions if route is not None else ()
            wanted = queue.wanted | {r.name for r in shares if r.weight_percent > 0 and not r.endpoints}
            revisions = tuple(
                (load.revisions.get(name) or RevisionLoad(now)).take(
                    name, now, window_s, by_home.get((key, name), {}), wanted=name in wanted
                )
                for name in sorted(wanted.union(n for n, own in load.revisions.items() if not own.is_idle))
            )
            in_flight, requests, failures = load.take(now, window_s)
            told.append(
                ServiceDemand(
                    namespace=key[0],
                    name=key[1],
                    in_flight=in_flight,
                    waiting=load.waiting,
                    requests=requests,
                    failures=failures,
                    wake=load.waiting > 0,
                    queue_wait_s=queue.wait_s,
                    revisions=revisions,
                )
            )
        return tuple(told)


def _average(area_s: float, window_s: float) -> float:
    return max(0.0, area_s / window_s) if window_s > 0 else 0.0
