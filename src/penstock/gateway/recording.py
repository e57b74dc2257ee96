"""Recordings of requests that others can be compared with: when they came, how long they were, which beginnings they shared. No word of them.

A recording lives as long as somebody fetches it: who fetches gets what has been added since, and what nobody fetches for `LEASE_S` is thrown
away. Hashes of blocks and sessions are hashed again with BLAKE2b under the recording's id, which is a secret of whoever records: what two
recordings hold cannot be matched.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from hashlib import blake2b

import msgspec
from msgspec import Struct, field

from penstock.gateway.call import Call
from penstock.gateway.trail import Trail
from penstock.kit.clock import Clock
from penstock.kit.errors import Exhausted, InvalidInput

RECORDED = "recorded"
"""What other workers are asked about."""
LEASE_S = 15.0
MAX_RECORDINGS = 4
"""Of one worker at once."""
MAX_BYTES = 8 << 20
"""Of one recording, between two fetches; what comes on top is counted and left out."""
HASH_BYTES = 6
"""Distinct for some millions of blocks, and a whole number in every JSON reader."""
_ID = re.compile(r"[0-9a-f]{32}")


class RecordedRequest(Struct, frozen=True):
    """One request, in the columns of Mooncake's traces and such of our own. `timestamp` and `ttft_ms` are in milliseconds; the former is Unix time.

    `hash_ids` are of whole blocks of `block_tokens`, each chained on the one before. Lengths are the engine's counts, else estimates.
    `predicted_cached` tokens were expected to be cached at `endpoint`, `cached` were; -1 where the engine told nothing. `session` is 0 for none.
    """

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int]
    block_tokens: float
    session: int
    prompt_class: str = field(name="class")
    model: str
    profile: str
    endpoint: str
    predicted_cached: float
    cached: int
    ttft_ms: float
    status: int


class Fetched(Struct, frozen=True):
    """What one worker has recorded since the last fetch: lines of JSON, and how many requests there was no room for."""

    lines: list[bytes]
    dropped: int


class _Recording:
    def __init__(self, key: str, model: str, since: float) -> None:
        self.key, self.model, self.since, self.asked_at = bytes.fromhex(key), model, since, since
        self.lines: deque[bytes] = deque()
        self.bytes = self.dropped = 0

    def hashed(self, value: bytes) -> int:
        return int.from_bytes(blake2b(value, key=self.key, digest_size=HASH_BYTES).digest(), "big")


class Recordings:
    """One worker's. Not for several threads. `active` are those that go on now, by their ids."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is recorded before somebody asks."""
        self._clock = clock
        self.active: dict[str, _Recording] = {}
        self._encode = msgspec.json.Encoder().encode

    def fetch(self, about: str) -> Fetched:
        """`about` is a recording's id, 32 hexadecimal digits, and the model (`namespace/name`, none: all) after a space.

        The first fetch begins it. Raises InvalidInput; Exhausted where there are too many.
        """
        key, _, model = about.partition(" ")
        if not _ID.fullmatch(key):
            raise InvalidInput("id: expected 32 hexadecimal digits")
        now = self._clock.monotonic()
        self._forget(now)
        recording = self.active.get(key)
        if recording is None:
            if len(self.active) >= MAX_RECORDINGS:
                raise Exhausted(
                    f"{MAX_RECORDINGS} recordings are under way, and there may be no more at once",
                    code="too_many_recordings",
                    retry_after_s=LEASE_S,
                )
            recording = self.active[key] = _Recording(key, model, now)
        fetched = Fetched(list(recording.lines), recording.dropped)
        recording.lines.clear()
        recording.bytes = recording.dropped = 0
        recording.asked_at = now
        return fetched

    def answer(self, about: str) -> bytes:
        """`fetch` for another worker; `fetched` reads it."""
        try:
            return msgspec.msgpack.encode(self.fetch(about))
        except (InvalidInput, Exhausted):
            return b""

    def ended(self, call: Call, trail: Trail, now: float) -> None:
        """A request that was routed is over."""
        self._forget(now)
        for recording in self.active.values():
            service = call.service
            if service is None or call.started < recording.since:
                continue
            model = f"{service.namespace}/{service.name}"
            if recording.model in ("", model):
                self._add(recording, call, trail, model)

    def _add(self, recording: _Recording, call: Call, trail: Trail, model: str) -> None:
        if recording.bytes >= MAX_BYTES:
            recording.dropped += 1
            return
        prompt, route = trail.prompt, trail.route
        line = self._encode(
            RecordedRequest(
                timestamp=1000.0 * (self._clock.now() - self._clock.monotonic() + call.started),
                input_length=call.prompt_tokens
                if call.prompt_tokens >= 0
                else prompt.tokens
                if prompt
                else 0,
                output_length=max(call.completion_tokens, 0),
                hash_ids=[recording.hashed(block.to_bytes(8, "big")) for block in prompt.hashes]
                if prompt
                else [],
                block_tokens=prompt.block_tokens if prompt else 0,
                session=recording.hashed(prompt.session.encode()) if prompt and prompt.session else 0,
                prompt_class=route.prompt_class if route else "",
                model=model,
                profile=trail.profile,
                endpoint=call.endpoint,
                predicted_cached=trail.trip.cached_tokens if trail.trip else 0.0,
                cached=call.cached_tokens,
                ttft_ms=1000.0 * (call.first_byte_at - call.started) if call.first_byte_at else 0.0,
                status=call.respond.status,
            )
        )
        recording.lines.append(line)
        recording.bytes += len(line)

    def _forget(self, now: float) -> None:
        for key in [key for key, one in self.active.items() if now - one.asked_at > LEASE_S]:
            del self.active[key]


def fetched(answers: Iterable[bytes]) -> list[Fetched]:
    """What other workers answered, without such as cannot be read."""
    read = []
    for answer in answers:
        try:
            read.append(_FETCHED.decode(answer))
        except msgspec.DecodeError:
            continue
    return read


_FETCHED = msgspec.msgpack.Decoder(Fetched)
