"""How the latest requests were routed, and what came of it: one worker's memory, bounded in bytes, oldest forgotten first.

Of every request that a router sends its record is kept. All that was weighed is kept where the caller asked for it, and of requests whose
trace is sampled, as often as `SAMPLE_EVERY_S` allows. Requests are called by their ids, which callers may choose: several may have one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping

import msgspec
from msgspec.structs import replace

from penstock.contracts.exchange import ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.decide.routing import Route
from penstock.gateway.call import Call
from penstock.gateway.explaining import explanation, header, runner_up
from penstock.gateway.route_record import Kept, RouteRecord, Step
from penstock.gateway.router import Router, Trip
from penstock.gateway.trail import Trail, trail_of
from penstock.kit.clock import Clock

EXPLAINED = "explained"
"""What other workers are asked about by a request's id."""
MAX_BYTES = 8 << 20
"""Of records in one worker: some 30,000 short ones."""
OVERHEAD_BYTES = 48
"""What a record takes beside its own bytes: the object's head, and its place in the row."""
SAMPLE_EVERY_S = 0.1
MAX_FOUND = 8
"""Requests of one id that are told of, the latest ones."""


class Explained:
    """Not for several threads. `bytes` is what the records take, `forgotten` counts those that had to make room."""

    def __init__(self, clock: Clock, max_bytes: int = MAX_BYTES) -> None:
        """Nothing is kept yet."""
        self._clock, self._max_bytes = clock, max_bytes
        self._kept: deque[bytes] = deque()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Kept).decode
        self._sampled_at = float("-inf")
        self.bytes = 0
        self.forgotten = 0

    def chosen(
        self,
        call: Call,
        service: ServiceRoute,
        router: Router,
        prompt: Prompt,
        held: Mapping[str, float],
        route: Route,
        now: float,
        avoid: Collection[str] = (),
        exclude: Collection[str] = (),
        session: str = "",
    ) -> None:
        """`router.route` said so for these arguments. To be called before anything else happens to the router."""
        trail = call.trail
        if trail is None:
            trail = call.trail = trail_of(prompt, router.profiles)
        trail.next, trail.next_held = route, max(held.values()) if held else 0.0
        if call.reading.explains or (call.trace.sampled and self._samples(now)):
            reasons = router.explain(service, prompt, held, now, avoid, exclude, session)
            trail.next_told = explanation(router, held, reasons) if reasons is not None else None

    def chosen_plainly(self, call: Call, route: Route) -> None:
        """The same without a router, for a caller that wants to know."""
        if call.trail is None:
            call.trail = Trail()
        call.trail.next = route

    def sent(self, call: Call, name: str, trip: Trip | None, now: float) -> None:
        """It goes to this endpoint: the one that was chosen, or the same as before."""
        trail = call.trail
        if trail is not None:
            trail.follow(name, trip, now)
            if call.reading.explains:
                call.route_header = header(trail)

    def ended(self, call: Call, trail: Trail, route: Route) -> None:
        """It is over, however it ended. `route` is the trail's."""
        prompt, service = trail.prompt, call.service
        if service is None:
            return
        began, trip, told, prefill = call.started, trail.trip, trail.explanation, trail.elsewhere
        data = self._encode(
            (
                call.id,
                began,
                service.namespace,
                service.name,
                trail.profile,
                route.prompt_class,
                trail.reason,
                call.endpoint,
                call.revision,
                runner_up(route, told),
                route.score,
                route.ready,
                route.in_flight,
                prompt.tokens if prompt is not None else 0,
                trip.cached_tokens if trip is not None else 0.0,
                route.cached_tokens,
                trail.most_held,
                call.prompt_tokens,
                call.cached_tokens,
                call.completion_tokens,
                call.admitted - began if call.admitted else 0.0,
                trail.predicted_s,
                call.first_byte_at - began if call.first_byte_at else 0.0,
                call.last_byte_at - began if call.last_byte_at else 0.0,
                call.streams,
                call.respond.status,
                call.error,
                _steps(call, trail) if len(trail.steps) > 1 else (),
                told,
                prefill.endpoint if prefill is not None else "",
                prefill.outcome if prefill is not None else "",
            )
        )
        self._kept.append(data)
        self.bytes += len(data) + OVERHEAD_BYTES
        while self.bytes > self._max_bytes:
            self.bytes -= len(self._kept.popleft()) + OVERHEAD_BYTES
            self.forgotten += 1

    def find(self, request_id: str) -> list[RouteRecord]:
        """Those of this id, latest first. A look at every record: some milliseconds."""
        wanted, found = request_id.encode(), []
        since = self._clock.now() - self._clock.monotonic()
        for data in reversed(self._kept):
            if wanted in data:
                record = self._decode(data)
                if record.id == request_id:
                    found.append(replace(record, at=record.at + since))
                    if len(found) == MAX_FOUND:
                        break
        return list(found)

    def answer(self, request_id: str) -> bytes:
        """`find` for another worker; `told` reads it."""
        return self._encode(self.find(request_id))

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def _samples(self, now: float) -> bool:
        if now - self._sampled_at < SAMPLE_EVERY_S:
            return False
        self._sampled_at = now
        return True


def told(answer: bytes) -> list[RouteRecord]:
    """What another worker answered; nothing where it is of a release with other records."""
    try:
        return list(_ANSWER.decode(answer))
    except msgspec.DecodeError:
        return []


_ANSWER = msgspec.msgpack.Decoder(list[Kept])


def _steps(call: Call, trail: Trail) -> tuple[Step, ...]:
    """Each failed but the last, which may have."""
    failures = (*call.failures, "")
    return tuple(
        Step(
            endpoint=name,
            revision=revision,
            after_s=at - call.started,
            failure=failures[min(place, len(failures) - 1)],
        )
        for place, (name, revision, at) in enumerate(trail.steps)
    )
