"""Workers of one machine tell each other what was taken from their buckets, every EXCHANGE_S.

Each worker has whole buckets, so all of them together admit beyond a limit at most what the others admit between two exchanges;
what they did admit is then taken from every bucket, so that over time the rate is kept. Totals are told, not differences: a
datagram that found no room is made good by the next one, and none is counted twice.
"""

from __future__ import annotations

from math import inf

import msgspec

from penstock.decide.quota import Bucket, debit, refill
from penstock.gateway.peers import MAX_PAYLOAD_BYTES, MAX_PEERS, Peers
from penstock.gateway.quota import Quota
from penstock.kit.clock import Clock

EXCHANGE_S = 0.1
JOIN_S = 1.0
"""Before a worker begins without the levels of those that do not answer."""
MAX_ENTRIES = MAX_PAYLOAD_BYTES // 512
"""In one datagram; the id of a bucket is below 400 bytes."""
KIND = "quota"


class _Taken(msgspec.Struct, frozen=True, array_like=True):
    """Totals of one sender: those that all have heard, and those of now."""

    bucket: str
    heard_requests: int
    heard_tokens: int
    requests: int
    tokens: int


class _Used(msgspec.Struct, frozen=True, array_like=True):
    """What a bucket lacks to be full."""

    bucket: str
    requests: float
    tokens: float


class QuotaPeers:
    """Joins the buckets of `quota` with those of the other workers. One writer: the event loop of this worker."""

    def __init__(self, quota: Quota, peers: Peers, clock: Clock) -> None:
        """`peers` is open, or will be."""
        self._quota, self._peers, self._clock = quota, peers, clock
        self._known = quota.buckets
        self._taken: dict[str, list[int]] = {}
        self._heard: dict[str, tuple[int, int]] = {}
        self._untold: set[str] = set()
        self._seen: dict[str, dict[str, tuple[int, int]]] = {}
        self._decode = msgspec.msgpack.Decoder(list[_Taken]).decode
        quota.spent = self._spent
        peers.subscribe(KIND, self._hear)
        peers.answer(KIND, self._say)

    async def run(self) -> None:
        """Exchange until cancelled."""
        while True:
            await self._clock.sleep(EXCHANGE_S)
            self.tell()

    async def join(self) -> None:
        """Take over the levels of the workers that were here before; to be called once, after the first table."""
        for answer in await self._peers.gather(KIND, JOIN_S):
            try:
                levels = msgspec.msgpack.decode(answer, type=list[_Used])
            except msgspec.DecodeError:
                self._peers.malformed += 1
                continue
            now = self._clock.monotonic()
            for used in levels:
                bucket = self._quota.buckets.get(used.bucket)
                if bucket is not None:
                    refill(bucket, now)
                    bucket.requests = min(bucket.requests, bucket.max_requests - used.requests)
                    bucket.tokens = min(bucket.tokens, bucket.max_tokens - used.tokens)

    def tell(self) -> None:
        """Send what was taken here since the last time."""
        if self._known is not self._quota.buckets:
            self._drop_unknown()
        names = list(self._untold)
        for start in range(0, len(names), MAX_ENTRIES):
            part = names[start : start + MAX_ENTRIES]
            entries = [_Taken(name, *self._heard.get(name, (0, 0)), *self._taken[name]) for name in part]
            if self._peers.broadcast(KIND, msgspec.msgpack.encode(entries)):
                self._heard.update((entry.bucket, (entry.requests, entry.tokens)) for entry in entries)
                self._untold.difference_update(part)

    def _spent(self, bucket: Bucket, requests: int, tokens: int) -> None:
        taken = self._taken.get(bucket.id)
        if taken is None:
            taken = self._taken[bucket.id] = [0, 0]
        taken[0] += requests
        taken[1] += tokens
        self._untold.add(bucket.id)

    def _hear(self, sender: str, payload: bytes) -> None:
        entries, now = self._decode(payload), self._clock.monotonic()
        seen = self._seen.pop(sender, None) or {}
        self._seen[sender] = seen
        if len(self._seen) > MAX_PEERS:
            del self._seen[next(iter(self._seen))]
        for entry in entries:
            bucket = self._quota.buckets.get(entry.bucket)
            if bucket is not None:
                requests, tokens = seen.get(entry.bucket, (entry.heard_requests, entry.heard_tokens))
                debit(bucket, entry.requests - requests, entry.tokens - tokens, now)
                seen[entry.bucket] = (entry.requests, entry.tokens)

    def _say(self) -> bytes:
        now, used = self._clock.monotonic(), []
        for bucket in self._quota.buckets.values():
            refill(bucket, now)
            requests = 0.0 if bucket.max_requests == inf else bucket.max_requests - bucket.requests
            tokens = 0.0 if bucket.max_tokens == inf else bucket.max_tokens - bucket.tokens
            if requests or tokens:
                used.append(_Used(bucket.id, requests, tokens))
        return msgspec.msgpack.encode(used)

    def _drop_unknown(self) -> None:
        self._known = known = self._quota.buckets
        self._untold &= known.keys()
        for name in self._taken.keys() - known.keys():
            del self._taken[name]
            self._heard.pop(name, None)
        for seen in self._seen.values():
            for name in seen.keys() - known.keys():
                del seen[name]
