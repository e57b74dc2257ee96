"""One request of the gateway's own to an engine, on the way of all others: what it answers, whole, or nothing.

It is for what helps a request or an endpoint and need not succeed: so there is one outcome for whatever went wrong, and its reason is a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, NamedTuple

from penstock.contracts.exchange import Endpoint
from penstock.gateway.wire.client import NoAnswer, Upstream, UpstreamError
from penstock.gateway.wire.pool import Pool

Outcome = Literal["answered", "refused", "failed", "broken", "late", "too_long"]
MAX_ANSWER_BYTES = 1 << 20


class Answered(NamedTuple):
    """`body` is there for `answered`, a status of 2xx; otherwise b"". `refused` is one of 4xx but 429, `failed` any other."""

    outcome: Outcome
    body: bytes = b""


class Errand:
    """Sent at once; `done` is called once, unless it is given up before. A connection that an engine let go meanwhile is tried anew."""

    def __init__(
        self,
        pool: Pool,
        endpoint: Endpoint,
        message: bytes,
        done: Callable[[Answered], None],
        *,
        timeout_s: float,
    ) -> None:
        """`message` is a whole request, head and body."""
        self._pool, self._endpoint, self._message = pool, endpoint, message
        self._done: Callable[[Answered], None] | None = done
        self._upstream: Upstream | None = None
        self._is_fresh = False
        self._status, self._bytes = 0, 0
        self._pieces: list[bytes] = []
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._late)
        upstream = pool.take((endpoint.address, endpoint.port))
        if upstream is None:
            self._connect()
        else:
            self._send(upstream)

    def give_up(self) -> None:
        """Nobody wants its answer any more: the engine sees the connection break, and stops."""
        self._end(None)

    def on_whole(self, upstream: Upstream, body: bytes) -> None:
        self.on_answer(upstream)
        self.on_data(body)
        if self._done is not None:
            self.on_complete()

    def on_answer(self, upstream: Upstream) -> None:
        assert upstream.answer is not None, "an upstream calls this with one"
        self._status = upstream.answer.status

    def on_data(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > MAX_ANSWER_BYTES:
            self._end(Answered("too_long"))
        else:
            self._pieces.append(data)

    def on_complete(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._pool.give(upstream)
        if 200 <= self._status < 300:
            self._end(Answered("answered", b"".join(self._pieces)))
        else:
            is_refused = 400 <= self._status < 500 and self._status != 429
            self._end(Answered("refused" if is_refused else "failed"))

    def on_broken(self, error: UpstreamError) -> None:
        self._upstream = None
        if self._done is None:
            return
        if isinstance(error, NoAnswer) and error.reused and not self._is_fresh:
            self._is_fresh = True
            self._connect()
        else:
            self._end(Answered("broken"))

    def _connect(self) -> None:
        one = self._endpoint
        address = (one.address, one.port)
        self._pool.connect(address, self._send, self.on_broken, is_tls=one.tls, is_fresh=self._is_fresh)

    def _send(self, upstream: Upstream) -> None:
        if self._done is None:
            upstream.reusable = True
            self._pool.give(upstream)
            return
        self._upstream = upstream
        upstream.send(self._message, self)

    def _late(self) -> None:
        self._end(Answered("late"))

    def _end(self, answered: Answered | None) -> None:
        done, self._done = self._done, None
        self._timer.cancel()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.leave()
        self._pieces = []
        if done is not None and answered is not None:
            done(answered)
