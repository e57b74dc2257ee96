"""Which requests share a beginning: chained block hashes, a mirror of the block cache, and leader gating.

The library finds cached prefixes only when a request is added, and does not say how much it found. So requests that arrive
together with the same new prefix would each compute it: all but one are held until the first has done so (`LeaderGate`). And
what is cached is mirrored here (`BlockMirror`), from the same rules: blocks of 32 tokens, each hash chained on the one before.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import xxhash

from penstock.engine.frames import Add

BLOCK_TOKENS = 32


def block_hashes(tokens: Sequence[int]) -> list[int]:
    """A 64-bit hash per whole block of 32 tokens, chained on the block before."""
    hashes: list[int] = []
    parent = 0
    for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        parent = _block_hash(parent, tokens[start : start + BLOCK_TOKENS])
        hashes.append(parent)
    return hashes


def _block_hash(parent: int, tokens: Sequence[int]) -> int:
    return xxhash.xxh3_64_intdigest(msgspec.msgpack.encode([parent, list(tokens)]))


@dataclass(frozen=True, slots=True)
class Stored:
    """Blocks that became cached: their hashes, what they hang on, their tokens, and the LoRA adapter they are of."""

    hashes: tuple[int, ...]
    parent: int | None
    tokens: tuple[int, ...]
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Removed:
    """Blocks that were evicted."""

    hashes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cleared:
    """All blocks are gone."""


class BlockMirror:
    """What the library's prefix cache holds, by its own rules.

    A block is stamped when it is taken: first the pool's unused ones in their order, later by overwriting the idle block with the
    oldest stamp; and again when a prompt finds it idle. Within one prompt heads are stamped before tails. A last block that is
    not full takes room too: it stands here under a negative number, and nobody is told of it.
    """

    def __init__(self, blocks: int) -> None:
        """`blocks` is the size of the KV pool."""
        self._capacity = blocks
        self._stamps: dict[int, int] = {}
        self._used: dict[int, int] = {}
        self._expected: set[int] = set()
        self._clock = itertools.count()

    @property
    def blocks(self) -> frozenset[int]:
        """The whole blocks that are cached."""
        return frozenset(number for number in self._stamps if number >= 0)

    def cached_tokens(self, tokens: Sequence[int]) -> int:
        """How many leading tokens would be found; at least one token is always computed."""
        found = 0
        for number in block_hashes(tokens):
            if number not in self._stamps:
                break
            found += 1
        return min(found * BLOCK_TOKENS, len(tokens) - 1)

    def begin(self, tokens: Sequence[int]) -> tuple[list[Stored | Removed], list[int]]:
        """A request starts: its prompt's blocks are in use from now on. Returns events and what to give to `end`."""
        numbers = _with_tail(tokens)
        missing = {number for number in numbers if number not in self._stamps}
        self._expected |= missing
        self._take(numbers)
        stored = _stored(numbers, missing, tokens)
        return [*stored, *self._evict()], numbers

    def computed(self, held: Iterable[int]) -> None:
        """Its first token is there, so its prompt's blocks are."""
        self._expected.difference_update(held)

    def end(self, held: Sequence[int], tokens: Sequence[int]) -> list[Stored | Removed]:
        """It ended with `tokens` in all (prompt and answer): its blocks stay cached."""
        self.computed(held)
        numbers = _with_tail(tokens)
        missing = {number for number in numbers if number not in self._stamps}
        before, held = frozenset(held), list(held)
        grown = [number for number in numbers if number not in before]
        if grown and held[-1] < 0 and self._used[held[-1]] == 1:
            self._fill(held.pop(), grown[0])
        self._take(grown)
        stored, evicted = _stored(numbers, missing, tokens), self._evict()
        self._release([*held, *grown])
        return [*stored, *evicted, *self._evict()]

    def abandon(self, held: Sequence[int]) -> list[Stored | Removed]:
        """It ended before its first token: what nobody else computes is not cached after all."""
        self._release(held)
        gone = [number for number in held if number in self._expected and number not in self._used]
        return [*self._drop(gone), *self._evict()]

    def _take(self, numbers: Iterable[int]) -> None:
        """Use these blocks, found or new."""
        for number in numbers:
            if number not in self._stamps and len(self._stamps) < self._capacity:
                self._stamps[number] = len(self._stamps) - self._capacity
            elif number not in self._used:
                self._stamps[number] = next(self._clock)
            self._used[number] = self._used.get(number, 0) + 1

    def _fill(self, tail: int, number: int) -> None:
        """The answer went on in the prompt's last block, which so became `number`."""
        stamp = self._stamps.pop(tail)
        del self._used[tail]
        if number not in self._used:
            self._stamps[number] = stamp
            self._used[number] = 0

    def _release(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._used[number] -= 1
            if not self._used[number]:
                del self._used[number]

    def _evict(self) -> list[Removed]:
        surplus = len(self._stamps) - self._capacity
        if surplus <= 0:
            return []
        idle = (number for number in self._stamps if number not in self._used)
        return self._drop(heapq.nsmallest(surplus, idle, key=self._stamps.__getitem__))

    def _drop(self, numbers: Sequence[int]) -> list[Removed]:
        self._expected.difference_update(numbers)
        for number in numbers:
            del self._stamps[number]
        whole = tuple(number for number in numbers if number >= 0)
        return [Removed(whole)] if whole else []


def _with_tail(tokens: Sequence[int]) -> list[int]:
    """The blocks of a sequence; a last one that is not full has a negative number."""
    numbers = block_hashes(tokens)
    rest = list(tokens[len(numbers) * BLOCK_TOKENS :])
    if rest:
        numbers.append(-1 - _block_hash(numbers[-1] if numbers else 0, rest))
    return numbers


def _stored(numbers: Sequence[int], missing: Container[int], tokens: Sequence[int]) -> list[Stored]:
    """One event for each run of whole blocks that were missing."""
    events: list[Stored] = []
    for new, run in itertools.groupby(
        range(len(numbers)), lambda i: numbers[i] >= 0 and numbers[i] in missing
    ):
        if new:
            places = list(run)
            first, end = places[0], places[-1] + 1
            span = tuple(tokens[first * BLOCK_TOKENS : end * BLOCK_TOKENS])
            events.append(Stored(tuple(numbers[first:end]), numbers[first - 1] if first else None, span))
    return events


class LeaderGate:
    """Holds requests whose next block is being computed by another."""

    def __init__(self, blocks: int) -> None:
        """Of `blocks`, the size of the KV pool, it is remembered that they were computed; the oldest may be gone from it."""
        self._remembered = blocks
        self._leaders: dict[int, int] = {}
        self._led: dict[int, list[int]] = {}
        self._known: OrderedDict[int, None] = OrderedDict()
        self._held: OrderedDict[int, tuple[Add, list[int]]] = OrderedDict()

    def admit(self, message: Add) -> bool:
        """Whether the request may start; if so it leads the blocks that are not known yet, else it is held."""
        hashes = block_hashes(message.tokens)
        if self._leads(message.id, hashes):
            return True
        self._held[message.id] = (message, hashes)
        return False

    def _leads(self, number: int, hashes: Sequence[int]) -> bool:
        new = [h for h in hashes if h not in self._known]
        if new and self._leaders.get(new[0], number) != number:
            return False
        mine = [h for h in new if h not in self._leaders]
        self._leaders.update(dict.fromkeys(mine, number))
        self._led[number] = mine
        return True

    def computed(self, number: int) -> None:
        """The request has its first token: its prompt is computed, and cached."""
        for block in self._led.pop(number, ()):
            self._leaders.pop(block, None)
            self._known[block] = None
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)

    def forget(self, number: int) -> None:
        """It ended or was cancelled, perhaps before its prompt was computed."""
        self._held.pop(number, None)
        for block in self._led.pop(number, ()):
            self._leaders.pop(block, None)

    def released(self) -> list[Add]:
        """Those that may start now, in order of arrival."""
        free = []
        for number, (message, hashes) in tuple(self._held.items()):
            if self._leads(number, hashes):
                del self._held[number]
                free.append(message)
        return free
