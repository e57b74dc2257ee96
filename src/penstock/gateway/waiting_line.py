"""Who waits for one service's endpoints, in the order in which they may go: bands by priority, lanes within a band, turns within a lane.

A band of higher priority goes first, always. In it each class of prompts has a lane, and in each class prompts that nobody holds have one of
their own, since lanes are held back apart: what is next in one that is not may go. Lanes that may go take turns by the tokens that each has
been let through, and within one `decide/fairness.py` says whose turn it is.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from penstock.decide.admission import Hold, Queued
from penstock.decide.fairness import Turns
from penstock.decide.priority import Rank
from penstock.decide.prompt_class import PromptClass


class Ask(Struct, frozen=True, gc=False):
    """What one request asks of its service's endpoints. `tokens` are those that the best of them would have to compute."""

    prompt_class: PromptClass
    tokens: float
    body_bytes: int
    is_cold: bool


class Waiter:
    """One that waits, since `since` (monotonic). `turn` is done when it may go, or is refused."""

    __slots__ = ("ask", "lane", "rank", "since", "turn")

    def __init__(self, ask: Ask, rank: Rank, since: float, turn: asyncio.Future[None]) -> None:
        self.ask, self.rank, self.since, self.turn = ask, rank, since, turn
        self.lane: Lane | None = None


class Lane:
    """`let_through` are tokens, `hold` is why its first did not go the last time."""

    __slots__ = ("hold", "let_through", "turns")

    def __init__(self, let_through: float) -> None:
        self.let_through = let_through
        self.turns: Turns[Waiter] = Turns()
        self.hold: Hold = ""


class _Band:
    __slots__ = ("lanes", "size_bytes", "waiters")

    def __init__(self) -> None:
        self.lanes: dict[tuple[PromptClass, bool], Lane] = {}
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()
        self.size_bytes = 0


class WaitingLine:
    """Of one service. `count` is how many wait. Nothing here asks the time or waits."""

    def __init__(self) -> None:
        """Nobody is there."""
        self._bands: dict[int, _Band] = {}
        self._order: list[int] = []
        self.count = self._size_bytes = 0

    def __len__(self) -> int:
        return self.count

    def join(self, waiter: Waiter) -> None:
        """At the end of its account's requests."""
        ask, rank = waiter.ask, waiter.rank
        band = self._bands.get(rank.priority)
        if band is None:
            band = self._bands[rank.priority] = _Band()
            insort(self._order, rank.priority, key=lambda priority: -priority)
        lane = band.lanes.get((ask.prompt_class, ask.is_cold))
        if lane is None:
            least = min((one.let_through for one in band.lanes.values()), default=0.0)
            lane = band.lanes[ask.prompt_class, ask.is_cold] = Lane(least)
        waiter.lane = lane
        lane.turns.join(waiter, rank.account, rank.weight, ask.tokens)
        band.waiters[waiter] = None
        self._add(band, 1, ask.body_bytes)

    def leave(self, waiter: Waiter) -> None:
        """Wherever in the line it is; without a turn."""
        assert waiter.lane is not None, "it has joined"
        waiter.lane.turns.leave(waiter, waiter.rank.account)
        self._drop(waiter)

    def take(self, may_go: Callable[[Waiter], Hold]) -> Waiter | None:
        """The first that may go goes, and its account and its lane are charged; None where all that are next are held back."""
        for priority in self._order:
            band = self._bands[priority]
            lanes = band.lanes.values()
            for lane in sorted(lanes, key=lambda lane: lane.let_through) if len(lanes) > 1 else lanes:
                waiter = lane.turns.first()
                assert waiter is not None, "a lane without requests is taken away"
                lane.hold = may_go(waiter)
                if not lane.hold:
                    lane.turns.take()
                    lane.let_through += waiter.ask.tokens
                    self._drop(waiter)
                    return waiter
        return None

    def queued(self, priority: int) -> Queued:
        """How much waits, of this priority and of all."""
        band = self._bands.get(priority)
        if band is None:
            return Queued(0, 0, self.count, self._size_bytes)
        return Queued(len(band.waiters), band.size_bytes, self.count, self._size_bytes)

    def ahead_of(self, priority: int) -> int:
        """Requests that go before one of this priority that comes now, as far as their order is known: those of its band and above."""
        return sum(len(self._bands[one].waiters) for one in self._order if one >= priority)

    def last_below(self, priority: int) -> Waiter | None:
        """Who came last of the lowest priority, if that is below this one."""
        if not self._order or self._order[-1] >= priority:
            return None
        return next(reversed(self._bands[self._order[-1]].waiters))

    def first_since(self) -> float | None:
        """Since when the one waits that waits longest; None where nobody does."""
        firsts = (next(iter(band.waiters)).since for band in self._bands.values())
        return min(firsts, default=None)

    def lengths(self) -> Mapping[str, int]:
        """How many wait, by the names of their bands."""
        return {next(iter(band.waiters)).rank.band: len(band.waiters) for band in self._bands.values()}

    def __iter__(self) -> Iterator[Waiter]:
        for priority in self._order:
            yield from self._bands[priority].waiters

    def _drop(self, waiter: Waiter) -> None:
        priority, key = waiter.rank.priority, (waiter.ask.prompt_class, waiter.ask.is_cold)
        band = self._bands[priority]
        del band.waiters[waiter]
        if not len(band.lanes[key].turns):
            del band.lanes[key]
        self._add(band, -1, -waiter.ask.body_bytes)
        if not band.waiters:
            del self._bands[priority]
            self._order.remove(priority)

    def _add(self, band: _Band, requests: int, size_bytes: int) -> None:
        band.size_bytes += size_bytes
        self._size_bytes += size_bytes
        self.count += requests
