"""Which layout of each GPU serves most, all of them together?

Each GPU takes one of its options (how many instances of each profile, at what cost); a profile is worth less the more instances of it there are.
That is an integer program, and a small one. Prices for instances give a bound on what any choice can be worth (Lagrangian relaxation, Geoffrion
1974); a greedy choice that is improved GPU by GPU comes near it, and branch and bound goes on from there until nothing better can exist. It gives
up after `MOST_STEPS`, and then says how much better a choice could be at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Counts = tuple[int, ...]
MOST_STEPS = 4_000
MOST_SEARCHED = 256
"""Of more GPUs than these only the greedy choice and the bound are found."""
PRICE_ROUNDS = 150
EQUAL = 1e-9
"""Choices whose worth differs by less are equal, and the first is kept."""


class Option(NamedTuple):
    """One way to lay out a GPU: how many instances of each profile (in the order of the tables), and what it costs to get there."""

    counts: Counts
    cost: float = 0.0


class Cover(NamedTuple):
    """`choice` is an option's number for each GPU; no choice is worth more than `bound`, and none more than this one if they are equal."""

    choice: tuple[int, ...]
    worth: float
    bound: float


def cover(gpus: Sequence[Sequence[Option]], tables: Sequence[Sequence[float]]) -> Cover:
    """`gpus` are each GPU's options, the first of which is kept where another is not better.

    `tables` say for each profile what 0, 1, 2 … instances are worth together: never falling, and each adds at most what the one before it did.
    A table may not be shorter than the instances there can be.
    """
    start = tuple(0 for _ in gpus)
    best, worth = _climbed(gpus, tables, start)
    prices = _prices(gpus, tables, worth)
    return _Search(gpus, tables, prices).run(best, worth)


def worth_of(
    gpus: Sequence[Sequence[Option]], tables: Sequence[Sequence[float]], choice: Sequence[int]
) -> float:
    """What a choice is worth, its costs taken off."""
    have = _sum(gpus, choice, len(tables))
    return _value(tables, have) - sum(options[at].cost for options, at in zip(gpus, choice, strict=True))


def _value(tables: Sequence[Sequence[float]], have: Sequence[int]) -> float:
    return sum(table[count] for table, count in zip(tables, have, strict=True))


def _sum(gpus: Sequence[Sequence[Option]], choice: Sequence[int], profiles: int) -> list[int]:
    have = [0] * profiles
    for options, at in zip(gpus, choice, strict=True):
        for place, count in enumerate(options[at].counts):
            have[place] += count
    return have


def _climbed(
    gpus: Sequence[Sequence[Option]], tables: Sequence[Sequence[float]], start: tuple[int, ...]
) -> tuple[tuple[int, ...], float]:
    """Each GPU in turn takes what is best beside the others, until none changes. What one step gains is more than `EQUAL`, so it ends."""
    choice, have = list(start), _sum(gpus, start, len(tables))
    is_better = True
    while is_better:
        is_better = False
        for place, options in enumerate(gpus):
            old = options[choice[place]]
            rest = [count - mine for count, mine in zip(have, old.counts, strict=True)]
            best, at = _value(tables, have) - old.cost, choice[place]
            for number, option in enumerate(options):
                with_it = [count + more for count, more in zip(rest, option.counts, strict=True)]
                worth = _value(tables, with_it) - option.cost
                if worth > best + EQUAL:
                    best, at = worth, number
            if at != choice[place]:
                choice[place], is_better = at, True
                have = [count + more for count, more in zip(rest, options[at].counts, strict=True)]
    return tuple(choice), worth_of(gpus, tables, choice)


def _prices(
    gpus: Sequence[Sequence[Option]], tables: Sequence[Sequence[float]], reached: float
) -> list[float]:
    """A price for an instance of each profile, at which the bound is lowest: what is asked for more than offered becomes dearer (Polyak's steps)."""
    groups = _groups(gpus)
    prices = [table[1] - table[0] if len(table) > 1 else 0.0 for table in tables]
    best, lowest = prices, float("inf")
    for _ in range(PRICE_ROUNDS):
        bound, slope = 0.0, [0.0] * len(tables)
        for options, size in groups:
            gain, option = max(((_paid(prices, one), one) for one in options), key=lambda rated: rated[0])
            bound += size * gain
            for place, count in enumerate(option.counts):
                slope[place] += size * count
        for place, table in enumerate(tables):
            gain, count = max(
                ((worth - prices[place] * n, n) for n, worth in enumerate(table)), key=lambda rated: rated[0]
            )
            bound += gain
            slope[place] -= count
        if bound < lowest:
            best, lowest = prices, bound
        norm = sum(one * one for one in slope)
        if not norm or lowest <= reached + EQUAL:
            break
        step = (bound - reached) / norm
        prices = [max(0.0, price - step * one) for price, one in zip(prices, slope, strict=True)]
    return best


def _groups(gpus: Sequence[Sequence[Option]]) -> list[tuple[Sequence[Option], int]]:
    """GPUs with the same options, and how many they are."""
    sizes: dict[tuple[Option, ...], int] = {}
    for options in gpus:
        sizes[tuple(options)] = sizes.get(tuple(options), 0) + 1
    return list(sizes.items())


def _paid(prices: Sequence[float], option: Option) -> float:
    return sum(price * count for price, count in zip(prices, option.counts, strict=True)) - option.cost


class _Search:
    """Branch and bound over the GPUs, those with the same options beside each other; these take options in ascending order, as they are alike."""

    def __init__(
        self, gpus: Sequence[Sequence[Option]], tables: Sequence[Sequence[float]], prices: Sequence[float]
    ) -> None:
        self._tables = tables
        kinds: dict[tuple[Option, ...], int] = {}
        kind_of = [kinds.setdefault(tuple(options), len(kinds)) for options in gpus]
        self._places = sorted(range(len(gpus)), key=lambda place: kind_of[place])
        self._kind = [kind_of[place] for place in self._places]
        ranked = [
            sorted(
                ((_paid(prices, one), number, one) for number, one in enumerate(options)),
                key=lambda r: (-r[0], r[1]),
            )
            for options in kinds
        ]
        self._options = [ranked[kind] for kind in self._kind]
        self._after = [0.0] * (len(gpus) + 1)
        for depth in reversed(range(len(gpus))):
            self._after[depth] = self._after[depth + 1] + self._options[depth][0][0]
        self._last = [
            next((d for d in range(depth, len(gpus)) if self._kind[d] != self._kind[depth]), len(gpus))
            for depth in range(len(gpus))
        ]
        self._rest = [_conjugate(table, price) for table, price in zip(tables, prices, strict=True)]
        self._steps = 0

    def run(self, best: tuple[int, ...], worth: float) -> Cover:
        """Start from what is known to be possible."""
        self._best, self._worth = best, worth
        bound = self._bound([0] * len(self._tables), 0, 0)
        if bound > worth + EQUAL and len(self._options) <= MOST_SEARCHED:
            self._descend([], [0] * len(self._tables), 0.0)
            if self._steps <= MOST_STEPS:
                bound = self._worth
        return Cover(self._best, self._worth, max(bound, self._worth))

    def _bound(self, have: Sequence[int], depth: int, least: int) -> float:
        """The most that GPUs from here on, and the instances so far, can be worth; those like the last take no option before `least`."""
        found = sum(rest[count] for rest, count in zip(self._rest, have, strict=True))
        if depth < len(self._options):
            end = self._last[depth]
            found += (end - depth) * self._options[depth][least][0] + self._after[end]
        return found

    def _descend(self, taken: list[int], have: list[int], cost: float) -> None:
        """`taken` are ranks of options, by depth."""
        self._steps += 1
        depth = len(taken)
        if depth == len(self._options):
            worth = _value(self._tables, have) - cost
            if worth > self._worth + EQUAL:
                self._worth = worth
                choice = [0] * depth
                for at, place, options in zip(taken, self._places, self._options, strict=True):
                    choice[place] = options[at][1]
                self._best = tuple(choice)
            return
        is_alike = depth > 0 and self._kind[depth - 1] == self._kind[depth]
        for at in range(taken[-1] if is_alike else 0, len(self._options[depth])):
            if self._steps > MOST_STEPS or self._bound(have, depth, at) - cost <= self._worth + EQUAL:
                return
            option = self._options[depth][at][2]
            with_it = [count + more for count, more in zip(have, option.counts, strict=True)]
            after = cost + option.cost
            if self._bound_next(with_it, depth + 1, at) - after > self._worth + EQUAL:
                self._descend([*taken, at], with_it, after)

    def _bound_next(self, have: list[int], depth: int, at: int) -> float:
        is_alike = depth < len(self._kind) and self._kind[depth] == self._kind[depth - 1]
        return self._bound(have, depth, at if is_alike else 0)


def _conjugate(table: Sequence[float], price: float) -> list[float]:
    """For each number of instances that there are: the most that it can become worth if each further one is paid for."""
    found = list(table)
    for count in reversed(range(len(table) - 1)):
        found[count] = max(table[count], found[count + 1] - price)
    return found
