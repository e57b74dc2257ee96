"""One request's way to an engine and back: route it, pass the answer on as it comes, try elsewhere while that is safe.

A Delivery is called back by both sides: by the client's connection as its Watcher, by the engine's as its Exchange. Until an
answer begins it may go from endpoint to endpoint; then it is bound to one.
"""

from __future__ import annotations

from collections.abc import Callable

from penstock.contracts.exchange import Endpoint
from penstock.decide.deadline import Deadline, deadline
from penstock.decide.retry import RETRIABLE_STATUS, Failure, is_free, is_repeatable, retry
from penstock.decide.retry_after import asked_s
from penstock.decide.routing import Route
from penstock.gateway import outgoing
from penstock.gateway.call import Call
from penstock.gateway.demand import RevisionLoad
from penstock.gateway.dialects.dialect import CallInfo
from penstock.gateway.disaggregated import Elsewhere
from penstock.gateway.errors import cut_off, draining, late
from penstock.gateway.relay import EVENTS, Collected, Relay, Told, relay_for
from penstock.gateway.state import State
from penstock.gateway.telling import begin_telling, begin_tunnel, tell_collected, tell_without_engine
from penstock.gateway.usage import Usage
from penstock.gateway.wire.client import CutOff, NoAnswer, Upstream, UpstreamError
from penstock.gateway.wire.message import Answer
from penstock.gateway.wire.tunnel import Tunnel
from penstock.kit.errors import PlatformError, Unavailable

LEAST_S = 0.001
"""Of a caller's deadline that has all but passed: 0 would be none."""


class Delivery:
    """`finish` is called once, at the end, however it came; refusals are raised by `start` or told by `refuse`."""

    __slots__ = ("_body", "_call", "_chosen", "_content", "_deadline", "_elsewhere", "_epoch", "_estimate", "_finish", "_fresh", "_is_over", "_is_paused", "_key",
                 "_load", "_refuse", "_relay", "_service", "_share", "_state", "_tried", "_tunnel", "_upstream", "_usage", "_way")  # fmt: skip

    def __init__(
        self,
        call: Call,
        state: State,
        finish: Callable[[Call], None],
        refuse: Callable[[Call, PlatformError], None],
    ) -> None:
        assert call.service is not None, "the pipeline has found it"
        self._call = call
        self._state = state
        self._finish = finish
        self._refuse = refuse
        self._service = call.service
        self._key = (call.service.namespace, call.service.name)
        self._way = state.ways.of(call, call.service) if call.service.routing is not None else None
        self._deadline = (
            deadline(call.request.head.headers, call.service.timeout_s)
            if call.reading.has_deadline
            else Deadline(call.service.timeout_s)
        )
        self._content = self._body = b""
        self._elsewhere: Elsewhere | None = None
        self._tried: frozenset[str] = frozenset()
        self._fresh = self._is_over = self._is_paused = False
        self._estimate = 0.0
        self._share: RevisionLoad | None = None
        self._chosen: Route | None = None
        self._upstream: Upstream | None = None
        self._relay: Relay | None = None
        self._usage: Usage | None = None
        self._tunnel: Tunnel | None = None

    def start(self) -> None:
        """Send it on its way."""
        state, call = self._state, self._call
        self._content = outgoing.content(call, self._service)
        now = call.admitted or call.started
        self._load = state.begin(self._key, now)
        self._epoch, timeout_s = now, self._deadline.timeout_s
        if self._deadline.is_callers:
            self._epoch = call.started
            timeout_s = max(LEAST_S, timeout_s - (now - call.started))
        call.respond.watch(self, timeout_s)
        if call.asked is not None and not call.asked.path:
            tell_without_engine(call, self._info())
            self._end(failed=False)
            return
        chosen = state.ways.choose(call, self._service, self._tried, now)
        if chosen is None:
            self._give_up(self._unavailable("its last endpoint is gone", "no endpoint is ready"))
        else:
            self._attempt(chosen, now)

    # to the engine

    def _attempt(self, chosen: Route, now: float) -> None:
        call, endpoint, load, way = self._call, chosen.endpoint, self._load, self._way
        self._chosen = chosen
        share = self._share = load.revisions.get(chosen.revision) or load.revision(chosen.revision, now)
        self._estimate = share.begin(now, len(self._content))
        call.attempts += 1
        call.endpoint, call.revision = endpoint.name, chosen.revision
        self._state.endpoints.begin(endpoint.name)
        if way is not None:
            way.sent(endpoint.name, now)
        elif call.trail is not None:
            self._state.records.explained.sent(call, endpoint.name, None, now)
        self._body = self._content
        if way is not None and way.goes_apart:
            left_s = self._deadline.remaining_s(now - self._epoch)
            self._elsewhere = way.compute_elsewhere(self._content, self._message, self._computed, left_s)
            if self._elsewhere is not None:
                return
        self._reach(endpoint, now)

    def _computed(self, body: bytes) -> None:
        """Another endpoint has computed the prompt, or has not: what is to be sent now."""
        self._elsewhere = None
        if not self._is_over and self._chosen is not None:
            self._body = body
            self._reach(self._chosen.endpoint, self._state.clock.monotonic())

    def _reach(self, endpoint: Endpoint, now: float) -> None:
        address = (endpoint.address, endpoint.port)
        upstream = None if self._fresh else self._state.pool.take(address)
        if upstream is not None:
            self._send(upstream)
        else:
            self._state.pool.connect(
                address, self._connected, self.on_broken, is_tls=endpoint.tls, is_fresh=self._fresh
            )
        way = self._way
        if way is not None and way.prompt.hashes:
            way.kept(self._content, now)

    def _connected(self, upstream: Upstream) -> None:
        if self._is_over:
            upstream.reusable = True
            self._state.pool.give(upstream)
        else:
            self._send(upstream)

    def _send(self, upstream: Upstream) -> None:
        call, chosen = self._call, self._chosen
        assert chosen is not None
        self._upstream = upstream
        data = self._message(chosen.endpoint, self._body)
        upstream.send(data, self, is_head=call.request.head.method == b"HEAD")

    def _message(self, endpoint: Endpoint, body: bytes) -> bytes:
        told = None
        if self._deadline.header:
            told = self._deadline.told(self._state.clock.monotonic() - self._epoch)
        return outgoing.message(self._call, self._service, endpoint, body, told)

    # from the engine

    def on_whole(self, upstream: Upstream, body: bytes) -> None:
        """What can be passed on as it is goes in one step; all else is taken as if it came in pieces."""
        call, state, answer = self._call, self._state, upstream.answer
        assert answer is not None, "an upstream calls this with one"
        if call.asked is not None or answer.status in RETRIABLE_STATUS or answer.media == EVENTS:
            self.on_answer(upstream)
            if body and self._upstream is upstream:
                self.on_data(body)
            if self._upstream is upstream:
                self.on_complete()
            return
        state.endpoints.answered(call.endpoint)
        now = call.first_byte_at = state.clock.monotonic()
        call.chunks = 1
        usage = self._usage = Usage()
        if call.target.protocol == "ollama":
            usage.read_eval(body)
        else:
            usage.read(body)
        start = outgoing.answer_start(answer, call)
        if call.key is not None:
            start += state.quota.lines(call)
        if answer.status < 400 and self._share is not None:
            self._share.first_byte(now - call.started)
        self._release()
        call.respond.whole(answer.status, start, body)
        self._account(now, failed=answer.status >= 500)
        self._finish(call)

    def on_answer(self, upstream: Upstream) -> None:
        call, state, answer = self._call, self._state, upstream.answer
        assert answer is not None, "an upstream calls this with one"
        failure = RETRIABLE_STATUS.get(answer.status)
        if failure is None:
            state.endpoints.answered(call.endpoint)
        elif self._retry(failure, asked_s(answer.headers)) is None:
            return
        if answer.status == 101:
            self._switch(upstream, answer)
            return
        now = call.first_byte_at = state.clock.monotonic()
        if answer.status < 400 and self._share is not None:
            self._share.first_byte(now - call.started)
        relay = self._relay = relay_for(call, answer, self._info)
        self._usage = relay.usage
        if isinstance(relay, Collected):
            return
        if isinstance(relay, Told):
            begin_telling(call, answer, state.quota.headers(call))
        else:
            length = None if call.streams else upstream.length
            start = outgoing.answer_start(answer, call) + state.quota.lines(call)
            call.respond.begin(answer.status, start, length)

    def on_data(self, data: bytes) -> None:
        call, relay, share = self._call, self._relay, self._share
        if relay is None or share is None:
            if self._tunnel is not None:
                self._tunnel.from_engine(data)
            return
        call.chunks += 1
        share.tokens += 1.0
        if call.chunks == 1 and call.streams and self._way is not None:
            self._way.began(self._state.clock.monotonic())
        try:
            passed = relay.feed(data)
        except PlatformError as error:
            self._break(error)
            return
        if passed:
            call.respond.write(passed)

    def on_complete(self) -> None:
        call, relay, upstream = self._call, self._relay, self._upstream
        if relay is None or upstream is None:
            return
        rest = relay.finish()
        if isinstance(relay, Collected):
            tell_collected(call, relay, upstream, rest, self._state.quota.headers(call))
        else:
            call.respond.write(rest)
            call.respond.end(upstream.trailers)
        self._release()
        self._end(failed=call.respond.status >= 500)

    def on_broken(self, error: UpstreamError) -> None:
        name = self._call.endpoint
        if self._is_over:
            return
        if isinstance(error, CutOff):
            self._state.endpoints.failed(name, "cut_off")
            self._break(cut_off(name, error))
            return
        failure: Failure = "not_sent"
        if isinstance(error, NoAnswer):
            failure = "no_answer_reused" if error.reused and not self._fresh else "no_answer"
        reason = self._retry(failure)
        if reason is not None:
            self._release(broken=True)
            self._give_up(self._unavailable(str(error), reason))

    def _retry(self, failure: Failure, asked_s: float = 0.0) -> str | None:
        """None if another attempt is under way, else why not. `asked_s`: after what time the engine would be asked again."""
        state, call, chosen = self._state, self._call, self._chosen
        assert chosen is not None
        call.failures += (failure,)
        now = state.clock.monotonic()
        before = self._tried
        self._tried = before | {call.endpoint}
        self._service = state.names.present(self._service)
        other = state.ways.choose(call, self._service, self._tried, now)
        decided = retry(
            failure,
            call.attempts,
            others=other is not None,
            repeatable=is_repeatable(call.request.head.method, call.target.path),
            budget=state.pace.budget(self._key, now),
            remaining_s=self._deadline.remaining_s(now - self._epoch),
        )
        if decided.set_aside:
            state.endpoints.failed(call.endpoint, failure, asked_s)
        if decided.action == "give_up":
            state.telemetry.retries.add(decided.outcome)
            return decided.reason
        if not is_free(failure):
            state.pace.retried(self._key)
        state.telemetry.retries.add(failure)
        self._release(broken=True)
        assert self._share is not None, "it is tried again"
        self._share.end(call, now, self._estimate, 0, True)
        if self._way is not None:
            self._way.ended(now)
        self._fresh = decided.action == "again"
        if self._fresh:
            self._tried, other = before, chosen
        assert other is not None, "it has been counted among the others"
        self._attempt(other, now)
        return None

    # what happens to the client meanwhile

    def on_gone(self) -> None:
        self._call.error = "cancelled"
        self._release(broken=True)
        self._call.respond.abort()
        self._end(failed=False)

    def on_late(self) -> None:
        call = self._call
        if call.endpoint and not call.respond.started and not self._deadline.is_callers:
            self._state.endpoints.failed(call.endpoint, "late")
        self._break(late(self._service, self._deadline.timeout_s))

    def on_cut(self) -> None:
        self._break(draining())

    def on_pause(self, paused: bool) -> None:
        self._is_paused = paused
        if self._upstream is not None and self._relay is not None:
            self._upstream.pause(paused)

    # ends

    def _break(self, error: PlatformError) -> None:
        """Before an answer it is an error like any; in the middle of one an error object where that can be read, else a cut."""
        call, relay = self._call, self._relay
        self._release(broken=True)
        if not call.respond.started:
            self._give_up(error)
            return
        call.error = error.code
        words = relay.broken(error) if relay is not None else None
        if words is None:
            call.respond.abort()
        else:
            call.respond.keeps_alive = False
            call.respond.write(words)
            call.respond.end()
        self._end(failed=True)

    def _give_up(self, error: PlatformError) -> None:
        self._account(self._state.clock.monotonic(), failed=True)
        self._refuse(self._call, error)

    def _switch(self, upstream: Upstream, answer: Answer) -> None:
        """The engine speaks the other protocol from here on: bytes pass unread until both sides have closed."""
        call = self._call
        if not call.request.head.upgrade:
            self._break(self._unavailable(f"{call.endpoint} switched protocols", "nobody asked for that"))
            return
        self._tunnel = begin_tunnel(call, upstream, answer, self._tunnelled)

    def _tunnelled(self, up_bytes: int, down_bytes: int) -> None:
        self._call.respond.sent_bytes = down_bytes
        self._release(broken=True)
        self._end(failed=False)

    def _release(self, *, broken: bool = False) -> None:
        """The attempt is over. An engine whose answer nobody wants any more sees its connection break, and stops."""
        chosen, self._chosen = self._chosen, None
        if self._elsewhere is not None:
            self._elsewhere.give_up()
            self._elsewhere = None
        upstream, self._upstream = self._upstream, None
        if chosen is not None:
            self._state.endpoints.end(chosen.endpoint.name)
        if upstream is not None:
            if broken:
                upstream.leave()
            else:
                if self._is_paused and upstream.reusable:
                    upstream.pause(False)
                self._state.pool.give(upstream)

    def _end(self, *, failed: bool) -> None:
        self._account(self._state.clock.monotonic(), failed=failed)
        self._finish(self._call)

    def _account(self, now: float, *, failed: bool) -> None:
        self._is_over = True
        call, state, told = self._call, self._state, self._usage
        call.last_byte_at = now
        state.end(self._key, self._load, now, failed=failed)
        if told is not None:
            call.prompt_tokens, call.completion_tokens = told.prompt_tokens, told.completion_tokens
            call.cached_tokens = told.cached_tokens
        share = self._share
        if share is not None:
            tokens = self._estimate if self._relay is None else self._estimate + call.chunks
            share.end(call, now, tokens, len(self._content), failed)
        if self._way is not None:
            self._way.ended(now)

    def _info(self) -> CallInfo:
        return CallInfo(self._call.id, self._state.clock.now() - self._elapsed_s(), self._elapsed_s)

    def _elapsed_s(self) -> float:
        return self._state.clock.monotonic() - self._call.started

    def _unavailable(self, message: str, reason: str) -> Unavailable:
        return self._state.unanswered(self._service, self._call.id, f"{message} ({reason})")
