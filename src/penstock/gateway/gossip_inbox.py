"""What other gateways told: whose messages are taken, and what becomes of them.

A gateway is known by its place, and by since when it is there; one that began later at the same place has replaced it. Each message is taken
once (RFC 4303, 3.4.3: a window over serial numbers), of counts the newest. Counts that are not told again within SILENT_S are taken to be
nothing: so the end of a gateway, and a lost message, are one case.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import NamedTuple

from penstock.gateway.gossip_chains import Chains
from penstock.gateway.gossip_codec import Insert, Message, Sample, decode, unpacked
from penstock.gateway.router import Router
from penstock.gateway.shares import NONE, Counts

SILENT_S = 3.0
FORGOTTEN_S = 60.0
"""Until then, nothing older of a silent gateway is taken."""
MAX_GATEWAYS = 256
FRESH_S = 10.0
"""An engine's cache is not overwritten within so short a time: at 5,000 tokens a second, 150,000 take half a minute."""
MAX_FRESH = 8192
WINDOW = 256
"""How many messages one may be late."""


class Place(NamedTuple):
    """Where the endpoint of a hash is."""

    router: Router
    name: str


class _Gateway:
    """When it was heard last, and by endpoint, the serial and the time of its counts, the longest untold first."""

    __slots__ = ("_seen", "_serial", "heard_at", "since", "tallies")

    def __init__(self, since: int, serial: int) -> None:
        self.since, self.heard_at = since, 0.0
        self._serial, self._seen = serial, 0
        self.tallies: dict[int, tuple[int, float]] = {}

    def is_new(self, serial: int) -> bool:
        """Whether a message was not taken yet, and is not too late; it counts as taken from now on."""
        ahead = serial - self._serial
        if ahead > 0:
            self._seen <<= min(ahead, WINDOW)
            self._serial, ahead = serial, 0
        bit = 1 << -ahead if -ahead < WINDOW else 0
        if not bit or self._seen & bit:
            return False
        self._seen = (self._seen | bit) & ((1 << WINDOW) - 1)
        return True


class Inbox:
    """Of the gateway at `own`. `stale` counts messages that were older than what was heard, `unknown` what concerned no known endpoint."""

    def __init__(self, own: str, chains: Chains) -> None:
        """Nobody was heard."""
        self._own, self._chains = own, chains
        self._gateways: dict[str, _Gateway] = {}
        self._fresh: dict[tuple[str, int], float] = {}
        self.places: Mapping[int, Place] = {}
        self.stale = self.unknown = 0

    def heard(self, now: float) -> int:
        """How many other gateways told something of late."""
        return sum(gateway.heard_at > now - SILENT_S for gateway in self._gateways.values())

    def admit(self, payload: bytes, now: float) -> tuple[Message, bool] | None:
        """The message, and whether it is the first of a gateway. None for one's own, and for a stale one.

        Raises msgspec.DecodeError for what is no message.
        """
        message = decode(payload)
        if message.place == self._own:
            return None
        gateway = self._gateways.get(message.place)
        is_first = gateway is None or message.since > gateway.since
        if gateway is None or is_first:
            if gateway is not None:
                self._withdraw(message.place, gateway)
            gateway = _Gateway(message.since, message.serial)
        if message.since < gateway.since or not gateway.is_new(message.serial):
            self.stale += 1
            return None
        gateway.heard_at = now
        self._gateways.pop(message.place, None)
        self._gateways[message.place] = gateway
        if len(self._gateways) > MAX_GATEWAYS:
            self._forget(next(iter(self._gateways)))
        return message, is_first

    def count(self, message: Message, now: float) -> None:
        """Own and others' counts are summed up anew."""
        gateway = self._gateways[message.place]
        for tally in message.tallies:
            found = self.places.get(tally.endpoint)
            if found is None:
                self.unknown += 1
                continue
            before = gateway.tallies.get(tally.endpoint)
            if before is not None and before[0] > message.serial:
                continue
            counts = Counts(tally.in_flight, tally.prefilling, tally.uncached_tokens, tally.context_tokens)
            gateway.tallies.pop(tally.endpoint, None)
            gateway.tallies[tally.endpoint] = (message.serial, now)
            found.router.shares.told(found.name, message.place, counts)

    def learn(self, samples: list[Sample]) -> None:
        """How soon endpoints answered others is known as if they had answered here."""
        for sample in samples:
            found = self.places.get(sample.endpoint)
            if found is not None:
                found.router.learned(
                    found.name, sample.uncached_tokens, sample.first_us / 1e6, sample.between_us / 1e6
                )

    def insert(self, inserts: list[Insert], now: float) -> list[int]:
        """Endpoints are taken to hold what other gateways sent there. Returns what could not be followed: anchors, and what came after them.

        Raises msgspec.DecodeError for hashes that are cut.
        """
        missing: list[int] = []
        for insert in inserts:
            tail = unpacked(insert.tail)
            chain = self._chains.joined(insert.anchor, insert.position, tail)
            if chain is None:
                missing += (insert.anchor, *tail[-1:])
                continue
            self._chains.add(chain)
            found = self.places.get(insert.endpoint)
            if found is None:
                self.unknown += 1
            else:
                self._hold(found, chain, insert.position, now)
        return missing

    def _hold(self, place: Place, chain: array[int], position: int, now: float) -> None:
        """What was used there of late, up to `position`, need not be again: it is what prompts have in common, and most of them.

        Engines that tell of their blocks are told apart from others by whole chains.
        """
        index, name = place.router.index, place.name
        before = chain[position - 1] if position else 0
        if (
            position
            and self._fresh.get((name, before), -FRESH_S) > now - FRESH_S
            and not index.is_precise(name)
        ):
            index.warmed(name, chain[position:], now)
            return
        index.warmed(name, chain, now)
        for block in (before, chain[-1]) if chain else ():
            self._fresh.pop((name, block), None)
            self._fresh[name, block] = now
        while len(self._fresh) > MAX_FRESH:
            del self._fresh[next(iter(self._fresh))]

    def expire(self, now: float) -> None:
        """What was not told again is nothing, and who was silent for long is nobody."""
        for place, gateway in list(self._gateways.items()):
            while gateway.tallies:
                endpoint, (_, told_at) = next(iter(gateway.tallies.items()))
                if told_at > now - SILENT_S:
                    break
                self._withdraw_one(place, gateway, endpoint)
            if gateway.heard_at <= now - FORGOTTEN_S:
                self._forget(place)

    def _forget(self, place: str) -> None:
        self._withdraw(place, self._gateways.pop(place))

    def _withdraw(self, place: str, gateway: _Gateway) -> None:
        for endpoint in list(gateway.tallies):
            self._withdraw_one(place, gateway, endpoint)

    def _withdraw_one(self, place: str, gateway: _Gateway, endpoint: int) -> None:
        del gateway.tallies[endpoint]
        found = self.places.get(endpoint)
        if found is not None:
            found.router.shares.told(found.name, place, NONE)
