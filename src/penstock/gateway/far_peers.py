"""What gateways on several machines tell each other: UDP datagrams, each signed with a secret that all of them have.

A datagram is sent to every address of every peer, and never waited for. One that is not signed, or that was signed more than FRESH_S ago, is
thrown away before anything in it is read; what is told twice within that time, its reader has to know. Signed is not encrypted: who can
read the network between gateways sees how much is under way where, and hashes of prompts, but no word of them.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from penstock.kit.clock import Clock
from penstock.kit.errors import InvalidInput, Unavailable

MAX_DATAGRAM_BYTES = 1400
"""What passes through usual networks in one piece, with the headers before it."""
MAX_PAYLOAD_BYTES = 1300
SIGNATURE_BYTES = 16
LEAST_SECRET_BYTES = 16
MAX_AT_ONCE = 64
"""Datagrams that are taken in one turn of the event loop."""
MAX_ADDRESSES = 64
MAX_PEERS = 64
FRESH_S = 30.0
"""How far clocks of gateways may be apart."""
RESOLVE_S = 10.0
logger = logging.getLogger(__name__)


class PeerAddress(NamedTuple):
    """Where another gateway listens, or several under one name (a headless Service)."""

    host: str
    port: int


class _Datagram(msgspec.Struct, frozen=True, array_like=True):
    at: float
    kind: str
    payload: bytes


class FarPeers:
    """One gateway's ear and mouth. `forged` counts datagrams that were not signed with the secret, `late` those that were not fresh."""

    max_payload_bytes = MAX_PAYLOAD_BYTES

    def __init__(self, own: PeerAddress, peers: Sequence[PeerAddress], secret: bytes, clock: Clock) -> None:
        """Listen at `own`. Raises InvalidInput for a secret that is too short, and for too many peers."""
        if len(secret) < LEAST_SECRET_BYTES:
            raise InvalidInput(
                f"the secret of the gateway's peers has {len(secret)} bytes, expected at least {LEAST_SECRET_BYTES}",
                hint="give all gateways the same one, for example from `openssl rand -hex 32`",
            )
        if len(peers) > MAX_PEERS:
            raise InvalidInput(f"the gateway has {len(peers)} peers, expected at most {MAX_PEERS}")
        self._own, self._peers, self._clock = own, tuple(peers), clock
        self._secret = blake2b(secret, digest_size=32, person=b"penstock.peers").digest()
        self._addresses: tuple[tuple[str, int], ...] = ()
        self._subscribers: dict[str, Callable[[str, bytes], object]] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(_Datagram).decode
        self._socket: socket.socket | None = None
        self.forged = self.late = self.malformed = self.unheard = 0

    @property
    def faults(self) -> dict[str, int]:
        """What was not heard, by cause."""
        return {
            "peer_unheard": self.unheard,
            "peer_forged": self.forged,
            "peer_late": self.late,
            "peer_malformed": self.malformed,
        }

    @property
    def port(self) -> int:
        """Where it listens; the system's choice for port 0, once it is open."""
        return self._own.port if self._socket is None else int(self._socket.getsockname()[1])

    def open(self) -> None:
        """Be heard from now on; workers of one machine share the port. Raises Unavailable where that cannot be."""
        self.close()
        family = socket.AF_INET6 if ":" in self._own.host else socket.AF_INET
        ear = socket.socket(family, socket.SOCK_DGRAM)
        try:
            ear.setblocking(False)
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            ear.bind(self._own)
        except OSError as error:
            ear.close()
            raise Unavailable(
                f"the gateway cannot listen for its peers at {self._own.host}:{self._own.port}: {error.strerror}"
            ) from None
        self._socket = ear
        asyncio.get_running_loop().add_reader(ear, self._hear)

    def close(self) -> None:
        """Be heard no more."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    async def run(self) -> None:
        """Keep to the addresses that the peers' names stand for, until cancelled."""
        while True:
            await self.resolve()
            await self._clock.sleep(RESOLVE_S)

    async def resolve(self) -> None:
        """Look them up. A name that cannot be found keeps no address; that is told in the log when it changes."""
        found: dict[tuple[str, int], None] = {}
        family = socket.AF_INET6 if ":" in self._own.host else socket.AF_INET
        loop = asyncio.get_running_loop()
        for peer in self._peers:
            try:
                entries = await loop.getaddrinfo(*peer, family=family, type=socket.SOCK_DGRAM)
            except OSError:
                continue
            found.update(((str(entry[4][0]), int(entry[4][1])), None) for entry in entries)
        found.pop((self._own.host, self.port), None)
        addresses = tuple(sorted(found))[:MAX_ADDRESSES]
        if addresses != self._addresses:
            self._addresses = addresses
            logger.info(
                "other gateways at %s", ", ".join(f"{host}:{port}" for host, port in addresses) or "none"
            )

    def subscribe(self, kind: str, callback: Callable[[str, bytes], object]) -> None:
        """`callback(sender, payload)` for each datagram of this kind. It raises msgspec.DecodeError for what it cannot read."""
        self._subscribers[kind] = callback

    def broadcast(self, kind: str, payload: bytes) -> bool:
        """To each address, without waiting; whether the network took all. `payload` is at most MAX_PAYLOAD_BYTES."""
        assert len(payload) <= MAX_PAYLOAD_BYTES
        if self._socket is None:
            return False
        body = self._encode(_Datagram(self._clock.now(), kind, payload))
        datagram, all_taken = self._signature(body) + body, True
        for address in self._addresses:
            try:
                self._socket.sendto(datagram, address)
            except OSError:
                self.unheard += 1
                all_taken = False
        return all_taken

    def _signature(self, body: bytes) -> bytes:
        return blake2b(body, digest_size=SIGNATURE_BYTES, key=self._secret).digest()

    def _hear(self) -> None:
        for _ in range(MAX_AT_ONCE):
            if self._socket is None:
                return
            try:
                data, address = self._socket.recvfrom(MAX_DATAGRAM_BYTES + 1)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # what was sent to a peer that is not there came back
            self._take(data, f"{address[0]}:{address[1]}")

    def _take(self, data: bytes, sender: str) -> None:
        signature, body = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
        if len(data) > MAX_DATAGRAM_BYTES or not hmac.compare_digest(signature, self._signature(body)):
            self.forged += 1
            return
        try:
            datagram = self._decode(body)
            if abs(self._clock.now() - datagram.at) > FRESH_S:
                self.late += 1
                return
            callback = self._subscribers.get(datagram.kind)
            if callback is not None:
                callback(sender, datagram.payload)
        except msgspec.DecodeError:
            self.malformed += 1
