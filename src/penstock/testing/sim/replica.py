"""One simulated replica: its life from being asked for until it is gone, around one engine."""

from __future__ import annotations

from enum import IntEnum

from penstock.engine.simulated.profile import PHASES, EngineProfile
from penstock.testing.sim.engine import NEVER, Engine, Request


class State(IntEnum):
    """In the order of a life. QUEUED waits for free GPUs; DRAINING takes nothing new."""

    QUEUED, STARTING, READY, DRAINING, GONE = range(5)


class Replica:
    """Times are NEVER until they come. `turn` numbers the engine's plans, so that an outdated event is known as such."""

    __slots__ = (
        "asked_at",
        "draining_since",
        "engine",
        "gone_at",
        "in_flight",
        "name",
        "placed_at",
        "profile",
        "ready_at",
        "service",
        "state",
        "turn",
    )

    def __init__(self, name: str, service: int, profile: EngineProfile, now: float) -> None:
        self.name = name
        self.service = service
        self.profile = profile
        self.asked_at = now
        self.placed_at = self.ready_at = self.gone_at = NEVER
        self.draining_since: float | None = None
        self.state = State.QUEUED
        self.in_flight = 0
        self.turn = 0
        self.engine: Engine | None = None

    def place(self, now: float) -> float:
        """It has its GPUs; answers when it will be ready."""
        self.placed_at, self.state = now, State.STARTING
        return now + self.profile.start.total_s

    def become_ready(self, now: float) -> None:
        """From here on it takes requests."""
        self.ready_at, self.state = now, State.READY
        self.engine = Engine(self.profile, now)

    def phase(self, now: float) -> str:
        """Where its start is, "" once it is ready."""
        if self.state >= State.READY:
            return ""
        passed_s = now - self.placed_at if self.state == State.STARTING else -1.0
        for phase in PHASES:
            passed_s -= getattr(self.profile.start, f"{phase}_s")
            if passed_s < 0:
                return phase
        return PHASES[-1]

    def offer(self, request: Request, now: float) -> None:
        """Sends it a request."""
        if self.engine is None or self.state != State.READY:
            raise RuntimeError(f"{self.name} is {self.state.name} and takes no requests")
        self.in_flight += 1
        request.sent_at = now
        self.engine.offer(request, now)
