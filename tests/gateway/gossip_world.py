"""Gateways that gossip over a network of the test's own making, in time that the test sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, RevisionRoute, RouteTable, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.gateway.endpoints import Endpoints
from penstock.gateway.gossip import EXCHANGE_S, Gossip
from penstock.gateway.router import Router, Trip
from penstock.gateway.shares import Counts

KEY = ("n", "s")
PODS = ("pod-0", "pod-1", "pod-2", "pod-3")
BLOCK = 64


class Hand:
    """A clock that is set."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now(self) -> float:
        return self.at

    monotonic = now

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


class Wire:
    """One gateway's channel; what is said waits in `said`."""

    def __init__(self, max_payload_bytes: int = 1_300) -> None:
        self.max_payload_bytes = max_payload_bytes
        self.said: list[bytes] = []
        self.hear: Callable[[str, bytes], object] = lambda sender, payload: None

    def subscribe(self, kind: str, callback: Callable[[str, bytes], object]) -> None:
        self.hear = callback

    def broadcast(self, kind: str, payload: bytes) -> bool:
        assert len(payload) <= self.max_payload_bytes
        self.said.append(payload)
        return True

    def take(self) -> list[bytes]:
        said, self.said = self.said, []
        return said


class Gateway:
    def __init__(
        self,
        place: str,
        clock: Hand,
        pods: Sequence[str] = PODS,
        room: int = 1_300,
        near: Wire | None = None,
    ) -> None:
        self.clock, self.wire = clock, Wire(room)
        self.endpoints = Endpoints(clock)
        self.router = Router(service(pods), open_profile)
        self.gossip = Gossip(place, self.endpoints, clock, near=near, far=self.wire)
        self.serve(pods)

    def serve(self, pods: Sequence[str]) -> None:
        self.endpoints.keep(RouteTable(version=1, services=(service(pods),)))
        self.router.apply(service(pods))
        self.gossip.keep({KEY: self.router})

    def send(self, pod: str, hashes: Sequence[int] = (), tokens: int = 0) -> Trip:
        prompt = Prompt(draw=0, tokens=tokens or len(hashes) * BLOCK, hashes=hashes, block_tokens=BLOCK)
        now = self.clock.at
        trip = self.router.sent(pod, prompt, self.router.held(prompt, now), now)
        assert trip is not None
        self.router.kept(trip, now)
        return trip

    def began(self, trip: Trip) -> None:
        self.router.began(trip, self.clock.at)

    def ended(self, trip: Trip) -> None:
        self.router.ended(trip, self.clock.at, -1, -1, -1)

    def held(self, hashes: Sequence[int]) -> dict[str, int]:
        return dict(self.router.index.match(hashes, self.clock.at))

    def load(self, pod: str) -> Counts:
        load = self.router.loads[pod]
        return Counts(
            load.in_flight, load.prefilling, round(load.uncached_tokens), round(load.context_tokens)
        )

    def say(self) -> list[bytes]:
        self.gossip.tell()
        return self.wire.take()


def service(pods: Sequence[str]) -> ServiceRoute:
    endpoints = tuple(Endpoint(name=pod, address="127.0.0.1", port=1) for pod in pods)
    return ServiceRoute(
        namespace="n",
        name="s",
        uid="u",
        engine_model="m",
        revisions=(RevisionRoute(name="r", weight_percent=100, endpoints=endpoints),),
        routing=RoutingRoute(),
    )


def gateways(number: int, clock: Hand, room: int = 1_300) -> list[Gateway]:
    """They know each other already."""
    made = [Gateway(f"gateway-{one}", clock, room=room) for one in range(number)]
    exchange(made)
    exchange(made)
    return made


def exchange(among: Sequence[Gateway], turns: int = 1) -> None:
    """So many times, nothing is lost."""
    for _ in range(turns):
        among[0].clock.at += EXCHANGE_S
        for speaker in among:
            for payload in speaker.say():
                for listener in among:
                    if listener is not speaker:
                        listener.wire.hear("wire", payload)


_numbers = count(1)


def chain(length: int) -> list[int]:
    """Blocks that no other chain has."""
    number = next(_numbers)
    return [(number << 32) + place + 1 for place in range(length)]
