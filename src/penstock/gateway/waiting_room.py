"""The waiting room of one service with a routing profile: requests wait here while its endpoints are full, and go as soon as one has room.

Nobody is here as long as there is room: then a request costs two subtractions. What the endpoints may still take is counted from their loads when
that is used up, or has grown old, or somebody waits. Who goes next, and whether, is decided in `decide/`; here are futures and timers. Turns are given when
an answer begins or ends, when the endpoints change, and ten times a second, since engines' own reports and budgets change without either.

Requests for a service without any endpoint wait in the activator instead (`gateway/activator.py`): what they wait for is another thing, told by
other people, with other deadlines and words; and of them nothing is known yet that an order could rest on, since a prompt is measured by the
endpoints that may hold it. Who leaves the one comes into the other, at the end of the line of his priority.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from math import inf

from msgspec import Struct

from penstock.contracts.exchange import PromptClassRoute, RoutingRoute
from penstock.contracts.scheduling import Load, Prompt
from penstock.decide.admission import KEPT_FREE, Hold, gave_up, held_back, takes_place
from penstock.decide.footprint import LEAST_TOKENS, is_cold
from penstock.decide.priority import Rank
from penstock.decide.prompt_class import BATCH, LONG, SHORT, PromptClass, class_of, class_route, pool_of
from penstock.decide.saturation import Space, space_of
from penstock.gateway.cold_prompts import ColdPrompts
from penstock.gateway.router import Router
from penstock.gateway.waiting_line import Ask, Waiter, WaitingLine
from penstock.kit.clock import Clock
from penstock.kit.errors import Exhausted, Unavailable

MAX_WAITING = 10_000
"""Requests that may wait for one service in one worker, of all priorities together; as many as may wait for its start."""
FRESH_S = 0.02
"""How long a count of what endpoints have room for may be used, unless it is used up: counting 128 of them takes 0.06 ms."""
TICK_S = 0.1
AT_ONCE = 64
"""Requests that are let go before others get their turn in the event loop."""
CLASSES: tuple[PromptClass, ...] = (SHORT, LONG, BATCH)
NO_LIMITS = PromptClassRoute()
BUILT_IN = RoutingRoute()


class _Pool:
    """The endpoints of one class. What is left of their space counts down with each request, and fullness up, until it is counted anew."""

    __slots__ = ("at", "fullness", "loads", "requests", "tokens")

    def __init__(self, loads: tuple[Load, ...]) -> None:
        self.loads = loads
        self.requests = self.tokens = self.fullness = 0.0
        self.at = -inf


class Turn(Struct, eq=False):
    """A request that may go. It counts for its class until its answer begins (its `tokens`) and it has ended."""

    room: WaitingRoom
    prompt_class: PromptClass
    tokens: float
    is_over: bool = False

    def began(self) -> None:
        """Its first token is there: its prompt has been computed."""
        tokens, self.tokens = self.tokens, 0.0
        self.room.freed(self.prompt_class, 0, tokens)

    def ended(self) -> None:
        """However it did, also without having been sent. Once is enough."""
        if not self.is_over:
            self.is_over = True
            self.room.freed(self.prompt_class, 1, self.tokens)


class WaitingRoom:
    """Of one service; `router` knows its endpoints, its profile, and what is under way."""

    def __init__(
        self,
        router: Router,
        clock: Clock,
        *,
        aside: Callable[[], Collection[str]] = tuple,
        told: Callable[[str, str, float], None] = lambda *_: None,
    ) -> None:
        """`aside` are endpoints that get no requests now, so their room is none, unless there are no others.

        `told` is told of each that has waited: its band, what became of it, and how many seconds it took.
        """
        self._router, self._clock, self._aside, self._told = router, clock, aside, told
        self.line = WaitingLine()
        self._cold = ColdPrompts()
        self._pools: Mapping[PromptClass, _Pool] = {}
        self._limits: Mapping[PromptClass, PromptClassRoute] = {}
        self._in_flight: dict[PromptClass, tuple[int, float]] = dict.fromkeys(CLASSES, (0, 0.0))
        self._going = 0
        self._going_tokens = 0.0
        self._soon: asyncio.Handle | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._service = router.service
        self._know()

    def ask(self, prompt: Prompt, held: Mapping[str, float], body_bytes: int) -> Ask:
        """What a request asks, of whose prompt endpoints are expected to hold so many tokens, by name."""
        if self._router.service is not self._service:
            self._know()
        tokens = float(prompt.tokens)
        if held:
            tokens = max(0.0, tokens - max(held.values()))
        prompt_class = class_of(prompt, held.values() if held else (), self._routing.prompt_token_threshold)
        cold = tokens >= LEAST_TOKENS and is_cold(prompt.tokens, tokens)
        return Ask(prompt_class, tokens, body_bytes, cold)

    def turn_at_once(self, ask: Ask, now: float, rank: Callable[[], Rank]) -> Turn | None:
        """A turn for who need not wait; who gets none asks for one in `turn`. `rank` is only asked for when room is short."""
        if self.line.count:
            return None
        pool = self._pools[ask.prompt_class]
        if pool.requests < 1.0 or pool.tokens <= 0.0 or now - pool.at > FRESH_S:
            self._count(pool, now)
        if self._hold(ask, rank().priority if pool.fullness > 1.0 - KEPT_FREE else 0, now):
            return None
        if ask.is_cold:
            self._cold.came(ask.tokens, now)
        self._go(ask)
        return Turn(self, ask.prompt_class, ask.tokens)

    async def turn(self, ask: Ask, rank: Rank, within_s: float | None = None) -> Turn:
        """Wait for a turn, for as long as the profile says, and no longer than `within_s`, the caller's own deadline.

        Raises Exhausted where there is no place in the line, or the wait was too long; Unavailable where it was for the caller. Needs a task.
        """
        began = self._clock.monotonic()
        waiter = Waiter(ask, rank, began, asyncio.get_running_loop().create_future())
        self._enter(waiter)
        if ask.is_cold:
            self._cold.came(ask.tokens, began)
        self._give()
        ttl_s = self._routing.flow.ttl_s
        limit_s = ttl_s if within_s is None else min(ttl_s, within_s)
        outcome = "cancelled"
        try:
            async with asyncio.timeout(limit_s):
                await waiter.turn
            outcome = "let_through"
            return Turn(self, ask.prompt_class, ask.tokens)
        except TimeoutError:
            outcome = "deadline_passed" if limit_s < ttl_s else "waited_too_long"
            raise self._late(waiter, is_callers=limit_s < ttl_s) from None
        except Exhausted as error:
            outcome = error.code
            raise
        finally:
            self._leave(waiter, is_used=outcome == "let_through")
            self._told(rank.band, outcome, self._clock.monotonic() - began)

    def freed(self, prompt_class: PromptClass, requests: int, tokens: float) -> None:
        """What a request that had its turn took of its class, it takes no longer."""
        before, before_tokens = self._in_flight[prompt_class]
        left = before_tokens - tokens
        self._in_flight[prompt_class] = (before - requests, left if left > 0.0 else 0.0)
        if self.line.count:
            self.changed()

    def changed(self) -> None:
        """Somebody may have room now: endpoints, what is under way there, or the profile are others."""
        if self.line.count and self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._give)

    def close(self) -> None:
        """The service has no router any more: who waits, goes."""
        for waiter in list(self.line):
            self.line.leave(waiter)
            self._let_go(waiter)

    # the line

    def _enter(self, waiter: Waiter) -> None:
        """Raises Exhausted where there is no place."""
        ask, rank, flow = waiter.ask, waiter.rank, self._routing.flow
        last = self.line.last_below(rank.priority)
        place = takes_place(
            flow,
            self.line.queued(rank.priority),
            ask.body_bytes,
            max_waiting=MAX_WAITING,
            outranks=last is not None,
        )
        if place.outcome == "displaced" and last is not None:
            self.line.leave(last)
            last.lane = None
            if not last.turn.done():
                last.turn.set_exception(Exhausted(place.message, code="displaced"))
        elif place.outcome != "wait":
            self._told(rank.band, place.outcome, 0.0)
            raise Exhausted(place.message, code=place.outcome)
        self.line.join(waiter)

    def _leave(self, waiter: Waiter, *, is_used: bool) -> None:
        """It goes on its way, or away: with the turn that it was given, if it was."""
        turn, ask = waiter.turn, waiter.ask
        if waiter.lane is not None:
            self.line.leave(waiter)
        elif not turn.cancelled() and turn.exception() is None:
            self._going -= 1
            self._going_tokens -= ask.tokens
            if not is_used:
                self.freed(ask.prompt_class, 1, ask.tokens)
        if not self.line.count:
            self._rest()

    def _give(self) -> None:
        """Turns to as many as have room, and time for others in between."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._router.service is not self._service:
            self._know()
        now = self._clock.monotonic()
        for pool in set(self._pools.values()):
            self._count(pool, now)
        for _ in range(AT_ONCE):
            waiter = self.line.take(lambda one: self._hold(one.ask, one.rank.priority, now))
            if waiter is None:
                break
            self._let_go(waiter)
        else:
            self.changed()
        if not self.line.count:
            self._rest()
        elif self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(TICK_S, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        self._give()

    def _let_go(self, waiter: Waiter) -> None:
        """Out of the line. It counts as going until it is on its way, where its endpoint counts it; one that goes away just now does not."""
        waiter.lane = None
        if not waiter.turn.done():
            self._go(waiter.ask)
            self._going += 1
            self._going_tokens += waiter.ask.tokens
            waiter.turn.set_result(None)

    def _rest(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    # what there is

    def _hold(self, ask: Ask, priority: int, now: float) -> Hold:
        pool, prompt_class = self._pools[ask.prompt_class], ask.prompt_class
        return held_back(
            priority,
            ask.tokens,
            Space(pool.requests, pool.tokens, pool.fullness),
            self._limits[prompt_class],
            self._in_flight[prompt_class],
            lacks_budget=ask.is_cold and self._cold.lacks(self._router.index, pool.loads, now),
        )

    def _go(self, ask: Ask) -> None:
        pool, prompt_class = self._pools[ask.prompt_class], ask.prompt_class
        if pool.requests >= 1.0 and pool.tokens > 0.0:
            of_requests, of_tokens = 1.0 / pool.requests, ask.tokens / pool.tokens
            taken = of_requests if of_requests > of_tokens else of_tokens
            pool.fullness += (1.0 - pool.fullness) * (taken if taken < 1.0 else 1.0)
        pool.requests -= 1.0
        pool.tokens -= ask.tokens
        requests, tokens = self._in_flight[prompt_class]
        self._in_flight[prompt_class] = (requests + 1, tokens + ask.tokens)
        if ask.is_cold:
            self._cold.let_in(ask.tokens)

    def _count(self, pool: _Pool, now: float) -> None:
        """What its endpoints have room for, less what is on its way to them."""
        loads, aside = pool.loads, self._aside()
        if aside:
            loads = tuple(load for load in loads if load.endpoint.name not in aside) or loads
        space = space_of(loads, self._routing.flow)
        pool.requests, pool.tokens = space.requests - self._going, space.tokens - self._going_tokens
        pool.fullness, pool.at = space.fullness, now

    def _know(self) -> None:
        """The service's endpoints and profile as they are now. Classes with the same endpoints share what there is."""
        service = self._service = self._router.service
        self._routing = service.routing or BUILT_IN
        loads = self._router.loads
        ends = [
            one for revision in service.revisions if revision.weight_percent for one in revision.endpoints
        ]
        pools: dict[tuple[str, ...], _Pool] = {}
        found: dict[PromptClass, _Pool] = {}
        for one in CLASSES:
            names = tuple(e.name for e in pool_of(class_route(self._routing, one), ends) if e.name in loads)
            if names not in pools:
                pools[names] = _Pool(tuple(loads[name] for name in names))
            found[one] = pools[names]
        self._pools = found
        self._limits = {one: class_route(self._routing, one) for one in CLASSES}

    def _late(self, waiter: Waiter, *, is_callers: bool) -> Exhausted | Unavailable:
        hold = waiter.lane.hold if waiter.lane is not None else ""
        name = f"{self._service.namespace}/{self._service.name}"
        told = gave_up(name, hold, self._clock.monotonic() - waiter.since, is_callers=is_callers)
        kind = Unavailable if is_callers else Exhausted
        return kind(told.message, code=told.outcome, hint="try again later")
