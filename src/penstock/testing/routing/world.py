"""Simulated engines, routers and clients on one heap: nothing waits, and the same seed gives the same run.

A router chooses and is told at once: the network takes no time, and engines' metrics are read at the first choice after they are due, so
what a router knows of them is never older than its interval. KV events reach every router that hears them when the step is over, unless
they are lost; each router loses its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

from penstock.engine.simulated.model import Engine
from penstock.engine.simulated.profile import EngineProfile
from penstock.engine.simulated.request import NEVER, Request
from penstock.testing.routing.ask import Ask
from penstock.testing.routing.figures import Figures, Tally
from penstock.testing.routing.policy import Batch, Policy, Setup
from penstock.testing.routing.workload import Workload

ARRIVAL, RESTART, STEP, GOSSIP = range(4)
"""What is first of what happens at the same moment: engines are asked no later than they step."""
KEPT_BATCHES = 10_000
"""vLLM's default of `buffer_steps`, which replays serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What goes wrong, and how many routers there are.

    Each batch of KV events is lost with probability `loss` on its way to each router; engines that `replays` serve it again. Each of
    `restarts` (a replica, a time) takes that engine's cache and requests. Every `gossip_s` (0: never) routers tell each other.
    """

    gateways: int = 1
    loss: float = 0.0
    replays: bool = True
    restarts: tuple[tuple[int, float], ...] = ()
    gossip_s: float = 0.0


ALL_WELL = Conditions()


class Trip:
    """One request on its way: through which gateway, to which replica."""

    __slots__ = ("ask", "gateway", "replica")

    def __init__(self, ask: Ask, gateway: int, replica: int) -> None:
        self.ask, self.gateway, self.replica = ask, gateway, replica


class World:
    """`replicas` engines of one profile, and routers that `open_policy` makes."""

    def __init__(
        self,
        profile: EngineProfile,
        replicas: int,
        open_policy: Callable[[Setup], Policy],
        *,
        seed: int = 0,
        conditions: Conditions = ALL_WELL,
    ) -> None:
        self.now = 0.0
        self.tally = Tally()
        self._profile = profile
        self._conditions = conditions
        self._chance = Random(f"world {seed}")  # noqa: S311  reproducible, not secret
        self.engines = [Engine(profile, 0.0) for _ in range(replicas)]
        replay = self._replay if conditions.replays else None
        gateways = range(conditions.gateways)
        setups = [Setup(profile, self.engines, seed + 1000 * n, replay) for n in gateways]
        self.policies = [open_policy(setup) for setup in setups]
        self._hears = any(policy.hears_events for policy in self.policies)
        for engine in self.engines:
            engine.pool.records = self._hears
        self._log: list[deque[Batch]] = [deque(maxlen=KEPT_BATCHES) for _ in range(replicas)]
        self._number = [0] * replicas
        self._scrape_at = [0.0] * conditions.gateways
        self._trips: list[dict[Request, Trip]] = [{} for _ in range(replicas)]
        self._due = [NEVER] * replicas
        self._heap: list[tuple[float, int, int, Any]] = []
        self._serial = count()

    def run(self, workload: Workload) -> Figures:
        """Until everything is answered."""
        arrivals = workload.arrivals()
        self._next_of(arrivals)
        for replica, at in self._conditions.restarts:
            heappush(self._heap, (at, RESTART, next(self._serial), replica))
        if self._conditions.gossip_s:
            for policy in self.policies:
                policy.meet([other for other in self.policies if other is not policy])
            heappush(self._heap, (self._conditions.gossip_s, GOSSIP, next(self._serial), None))
        while self._heap:
            self.now, kind, _, what = heappop(self._heap)
            if kind == STEP:
                if self._due[what] == self.now:
                    self._step(what, workload)
            elif kind == ARRIVAL:
                ask, is_followed = what
                if is_followed:
                    self._next_of(arrivals)
                if not ask.warms:
                    self.tally.asked(self.now)
                self._send(ask, self._gateway_of(ask), workload)
            elif kind == RESTART:
                self._restart(what, workload)
            elif self._heap:
                self._gossip()
        return self.tally.figures()

    def _next_of(self, arrivals: Any) -> None:
        ask = next(arrivals, None)
        if ask is not None:
            heappush(self._heap, (ask.at, ARRIVAL, next(self._serial), (ask, True)))

    def _gateway_of(self, ask: Ask) -> int:
        return self._chance.randrange(len(self.policies)) if len(self.policies) > 1 else 0

    def _send(self, ask: Ask, gateway: int, workload: Workload) -> None:
        policy = self.policies[gateway]
        if policy.scrape_s and self.now >= self._scrape_at[gateway]:
            policy.scraped(self.now)
            self._scrape_at[gateway] = self.now + policy.scrape_s
        replica = policy.choose(ask, self.now)
        engine = self.engines[replica]
        if not engine.fits(ask.prompt_tokens, ask.output_tokens):
            self._over(ask, workload, failed=True)
            return
        policy.sent(ask, replica, self.now)
        trip = Trip(ask, gateway, replica)
        request = Request(ask.prompt_tokens, ask.output_tokens, ask.hashes, ask.answer_hashes, data=trip)
        self._trips[replica][request] = trip
        engine.offer(request, self.now)
        self._plan(replica)

    def _plan(self, replica: int) -> None:
        at = self.engines[replica].next_at
        if at != self._due[replica]:
            self._due[replica] = at
            if at < NEVER:
                heappush(self._heap, (at, STEP, next(self._serial), replica))

    def _step(self, replica: int, workload: Workload) -> None:
        now = self.now
        self._due[replica] = NEVER
        happened = self.engines[replica].step()
        for request in happened.started:
            trip = request.data
            self.policies[trip.gateway].began(trip.ask, replica, now)
        if happened.blocks:
            self._tell(replica, happened.blocks)
        for request in happened.ended:
            trip = self._trips[replica].pop(request)
            ask, policy = trip.ask, self.policies[trip.gateway]
            expected = policy.expected(ask)
            policy.ended(ask, replica, now, request.cached_tokens)
            if not ask.warms:
                if expected >= 0.0:
                    self.tally.predicted(expected, request.cached_tokens)
                self.tally.answered(request.first_at - ask.at, now - ask.at, ask.output_tokens, now)
                self._count(request)
            self._over(ask, workload)
        self._plan(replica)

    def _over(self, ask: Ask, workload: Workload, *, failed: bool = False) -> None:
        self.tally.errors += failed and not ask.warms
        follows = workload.after(ask, self.now)
        if follows is not None:
            heappush(self._heap, (follows.at, ARRIVAL, next(self._serial), (follows, False)))

    def _tell(self, replica: int, events: Sequence[Any]) -> None:
        batch = Batch(self._number[replica], self.now, events)
        self._number[replica] += 1
        loss = self._conditions.loss
        if loss or self._conditions.restarts:
            self._log[replica].append(batch)
        for policy in self.policies:
            if policy.hears_events and not (loss and self._chance.random() < loss):
                policy.told(replica, batch, self.now)

    def _replay(self, replica: int, number: int) -> Sequence[Batch]:
        return [batch for batch in self._log[replica] if batch.number >= number]

    def _restart(self, replica: int, workload: Workload) -> None:
        """Another process under the same name. Requests without a first token are sent again, others have failed."""
        lost, self._trips[replica] = self._trips[replica], {}
        self.engines[replica] = Engine(self._profile, self.now, records=self._hears)
        self._due[replica], self._number[replica] = NEVER, 0
        self._log[replica].clear()
        for request, trip in lost.items():
            self.policies[trip.gateway].ended(trip.ask, replica, self.now, -1)
            if request.started_at < NEVER and not trip.ask.warms:
                self._count(request)
            if request.first_at == NEVER:
                self._send(trip.ask, trip.gateway, workload)
            else:
                self._over(trip.ask, workload, failed=True)

    def _gossip(self) -> None:
        for policy in self.policies:
            policy.gossip(self.now)
        at = self.now + self._conditions.gossip_s
        heappush(self._heap, (at, GOSSIP, next(self._serial), None))

    def _count(self, request: Request) -> None:
        self.tally.computed(request.prompt_tokens, request.cached_tokens, request.preemptions)
