"""Which requests share a beginning: chained block hashes, a mirror of the block cache, and leader gating.

The library finds cached prefixes only when a request is added, and does not say how much it found. So requests that arrive
together with the same new prefix would each compute it: all but one are held until the first has done so (`LeaderGate`). And
what is cached is mirrored here (`BlockMirror`), from the same rules: whole blocks, each hash chained on the one before, least
recently used blocks go first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
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
        block = msgspec.msgpack.encode([parent, list(tokens[start : start + BLOCK_TOKENS])])
        parent = xxhash.xxh3_64_intdigest(block)
        hashes.append(parent)
    return hashes


@dataclass(frozen=True, slots=True)
class Stored:
    """Blocks that became cached: their hashes, what they hang on, and their tokens."""

    hashes: tuple[int, ...]
    parent: int | None
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """Blocks that were evicted."""

    hashes: tuple[int, ...]


class BlockMirror:
    """What the library's prefix cache holds. Blocks in use are not evicted; finished ones stay, least recently used out."""

    def __init__(self, blocks: int) -> None:
        """`blocks` is the size of the KV pool."""
        self._capacity = blocks
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._used: dict[int, int] = {}
        self._expected: set[int] = set()

    def cached_tokens(self, tokens: Sequence[int]) -> int:
        """How many leading tokens would be found; at least one token is always computed."""
        found = 0
        for number in block_hashes(tokens):
            if number not in self._cached:
                break
            found += 1
        return min(found * BLOCK_TOKENS, len(tokens) - 1)

    def begin(self, tokens: Sequence[int]) -> tuple[list[Stored | Removed], list[int]]:
        """A request starts: its prompt's blocks are in use from now on. Returns events and the hashes to give to `end`."""
        hashes = block_hashes(tokens)
        self._expected.update(number for number in hashes if number not in self._cached)
        for number in hashes:
            self._used[number] = self._used.get(number, 0) + 1
        return self._store(hashes, tokens), hashes

    def computed(self, held: Iterable[int]) -> None:
        """Its first token is there, so its prompt's blocks are."""
        self._expected.difference_update(held)

    def end(self, held: Sequence[int], tokens: Sequence[int]) -> list[Stored | Removed]:
        """It ended with `tokens` in all (prompt and answer): whole blocks stay cached."""
        self._release(held)
        return self._store(block_hashes(tokens), tokens)

    def abandon(self, held: Sequence[int]) -> list[Stored | Removed]:
        """It ended before its first token: what nobody else computes is not cached after all."""
        self._release(held)
        gone = tuple(number for number in held if number in self._expected and number not in self._used)
        self._expected.difference_update(gone)
        for number in gone:
            del self._cached[number]
        return [Removed(gone)] if gone else []

    def _release(self, held: Iterable[int]) -> None:
        for number in held:
            left = self._used[number] - 1
            if left:
                self._used[number] = left
            else:
                del self._used[number]

    def _store(self, hashes: list[int], tokens: Sequence[int]) -> list[Stored | Removed]:
        events: list[Stored | Removed] = []
        fresh = [i for i, number in enumerate(hashes) if number not in self._cached]
        if fresh:
            first = fresh[0]
            self._cached.update(dict.fromkeys(hashes[first:]))
            span = tuple(tokens[first * BLOCK_TOKENS : len(hashes) * BLOCK_TOKENS])
            events.append(Stored(tuple(hashes[first:]), hashes[first - 1] if first else None, span))
        for number in reversed(hashes):  # heads are touched last, so that shared beginnings live longest
            self._cached.move_to_end(number)
        removed = self._evict()
        return [*events, Removed(removed)] if removed else events

    def _evict(self) -> tuple[int, ...]:
        surplus = len(self._cached) - self._capacity
        if surplus <= 0:
            return ()
        idle = [number for number in self._cached if number not in self._used][:surplus]
        for number in idle:
            del self._cached[number]
        return tuple(idle)


class LeaderGate:
    """Holds requests whose next block is being computed by another."""

    def __init__(self) -> None:
        """Nothing is under way."""
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
        while len(self._known) > MAX_KNOWN:
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


MAX_KNOWN = 65_536
"""Blocks whose computation is remembered; forgetting one costs only a moment's wait."""
