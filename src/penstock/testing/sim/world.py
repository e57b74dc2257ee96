"""The simulated platform: services, their replicas, a gateway that holds and routes, and laws that scale; one queue of events.

Time passes from event to event, so what is idle costs nothing: a law that is settled sleeps until a request comes. Routing and scale-in
are the platform's own decisions. A request without a ready replica is held. A replica costs from when it is asked for until it is gone:
it starts through the phases of its profile once its GPUs are free, and when it is to go it takes no more requests and finishes what it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil
from typing import Any

from penstock.decide.routing import route
from penstock.decide.scale_in import Replica as ReplicaFacts
from penstock.decide.scale_in import plan_scale_in
from penstock.engine.simulated.profile import EngineProfile
from penstock.kit.errors import Internal
from penstock.testing.sim.engine import NEVER, Request
from penstock.testing.sim.policy import Policy, Setup
from penstock.testing.sim.recorder import DOES_NOT_FIT, HELD_TOO_LONG, Recorder, ScaleEvent
from penstock.testing.sim.replica import Replica, State
from penstock.testing.sim.service import Service

_ENGINE, _READY, _TICK, _SCALE_IN, _HOLD = range(5)
Event = tuple[float, int, int, Any, int]
FIRST_TICK_S = 1.0
"""By then there is something to see: a trace begins with its first request, in the middle of life."""
DRAIN_LIMIT_S = 3600.0
"""Longer than any answer takes: no stream is cut in a simulation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the world is; `setup.start_s` is when it begins, `end_s` when the trace ends. `gpus` 0 is as many as anybody wants.

    `hold_s` bounds the wait for a replica, as ServiceRoute's does. `measure_from_s`: what arrives before counts for nothing.
    """

    setup: Setup
    end_s: float
    profile: EngineProfile
    services: int = 1
    gpus: int = 0
    hold_s: float = 600.0
    measure_from_s: float = 0.0


class World:
    """Give `run` the requests in order of arrival: it goes on until each of them has ended and the trace's time is over."""

    def __init__(self, settings: Settings, law: Callable[[Setup], Policy]) -> None:
        self.settings = settings
        self.recorder = Recorder(max(settings.measure_from_s, settings.setup.start_s))
        self.now = settings.setup.start_s
        self.ticks = self.events = 0
        self._first_tick_at = self.now + FIRST_TICK_S
        self._in_flight = 0
        self._queue: list[Event] = []
        self._order = 0
        self._gpus_free: float = settings.gpus or NEVER
        self._queued: deque[Replica] = deque()
        slots = settings.setup.container_concurrency
        self.services = [
            Service(number, settings.profile, law(settings.setup), self.now, slots)
            for number in range(settings.services)
        ]
        for service in self.services:
            service.desired = settings.setup.initial
            for _ in range(settings.setup.initial):
                self._start_warm(service)
            service.refresh_routes()
            self._push(self._first_tick_at, _TICK, service)

    def run(self, requests: Iterable[Request], progress: Callable[[float], None] | None = None) -> Recorder:
        """Plays the whole trace. `progress` is told the virtual time of each arrival."""
        for request in requests:
            self._play_until(request.arrived_at)
            self.now = request.arrived_at
            self._arrive(self.services[request.service], request)
            if progress:
                progress(self.now)
        self._play_until(self.settings.end_s)
        self.now = max(self.now, self.settings.end_s)
        while self._in_flight:
            self._play(heappop(self._queue))
        self._finish()
        return self.recorder

    def _play_until(self, at: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= at:
            self._play(heappop(queue))

    def _play(self, event: Event) -> None:
        at, _, kind, subject, turn = event
        if kind == _ENGINE:
            if subject.turn == turn and subject.state != State.GONE:
                self.now = at
                self._step(subject)
            return
        self.now = at
        if kind == _TICK:
            self._tick(subject, turn)
        elif kind == _READY:
            self._become_ready(subject)
        elif kind == _SCALE_IN:
            subject.checks_scale_in = False
            self._resize(subject)
        else:
            self._expire(subject)

    def _push(self, at: float, kind: int, subject: Any, turn: int = 0) -> None:
        self._order += 1
        heappush(self._queue, (at, self._order, kind, subject, turn))

    # --- requests

    def _arrive(self, service: Service, request: Request) -> None:
        self.events += 1
        if request.tokens > self.settings.profile.kv_tokens:
            self.recorder.failed(request, DOES_NOT_FIT)
            return
        if service.asleep:
            service.wake(self.now)
            tick_s, since = service.policy.tick_s, self._first_tick_at
            self._push(
                since + ceil((self.now - since) / tick_s) * tick_s, _TICK, service, service.next_turn()
            )
        self._in_flight += 1
        service.arrived(request, self.now)
        if service.held or not self._send(service, request):
            if not service.held:
                self._push(request.arrived_at + self.settings.hold_s, _HOLD, service)
            service.held.append(request)
            if not any(replica.state < State.DRAINING for replica in service.replicas):
                self._ask(service, poked=True)

    def _send(self, service: Service, request: Request) -> bool:
        loads = service.loads
        if service.slots and (not loads or min(loads.values()) >= service.slots):
            return False
        chosen = route(service.route_table, f"{self._order}", loads)
        if chosen is None:
            return False
        replica = service.ready[chosen.endpoint.name]
        loads[replica.name] += 1
        replica.offer(request, self.now)
        self._plan(replica)
        return True

    def _send_held(self, service: Service) -> None:
        while service.held and self._send(service, service.held[0]):
            service.held.popleft()

    def _plan(self, replica: Replica) -> None:
        assert replica.engine
        replica.turn += 1
        if replica.engine.next_at < NEVER:
            self._push(replica.engine.next_at, _ENGINE, replica, replica.turn)

    def _step(self, replica: Replica) -> None:
        assert replica.engine
        self.events += 1
        ended = replica.engine.step()
        self._plan(replica)
        if ended is None:
            return
        service = self.services[replica.service]
        self._in_flight -= 1
        replica.in_flight -= 1
        if replica.state == State.READY:
            service.loads[replica.name] -= 1
        self.recorder.answered(ended, service.answered(ended, self.now))
        if service.held:
            self._send_held(service)

    def _expire(self, service: Service) -> None:
        held, hold_s = service.held, self.settings.hold_s
        while held and self.now >= held[0].arrived_at + hold_s:
            request = held.popleft()
            self._in_flight -= 1
            service.left(request, self.now)
            self.recorder.failed(request, f"{HELD_TOO_LONG}: {service.start_phase(self.now)}")
        if held:
            self._push(held[0].arrived_at + hold_s, _HOLD, service)

    # --- replicas

    def _start_warm(self, service: Service) -> None:
        replica = service.add(self.now)
        self._gpus_free -= replica.profile.gpus
        if self._gpus_free < 0:
            raise Internal("the replicas at the start need more GPUs than there are")
        replica.place(self.now)
        replica.become_ready(self.now)
        self.recorder.changed(self.now, 1, 1)

    def _place_queued(self) -> None:
        while self._queued and self._queued[0].profile.gpus <= self._gpus_free:
            replica = self._queued.popleft()
            self._gpus_free -= replica.profile.gpus
            self._push(replica.place(self.now), _READY, replica)

    def _become_ready(self, replica: Replica) -> None:
        if replica.state != State.STARTING:
            return
        service = self.services[replica.service]
        replica.become_ready(self.now)
        self.recorder.changed(self.now, 0, 1)
        service.started(replica)
        service.refresh_routes()
        self._send_held(service)

    def _remove(self, service: Service, replica: Replica) -> None:
        service.replicas.remove(replica)
        if replica.state == State.QUEUED:
            self._queued.remove(replica)
        else:
            self._gpus_free += replica.profile.gpus
        self.recorder.changed(self.now, -1, -1 if replica.state == State.READY else 0)
        self.recorder.gone(replica, self.now)
        replica.state, replica.gone_at = State.GONE, self.now

    # --- laws

    def _tick(self, service: Service, turn: int) -> None:
        if turn != service.turn or service.asleep:
            return
        self._ask(service, poked=False)
        if not service.asleep:
            self._push(self.now + service.policy.tick_s, _TICK, service, turn)

    def _ask(self, service: Service, *, poked: bool) -> None:
        self.ticks += 1
        room = None
        if self.settings.gpus:
            room = len(service.replicas) + int(self._gpus_free // self.settings.profile.gpus)
        wish = service.policy.decide(service.tell(self.now, poked=poked, room=room))
        desired = wish.desired if room is None else min(wish.desired, max(1, room))
        if desired != service.desired:
            reasons = "; ".join(wish.reasons)
            self.recorder.scaled(ScaleEvent(self.now, service.name, service.desired, desired, reasons))
            service.desired = desired
        self._resize(service)
        steady = len(service.replicas) == desired and all(r.state == State.READY for r in service.replicas)
        service.asleep = wish.settled and steady and service.quiet

    def _resize(self, service: Service) -> None:
        """As the platform's deployments do it: growth at once; those that go end when nobody needs them."""
        missing = service.desired - len(service.replicas)
        if missing == 0 and not any(replica.draining_since is not None for replica in service.replicas):
            return
        for _ in range(missing):
            self._queued.append(service.add(self.now))
            self.recorder.changed(self.now, 1, 0)
        if missing < 0 or any(replica.draining_since is not None for replica in service.replicas):
            self._scale_in(service)
        service.refresh_routes()
        self._place_queued()
        self._send_held(service)

    def _scale_in(self, service: Service) -> None:
        facts = [
            ReplicaFacts(r.name, r.state >= State.READY, r.in_flight, draining_since=r.draining_since)
            for r in service.replicas
        ]
        plan = plan_scale_in(facts, service.desired, self.now, DRAIN_LIMIT_S)
        by_name = {replica.name: replica for replica in service.replicas}
        for name in plan.leave:
            self._remove(service, by_name[name])
        for name in plan.drain:
            replica = by_name[name]
            replica.state, replica.draining_since = State.DRAINING, self.now
            self.recorder.changed(self.now, 0, -1)
        for name in plan.keep:
            replica = by_name[name]
            replica.state, replica.draining_since = State.READY, None
            self.recorder.changed(self.now, 0, 1)
        if plan.again_s is not None and not service.checks_scale_in:
            service.checks_scale_in = True
            self._push(self.now + plan.again_s, _SCALE_IN, service)

    def _finish(self) -> None:
        self.recorder.end_s = self.now
        for service in self.services:
            for replica in service.replicas:
                self.recorder.gone(replica, self.now)
