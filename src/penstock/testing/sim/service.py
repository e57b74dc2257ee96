"""One simulated service: its replicas, what it holds, and what its law is told."""

from __future__ import annotations

from collections import deque
from math import floor

from penstock.contracts.exchange import Endpoint, RevisionRoute, ServiceRoute
from penstock.decide.cold_start import KEPT
from penstock.engine.simulated.profile import EngineProfile
from penstock.testing.sim.engine import Request
from penstock.testing.sim.policy import Finished, Observation, Policy, Second
from penstock.testing.sim.replica import Replica, State


class Service:
    """Counts are kept as they change; `tell` sums up what happened since it was last called."""

    def __init__(
        self, number: int, profile: EngineProfile, policy: Policy, now: float, slots: int = 0
    ) -> None:
        self.number = number
        self.name = f"service-{number}"
        self.policy = policy
        self.profile = profile
        self.slots = slots
        self.replicas: list[Replica] = []
        self.held: deque[Request] = deque()
        self.desired = 0
        self.in_flight = 0
        self.asleep = False
        self.checks_scale_in = False
        self.turn = 0
        self.ready: dict[str, Replica] = {}
        self.loads: dict[str, int] = {}
        self.route_table = ServiceRoute(
            namespace="sim", name=self.name, uid=self.name, engine_model=self.name
        )
        self._created = 0
        self._cold_starts_s: deque[float] = deque(maxlen=KEPT)
        self._seconds: list[Second] = []
        self._finished: list[Finished] = []
        self._prompt_tokens_in_flight = 0
        self._requests = self._prompt_tokens = self._output_tokens = 0
        self._area = self._token_area = 0.0
        self._at = now
        self._second_ends_at = floor(now) + 1

    def add(self, now: float) -> Replica:
        """One more replica is asked for."""
        self._created += 1
        replica = Replica(f"{self.name}-{self._created}", self.number, self.profile, now)
        self.replicas.append(replica)
        return replica

    def started(self, replica: Replica) -> None:
        """A replica got ready; its start becomes known."""
        if replica.ready_at > replica.asked_at:
            self._cold_starts_s.append(replica.ready_at - replica.asked_at)

    def start_phase(self, now: float) -> str:
        """How far the first start under way has come, as the gateway tells those that it held in vain."""
        starting = (replica for replica in self.replicas if replica.state < State.READY)
        first = min(starting, key=lambda replica: (-replica.state, replica.asked_at), default=None)
        return first.phase(now) if first else "nothing starts"

    def refresh_routes(self) -> None:
        """The ready replicas as the gateway sees them; to be called when they change."""
        ready = [replica for replica in self.replicas if replica.state == State.READY]
        endpoints = tuple(Endpoint(name=r.name, address="127.0.0.1", port=1, slots=self.slots) for r in ready)
        revision = RevisionRoute(name=self.name, weight_percent=100, endpoints=endpoints)
        self.route_table = ServiceRoute(
            namespace="sim", name=self.name, uid=self.name, engine_model=self.name, revisions=(revision,)
        )
        self.loads = {replica.name: replica.in_flight for replica in ready}
        self.ready = {replica.name: replica for replica in ready}

    def arrived(self, request: Request, now: float) -> None:
        """A request is under way."""
        self.account(now)
        self.in_flight += 1
        self._requests += 1
        self._prompt_tokens += request.prompt_tokens
        self._prompt_tokens_in_flight += request.prompt_tokens

    def left(self, request: Request, now: float) -> None:
        """A request is no longer under way, however it ended."""
        self.account(now)
        self.in_flight -= 1
        self._prompt_tokens_in_flight -= request.prompt_tokens

    def answered(self, request: Request, now: float) -> Finished:
        """A request ended well."""
        self.left(request, now)
        self._output_tokens += request.output_tokens
        arrived_at = request.arrived_at
        finished = Finished(
            now,
            request.first_at - arrived_at,
            now - arrived_at,
            request.sent_at - arrived_at,
            request.prompt_tokens,
            request.output_tokens,
        )
        self._finished.append(finished)
        return finished

    def account(self, now: float) -> None:
        """Closes the seconds that are over."""
        while now >= self._second_ends_at:
            self._close_second()
        passed_s = now - self._at
        if passed_s > 0.0:
            self._area += self.in_flight * passed_s
            self._token_area += self._prompt_tokens_in_flight * passed_s
            self._at = now

    @property
    def quiet(self) -> bool:
        """Nothing is under way, and nothing was in the second that is going on."""
        return not self.in_flight and not self._requests and self._area == 0.0

    def next_turn(self) -> int:
        """Ticks that were planned before belong to an earlier turn."""
        self.turn += 1
        return self.turn

    def wake(self, now: float) -> None:
        """The law sleeps no longer; the seconds it slept through had nothing in flight."""
        self.asleep = False
        self._at, self._second_ends_at = now, floor(now) + 1

    def tell(self, now: float, *, poked: bool, room: int | None) -> Observation:
        """What the law may know now; what it was told is forgotten here."""
        self.account(now)
        generated, counts = 0.0, [0, 0, 0, 0, 0]
        for replica in self.replicas:
            counts[replica.state] += 1
            if replica.in_flight and replica.engine:
                generated += replica.engine.generated_tokens(now)
        seconds = self._seconds
        if generated:
            seconds = [s._replace(tokens_in_flight=s.tokens_in_flight + generated) for s in seconds]
        seen = Observation(
            now=now,
            seconds=seconds,
            replicas=self.desired,
            ready=counts[State.READY],
            starting=counts[State.QUEUED] + counts[State.STARTING],
            draining=counts[State.DRAINING],
            in_flight=self.in_flight,
            waiting=len(self.held),
            streams=[r.in_flight for r in self.replicas if r.state == State.READY],
            finished=self._finished,
            cold_starts_s=tuple(self._cold_starts_s),
            poked=poked,
            room=room,
        )
        self._seconds, self._finished = [], []
        return seen

    def _close_second(self) -> None:
        ends_at = self._second_ends_at
        passed_s = ends_at - self._at
        held = self.held
        self._seconds.append(
            Second(
                ends_at,
                self._area + self.in_flight * passed_s,
                self._requests,
                len(held),
                ends_at - held[0].arrived_at if held else 0.0,
                self._token_area + self._prompt_tokens_in_flight * passed_s,
                self._prompt_tokens,
                self._output_tokens,
            )
        )
        self._requests = self._prompt_tokens = self._output_tokens = 0
        self._area = self._token_area = 0.0
        self._at = ends_at
        self._second_ends_at = ends_at + 1
