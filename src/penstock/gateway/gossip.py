"""Gateways tell each other what they have sent where, so that each routes as if it had seen all requests.

Every EXCHANGE_S each tells what has changed: how much it has under way at each endpoint, which chains of blocks it sent there, how soon
endpoints answered, and which of them it leaves alone. Nobody waits for anybody, nothing is acknowledged, and a gateway
that hears nobody routes by what it knows itself.
What is told is bounded to `bytes_per_s`; counts go before chains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from penstock.gateway.endpoints import Endpoints
from penstock.gateway.exchanged import Exchanged
from penstock.gateway.gossip_chains import Chains
from penstock.gateway.gossip_circuits import CircuitGossip
from penstock.gateway.gossip_codec import KIND, MAX_PLACE_BYTES, Message, encode
from penstock.gateway.gossip_inbox import Inbox, Place
from penstock.gateway.gossip_outbox import REFRESH_S, Outbox
from penstock.gateway.peers import Channel
from penstock.gateway.router import Router
from penstock.gateway.shares import Shares
from penstock.kit.clock import Clock
from penstock.kit.hashing import draw

EXCHANGE_S = 0.025
ALONE_S = 0.1
"""As long as nobody is heard there is little to do each time."""
BYTES_PER_S = 1_000_000
BURST_S = 0.25
"""What was not used is kept for so long."""
INTRODUCE_S = 1.0
"""At most so often is all told anew because somebody has just begun."""
Id = tuple[str, str]


class Gossip:
    """One writer: the event loop of this gateway."""

    def __init__(
        self,
        place: str,
        endpoints: Endpoints,
        clock: Clock,
        *,
        near: Channel | None = None,
        far: Channel | None = None,
        bytes_per_s: float = BYTES_PER_S,
    ) -> None:
        """`place` (at most MAX_PLACE_BYTES) is this gateway's alone. `near` reaches the workers of this machine, `far` other machines.

        What is heard from afar is passed on to the workers here, of which only one hears each datagram.
        """
        assert len(place.encode()) <= MAX_PLACE_BYTES
        self._clock, self._near = clock, near
        self._channels = [channel for channel in (near, far) if channel is not None]
        self._bytes_per_s, self._budget_bytes = bytes_per_s, bytes_per_s * BURST_S
        self._room = min((channel.max_payload_bytes for channel in self._channels), default=0)
        self._chains = Chains()
        self._outbox = Outbox(place, round(clock.now() * 1000), self._chains)
        self._inbox = Inbox(place, self._chains)
        self._routers: dict[Id, Router] = {}
        self._ids: dict[Id, dict[str, int]] = {}
        self._shares: list[tuple[Shares, Mapping[str, int]]] = []
        self._circuits = CircuitGossip(endpoints)
        self._ticked_at = clock.monotonic()
        self._told_at = self._introduced_at = self._ticked_at - max(REFRESH_S, INTRODUCE_S)
        self._newcomer = False
        self.told_bytes = self.told_messages = 0
        self.heard_bytes = self.heard_messages = self.malformed = 0
        self.heard_at = 0.0
        if near is not None:
            near.subscribe(KIND, self._hear)
        if far is not None:
            far.subscribe(KIND, self._hear_far)

    def keep(self, routers: Mapping[Id, Router]) -> None:
        """These are the services with a router, as they are now; to be called after each change of their endpoints."""
        before, self._routers = self._routers, dict(routers)
        for key, router in before.items():
            if routers.get(key) is not router:
                router.on_sent = router.on_learned = None
        self._ids = {
            key: {name: draw(f"{key[0]}/{key[1]}/{name}") for name in router.loads}
            for key, router in routers.items()
        }
        places = {
            number: Place(self._routers[key], name)
            for key, names in self._ids.items()
            for name, number in names.items()
        }
        self._inbox.places = places
        self._outbox.keep(places)
        self._shares = [(self._routers[key].shares, names) for key, names in self._ids.items() if names]
        self._circuits.keep()
        for key, router in routers.items():
            router.on_sent = partial(self._sent, self._ids[key])
            router.on_learned = partial(self._learned, self._ids[key])
            if before.get(key) is not router:
                router.shares.changed.update(router.loads)

    async def run(self) -> None:
        """Exchange until cancelled."""
        while True:
            await self._clock.sleep(EXCHANGE_S if self.gateways else ALONE_S)
            self.tell()

    def tell(self) -> None:
        """Tell what has changed, as far as the bound allows, and forget what others did not tell again."""
        now = self._clock.monotonic()
        self._inbox.expire(now)
        self._circuits.decide(now)
        self._collect(now)
        most = self._bytes_per_s * BURST_S
        self._budget_bytes = min(most, self._budget_bytes + self._bytes_per_s * (now - self._ticked_at))
        self._ticked_at = now
        self._outbox.is_heard = self._inbox.heard(now) > 0
        while self._outbox.is_heard and self._budget_bytes >= self._room:
            message = self._outbox.message(self._room, now)
            if message is None:
                break
            self._send(message, now)
        if self._told_at <= now - REFRESH_S:
            self._send(self._outbox.hello(), now)

    def _send(self, message: Message, now: float) -> None:
        payload = encode(message)
        self._budget_bytes -= len(payload)
        self._told_at = now
        self.told_bytes += len(payload)
        self.told_messages += 1
        for channel in self._channels:
            channel.broadcast(KIND, payload)

    @property
    def faults(self) -> dict[str, int]:
        """What was not told, or not taken, by cause."""
        return {
            "gossip_malformed": self.malformed,
            "gossip_pushed_out": self._outbox.pushed_out,
            "gossip_stale": self._inbox.stale,
            "gossip_unknown": self._inbox.unknown,
        }

    @property
    def exchanged(self) -> Exchanged:
        """All of it."""
        return Exchanged(
            {"sent": self.told_messages, "heard": self.heard_messages},
            {"sent": self.told_bytes, "heard": self.heard_bytes},
            {cause.removeprefix("gossip_"): count for cause, count in self.faults.items()},
            self.gateways,
            self.heard_at,
        )

    @property
    def gateways(self) -> int:
        """How many others are heard."""
        return self._inbox.heard(self._clock.monotonic())

    def _collect(self, now: float) -> None:
        for shares, ids in self._shares:
            for name in shares.changed:
                if name in ids:
                    self._outbox.counted(ids[name], shares.own(name))
            shares.changed.clear()
        for opening in self._circuits.openings(now):
            self._outbox.opened(opening)
        if self._newcomer and now - self._introduced_at >= INTRODUCE_S:
            self._newcomer, self._introduced_at = False, now
            self._told_at = now - REFRESH_S
            self._outbox.introduce()
        self._outbox.refresh(now)

    def _sent(self, ids: Mapping[str, int], name: str, hashes: Sequence[int]) -> None:
        number = ids.get(name)
        if number is not None:
            self._outbox.sent(number, hashes)

    def _learned(
        self, ids: Mapping[str, int], name: str, uncached_tokens: float, first_s: float, between_s: float
    ) -> None:
        number = ids.get(name)
        if number is not None:
            self._outbox.learned(number, uncached_tokens, first_s, between_s, self._clock.monotonic())

    def _hear_far(self, sender: str, payload: bytes) -> None:
        if self._hear(sender, payload) and self._near is not None:
            self._near.broadcast(KIND, payload)

    def _hear(self, sender: str, payload: bytes) -> bool:
        """Whether it was new. Raises msgspec.DecodeError for what is no message."""
        now = self._clock.monotonic()
        self.heard_bytes += len(payload)
        self.heard_messages += 1
        try:
            admitted = self._inbox.admit(payload, now)
        except msgspec.DecodeError:
            self.malformed += 1
            raise
        if admitted is None:
            return False
        self.heard_at = self._clock.now()
        message, is_first = admitted
        if is_first:
            self._newcomer = True
            self._circuits.forget(message.place)
        self._inbox.count(message, now)
        self._inbox.learn(message.samples)
        self._circuits.hear(message.place, message.openings, now)
        if message.missing:
            self._outbox.retell(set(message.missing))
        for anchor in self._inbox.insert(message.inserts, now):
            self._outbox.missed(anchor)
        return True
