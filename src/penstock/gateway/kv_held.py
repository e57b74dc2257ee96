"""What one endpoint is taken to hold, in the order in which it is given up: least recently used first, tails before heads.

What was used together is one *run*. A block knows the run that used it last, so using it again is one store and no removal; a run forgets
blocks that later runs took over once they are the greater part of it. So each block costs one entry of a dict and at most 16 bytes of runs,
and nothing here is looked at by the garbage collector, which would otherwise stop the gateway to count millions of blocks.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

PARTS = 128
"""Blocks are kept in so many dicts, by the lowest bits of their hashes: one of a million would stop the gateway for a tenth of a second when it
grows."""
LOW_BITS = PARTS - 1

PART_BLOCKS = 4096
"""For so many of its capacity, `Held` has one dict: the fewer there are, the sooner each is found in the processor's caches."""

GIVEN_UP_BLOCKS = 2048
"""At once, of those for which there is no room any more: about a millisecond. A cache may say that it is much smaller than it was."""

JOINED_BLOCKS = 256
"""Up to which length runs take in further chains; an engine that answers tells of one block at a time."""


class Run(Struct, gc=False):
    """Blocks used together, tail first. `live` of them were not used since."""

    hashes: array[int]
    live: int


class Held:
    """At most `capacity` blocks; for as long as it takes to give them up, those that a greater one had.

    A prompt's blocks are used from tail to head, so that of any chain the tail is given up first and heads, which prompts share, live
    longest: as engines free them (vLLM frees a finished request's blocks tail first).
    """

    __slots__ = ("_count", "_last", "_low_bits", "_oldest", "_parts", "_runs", "capacity")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._parts: list[dict[int, int]] = []
        self._low_bits = 0
        self._part()
        self._runs: dict[int, Run] = {}
        self._oldest = self._last = self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        return key in self._parts[key & self._low_bits]

    def leading(self, hashes: Sequence[int]) -> int:
        """How many of these are held from the start."""
        parts, low_bits = self._parts, self._low_bits
        for place, key in enumerate(hashes):
            if key not in parts[key & low_bits]:
                return place
        return len(hashes)

    def use(self, hashes: Sequence[int]) -> tuple[list[int], list[int]]:
        """Use a chain, given from head to tail. Returns what is held now and was not, and what was given up for it.

        Of a chain that is longer than all there is room for, the head is kept.
        """
        used = dict.fromkeys(reversed(hashes[: self.capacity]))
        if not used:
            return [], []
        parts, low_bits = self._parts, self._low_bits
        before = [parts[key & low_bits].get(key) for key in used]
        serial = self._run_for(len(used), before)
        run = self._runs[serial]
        run.hashes.extend(used)
        run.live += len(used)
        for key in used:
            parts[key & low_bits][key] = serial
        if before.count(None) == len(before):
            fresh = list(used)
        else:
            fresh = [key for key, old in zip(used, before, strict=True) if old is None]
            for old, count in Counter(before).items():
                if old is not None:
                    self._shrink(old, count)
        self._count += len(fresh)
        return fresh, self._fit(len(used))

    def drop(self, hashes: Iterable[int]) -> list[int]:
        """Those of these that were held, and are no more."""
        gone = []
        parts, low_bits = self._parts, self._low_bits
        for key in hashes:
            run = parts[key & low_bits].pop(key, None)
            if run is not None:
                gone.append(key)
                self._shrink(run, 1)
        if gone:
            self._count -= len(gone)
            self._last += 1  # a run that lost some takes in no more: they would stand in it twice
        return gone

    def resize(self, capacity: int) -> list[int]:
        """What was given up for it."""
        self.capacity = capacity
        gone = self._fit(0)
        if self._count <= GIVEN_UP_BLOCKS:
            self._part()
        return gone

    def drain(self, limit: int) -> list[int]:
        """Give up at most `limit` blocks, in order."""
        return self._give_up(min(limit, self._count))

    def __iter__(self) -> Iterator[int]:
        """All, in the order in which they are given up."""
        for serial, run in self._runs.items():
            yield from self._live(serial, run)

    def _part(self) -> None:
        """Into as many dicts as `capacity` needs, a power of two; while much is held, that would take too long."""
        count = min(1 << (self.capacity // PART_BLOCKS).bit_length(), PARTS)
        if count == len(self._parts):
            return
        before, self._low_bits = self._parts, count - 1
        self._parts = [{} for _ in range(count)]
        for part in before:
            for key, run in part.items():
                self._parts[key & self._low_bits][key] = run

    def _run_for(self, count: int, runs: Sequence[int | None]) -> int:
        """Short chains join the run before them, unless it is theirs already: where they stand in it would be twice."""
        last = self._runs.get(self._last)
        if last is None or len(last.hashes) + count > JOINED_BLOCKS or self._last in runs:
            self._last += 1
            self._runs[self._last] = Run(array("Q"), 0)
        return self._last

    def _fit(self, more: int) -> list[int]:
        return self._give_up(min(self._count - self.capacity, GIVEN_UP_BLOCKS + more))

    def _give_up(self, count: int) -> list[int]:
        gone: list[int] = []
        parts, low_bits, runs = self._parts, self._low_bits, self._runs
        while len(gone) < count:
            while self._oldest not in runs:
                self._oldest += 1
            serial, run, seen = self._oldest, runs[self._oldest], 0
            for key in run.hashes:
                if len(gone) == count:
                    break
                seen += 1
                part = parts[key & low_bits]
                if part.get(key) == serial:
                    del part[key]
                    run.live -= 1
                    gone.append(key)
            if run.live:
                del run.hashes[:seen]
            else:
                del runs[serial]
        self._count -= len(gone)
        return gone

    def _shrink(self, serial: int, count: int) -> None:
        run = self._runs[serial]
        run.live -= count
        if not run.live:
            del self._runs[serial]
        elif run.live * 2 < len(run.hashes):
            run.hashes = array("Q", self._live(serial, run))

    def _live(self, serial: int, run: Run) -> list[int]:
        parts, low_bits = self._parts, self._low_bits
        return [key for key in run.hashes if parts[key & low_bits].get(key) == serial]
