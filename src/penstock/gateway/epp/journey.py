"""What one picked request counts for, from the moment it goes to an endpoint until its answer has ended, as the gateway's own would."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.contracts.exchange import ServiceRoute
from penstock.decide.retry import RETRIABLE_STATUS
from penstock.decide.routing import Route
from penstock.gateway.call import Call
from penstock.gateway.demand import RevisionLoad
from penstock.gateway.dialects.dialect import CallInfo
from penstock.gateway.epp.picking import address_of
from penstock.gateway.relay import EVENTS, Relay, relay_for
from penstock.gateway.state import State
from penstock.gateway.way import Way
from penstock.gateway.wire.message import Answer, Headers


class Journey:
    """Begun when it is made. `close` once, however it ends; every other call only before that."""

    def __init__(
        self,
        state: State,
        call: Call,
        service: ServiceRoute,
        way: Way | None,
        routes: Sequence[Route],
        content: bytes,
    ) -> None:
        """`routes` is what the data plane was told: it asks the first, and the others in turn if that fails. `content` is the body."""
        self._state, self._call, self._way, self._routes = state, call, way, routes
        self._key = (service.namespace, service.name)
        self._content = content
        self._load = state.begin(self._key, state.clock.monotonic())
        self._relay: Relay | None = None
        self._streams = False
        self._set_out(routes[0])

    def answered(self, status: int, headers: Headers, served: str) -> None:
        """The answer's head came, from the endpoint at the address `served`; "" where nobody says which one it was."""
        state, call = self._state, self._call
        self._arrive(served)
        failure = RETRIABLE_STATUS.get(status)
        if failure is None:
            state.endpoints.answered(call.endpoint)
        else:
            state.endpoints.failed(call.endpoint, failure)
        call.respond.status = status
        answer = Answer(status, headers)
        self._streams = answer.media == EVENTS and status < 400
        self._relay = relay_for(call, answer, self._info)
        if not self._streams:
            self._begin()

    def passed(self, data: bytes) -> bytes:
        """A piece of the answer: what of it goes to the caller now."""
        if self._relay is None:
            return data
        call = self._call
        if data:
            self._begin()
            call.chunks += 1
            self._share.tokens += 1.0
        kept = self._relay.feed(data)
        call.respond.sent_bytes += len(kept)
        return kept

    def finished(self) -> bytes:
        """The answer is whole: what of it was held back."""
        return self._relay.finish() if self._relay is not None else b""

    def close(self) -> None:
        """It is over. One that was not answered went with its caller."""
        state, call, now = self._state, self._call, self._state.clock.monotonic()
        call.last_byte_at = now
        if self._relay is None:
            call.error = call.error or "cancelled"
        else:
            usage = self._relay.usage
            call.prompt_tokens, call.completion_tokens = usage.prompt_tokens, usage.completion_tokens
            call.cached_tokens = usage.cached_tokens
        failed = call.respond.status >= 500
        self._leave(failed=failed)
        state.end(self._key, self._load, now, failed=failed)

    def _begin(self) -> None:
        """The first of the answer's bytes: for a stream, its prompt has been computed."""
        call = self._call
        if call.first_byte_at:
            return
        now = call.first_byte_at = self._state.clock.monotonic()
        if call.respond.status < 400:
            self._share.first_byte(now - call.started)
        if self._streams and self._way is not None:
            self._way.began(now)

    def _arrive(self, served: str) -> None:
        """Those before the one that served have failed, or it would not have been asked."""
        addresses = [address_of(route.endpoint) for route in self._routes]
        if served not in addresses or served == addresses[0]:
            return
        for route, address in zip(self._routes, addresses, strict=True):
            if address == served:
                self._set_out(route)
                return
            self._state.endpoints.failed(route.endpoint.name, "no_answer")
            self._call.failures += ("no_answer",)
            if route.endpoint.name == self._call.endpoint:
                self._leave(failed=True)

    def _set_out(self, route: Route) -> None:
        call, now = self._call, self._state.clock.monotonic()
        call.attempts += 1
        call.endpoint, call.revision = route.endpoint.name, route.revision
        self._share: RevisionLoad = self._load.revision(route.revision, now)
        self._estimate = self._share.begin(now, len(self._content))
        self._state.endpoints.begin(call.endpoint)
        if self._way is not None:
            self._way.sent(call.endpoint, now)
            self._way.kept(self._content, now)
        elif call.trail is not None:
            self._state.records.explained.sent(call, call.endpoint, None, now)

    def _leave(self, *, failed: bool) -> None:
        call, now = self._call, self._state.clock.monotonic()
        self._state.endpoints.end(call.endpoint)
        self._share.end(call, now, self._estimate + call.chunks, len(self._content), failed)
        if self._way is not None:
            self._way.ended(now)

    def _info(self) -> CallInfo:
        call, now = self._call, self._state.clock.monotonic()
        return CallInfo(call.id, self._state.clock.now() - (now - call.started), lambda: now - call.started)
