"""What this gateway knows of each endpoint by itself: requests in flight, and the state of its circuit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from penstock.contracts.exchange import RouteTable, ServiceRoute
from penstock.decide.breaker import (
    CLOSED,
    SLOW_START_S,
    Circuit,
    State,
    after_answer,
    after_failure,
    after_hearsay,
    at,
    is_plain,
    weight,
)
from penstock.decide.retry import Failure
from penstock.kit.clock import Clock

NOTHING: Mapping[str, float] = {}
logger = logging.getLogger(__name__)


class Endpoints:
    """By endpoint name, that is by pod. What is well costs two dictionary look-ups per request and no look at the clock."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is known."""
        self._clock = clock
        self._answers: dict[str, int] = {}
        self.circuits: dict[str, Circuit] = {}  # only those in which something matters
        self._probed: set[str] = set()
        self._group: dict[str, tuple[str, ...]] = {}
        self.in_flight: dict[str, int] = {}
        self.openings: dict[str, int] = {}
        self.joined: Collection[str] = ()
        self.on_lost: Callable[[str], None] = lambda name: None

    def begin(self, name: str) -> None:
        """A request goes there."""
        self.in_flight[name] = self.in_flight.get(name, 0) + 1
        if self.circuits and name in self.circuits and self._now(name).state == "half_open":
            self._probed.add(name)

    def end(self, name: str) -> None:
        """A request came back, or was given up."""
        left = self.in_flight.get(name, 0) - 1
        if left > 0:
            self.in_flight[name] = left
        else:
            self.in_flight.pop(name, None)
        if self._probed:
            self._probed.discard(name)

    def failed(self, name: str, failure: Failure = "no_answer", asked_s: float = 0.0) -> None:
        """It failed a request; `asked_s` is what its own Retry-After says. One of `joined` is then lost."""
        if name in self.joined:
            self.on_lost(name)
            return
        group = self._group.get(name)
        if group is None:
            return
        before = self._now(name)
        others = sum(self._now(other).state != "closed" for other in group if other != name)
        after = after_failure(
            before,
            failure,
            self._clock.monotonic(),
            answers=self._answers[name],
            others_open=others,
            endpoints=len(group),
            asked_s=asked_s,
        )
        self.circuits[name] = after
        if after.state == "open" and before.state != "open":
            self._probed.discard(name)
            self.openings[name] = self.openings.get(name, 0) + 1
            logger.warning(
                "endpoint %s gets no requests for %.1f s: %s",
                name,
                after.open_until - self._clock.monotonic(),
                failure,
            )

    def answered(self, name: str) -> None:
        """It answers."""
        if name not in self._answers:
            return  # it is gone from the table
        self._answers[name] += 1
        if self.circuits and name in self.circuits:
            before = self._now(name)
            self.circuits[name] = after_answer(before, self._clock.monotonic())
            if before.state == "half_open":
                self._probed.discard(name)
                logger.warning("endpoint %s answers again: its share of requests rises", name)

    def answers(self, name: str) -> int:
        """How often it has answered so far."""
        return self._answers.get(name, 0)

    def told_open(self, name: str, until: float, answers_before: int) -> None:
        """Another gateway leaves it alone until then; when it was heard, it had answered `answers_before` times here."""
        group = self._group.get(name)
        if group is None or name in self.joined:
            return
        before = self._now(name)
        others = sum(self._now(other).state != "closed" for other in group if other != name)
        after = after_hearsay(
            before,
            self._clock.monotonic(),
            until,
            answers_since=self._answers[name] - answers_before,
            others_open=others,
            endpoints=len(group),
        )
        if after is not before:
            self.circuits[name] = after
            logger.warning(
                "endpoint %s gets no requests for %.1f s: another gateway leaves it alone, and it answers nothing here",
                name,
                after.open_until - self._clock.monotonic(),
            )

    def set_aside(self) -> Collection[str]:
        """Endpoints that should get no request now: those that are open, and those that are being probed."""
        if not self.circuits:
            return ()
        avoided = set()
        for name in tuple(self.circuits):
            state = self._now(name).state
            if state == "open" or (state == "half_open" and name in self._probed):
                avoided.add(name)
        return avoided

    def weights(self) -> Mapping[str, float]:
        """The share of choices that endpoints take part in which start slowly; all others take part in each."""
        if not self.circuits:
            return NOTHING
        now = self._clock.monotonic()
        return {
            name: weight(circuit, now)
            for name, circuit in self.circuits.items()
            if circuit.state == "closed" and circuit.warm_at > now
        }

    def states(self) -> dict[str, State]:
        """The state of every endpoint in the table, for metrics."""
        return {name: self._now(name).state for name in self._group}

    def keep(self, table: RouteTable) -> None:
        """Forget the endpoints that are gone; those that join others start slowly."""
        group: dict[str, tuple[str, ...]] = {}
        for service in table.services:
            self._gather(service, group)
        for name in [name for name in self._group if name not in group]:
            self._forget(name)
        self._group = group

    def regroup(self, before: ServiceRoute, after: ServiceRoute) -> None:
        """One service has other endpoints now."""
        group = dict(self._group)
        for name in _names(before):
            group.pop(name, None)
        self._gather(after, group)
        for name in _names(before):
            if name not in group:
                self._forget(name)
        self._group = group

    def _gather(self, service: ServiceRoute, group: dict[str, tuple[str, ...]]) -> None:
        names = _names(service)
        joins = any(name in self._group for name in names)
        for name in names:
            group[name] = names
            self._answers.setdefault(name, 0)
            if joins and name not in self._group:
                self.circuits[name] = Circuit(warm_at=self._clock.monotonic() + SLOW_START_S)

    def _forget(self, name: str) -> None:
        self.circuits.pop(name, None)
        self._answers.pop(name, None)
        self.openings.pop(name, None)
        self._probed.discard(name)

    def _now(self, name: str) -> Circuit:
        """The circuit as time has left it; forgotten where nothing in it matters any more."""
        circuit = self.circuits.get(name)
        if circuit is None:
            return CLOSED
        now = self._clock.monotonic()
        present = at(circuit, now)
        if is_plain(present, now):
            del self.circuits[name]
            return CLOSED
        if present is not circuit:
            self.circuits[name] = present
        return present


def _names(service: ServiceRoute) -> tuple[str, ...]:
    return tuple(e.name for r in service.revisions for e in r.endpoints)
