"""Groups of prompts that begin alike: the shape of SGLang's `generated-shared-prefix` and of inference-perf's shared-prefix workloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from statistics import fmean

from penstock.testing.routing.ask import Ask, chained

OWN_IDS = 1 << 30
"""Where the numbers of blocks that no two prompts share begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`groups` of `prompts` each; a prompt is `shared_tokens` that its group has in common and `own_tokens`; answers have `output_tokens`.

    Block sizes round the shared part down to whole blocks.
    """

    groups: int
    prompts: int
    shared_tokens: int
    own_tokens: int
    output_tokens: int
    block_tokens: int


class Prompts:
    """All prompts of a shape; the same number is the same prompt."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.count = shape.groups * shape.prompts
        self._shared: dict[int, tuple[list[int], list[int]]] = {}
        total = shape.shared_tokens + shape.own_tokens
        self._shared_blocks = shape.shared_tokens // shape.block_tokens
        self._own_blocks = total // shape.block_tokens - self._shared_blocks

    def ask(self, number: int, at: float, *, warms: bool = False) -> Ask:
        """Prompt `number`, asked then."""
        shape = self.shape
        group = number // shape.prompts
        ids, hashes = self._beginning(group)
        first = OWN_IDS + number * self._own_blocks
        own = range(first, first + self._own_blocks)
        seed = (hashes[-1],) if hashes else ()
        return Ask(
            at,
            shape.shared_tokens + shape.own_tokens,
            shape.output_tokens,
            [*ids, *own],
            [*hashes, *chained(own, shape.block_tokens, *seed)],
            tenant=f"group-{group}",
            warms=warms,
        )

    def _beginning(self, group: int) -> tuple[list[int], list[int]]:
        known = self._shared.get(group)
        if known is None:
            first = group * self._shared_blocks
            ids = [*range(first, first + self._shared_blocks)]
            known = self._shared[group] = ids, chained(ids, self.shape.block_tokens)
        return known


@lru_cache(maxsize=1)
def prompts_of(shape: Shape) -> Prompts:
    """The same for every run of one shape."""
    return Prompts(shape)


@lru_cache(maxsize=4)
def drawn_order(
    shape: Shape, users: int, requests: int, seed: int, groups_first: bool
) -> tuple[Sequence[int], Sequence[float]]:
    """The same for every run of one seed: which prompts are asked, and after how many seconds each user begins."""
    order = [*range(shape.groups * shape.prompts)]
    chance = Random(f"closed loop {seed}")  # noqa: S311  reproducible, not secret
    chance.shuffle(order)
    if groups_first:
        firsts = {number // shape.prompts: number for number in reversed(order)}.values()
        left = set(firsts)
        order = [*firsts, *(number for number in order if number not in left)]
    del order[requests:]
    return tuple(order), tuple(chance.random() for _ in range(min(users, len(order))))


class ClosedLoop:
    """`users` at once: each prompt once, in random order, the next as soon as one is answered; at most `requests` of them.

    The first `warming` of these warm up; every group is among them, if they are so many.
    """

    def __init__(
        self, name: str, shape: Shape, users: int, requests: int, seed: int, *, warming: int = 0
    ) -> None:
        self.name = name
        self._prompts = prompts_of(shape)
        self._order, self._spread_s = drawn_order(shape, users, requests, seed, warming > 0)
        self._warming, self._asked = warming, 0

    def arrivals(self) -> Iterator[Ask]:
        """The first of each user, within a second."""
        for at in sorted(self._spread_s):
            yield self._next(at)

    def after(self, ask: Ask, now: float) -> Ask | None:
        """The next, at once."""
        return self._next(now) if self._asked < len(self._order) else None

    def _next(self, at: float) -> Ask:
        self._asked += 1
        return self._prompts.ask(self._order[self._asked - 1], at, warms=self._asked <= self._warming)


class OpenLoop:
    """Poisson arrivals at each of `rates` (per second) for `stage_s`; prompts are drawn, so each comes again.

    Before that it warms up for `warming_s`, at the mean of the rates.
    """

    def __init__(
        self,
        name: str,
        shape: Shape,
        rates: Sequence[float],
        stage_s: float,
        seed: int,
        *,
        warming_s: float = 0.0,
    ) -> None:
        self.name = name
        self._prompts = prompts_of(shape)
        self._stages = [(rate, stage_s, False) for rate in rates]
        if warming_s:
            self._stages.insert(0, (fmean(rates), warming_s, True))
        self._chance = Random(f"open loop {seed}")  # noqa: S311

    def arrivals(self) -> Iterator[Ask]:
        """In order."""
        begins = 0.0
        for rate, lasts_s, warms in self._stages:
            at = begins + self._chance.expovariate(rate)
            begins += lasts_s
            while at < begins:
                yield self._prompts.ask(self._chance.randrange(self._prompts.count), at, warms=warms)
                at += self._chance.expovariate(rate)

    def after(self, ask: Ask, now: float) -> Ask | None:
        """Nobody waits for an answer."""
        return None
