"""Mooncake's traces, whose prompts are lists of hashed blocks: real prefixes at real times (FAST'25, `conversation` and `synthetic`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec

from penstock.testing.routing.ask import Ask, chained

BLOCK_TOKENS = 512
COPY_IDS = 1 << 22
"""More than a trace has; copies share no block."""
COPY_SPREAD_S = 5.0
MOST_GAP_MS = 3000.0


class Line(msgspec.Struct, frozen=True):
    """One request; `timestamp` is in ms."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int]


class Recorded(NamedTuple):
    """A trace in memory."""

    name: str
    lines: tuple[Line, ...]


def read_trace(path: Path) -> Recorded:
    """Raises msgspec.DecodeError for a file that is none."""
    with path.open("rb") as file:
        return Recorded(path.stem, tuple(msgspec.json.decode(line, type=Line) for line in file))


def shared_moments(lines: Sequence[Line]) -> dict[float, float]:
    """Moments at which several requests were recorded, with the time to the next moment, at most `MOST_GAP_MS`."""
    counts = Counter(line.timestamp for line in lines)
    moments = sorted(counts)
    following = [*moments[1:], moments[-1] + MOST_GAP_MS] if moments else []
    return {
        at: min(then - at, MOST_GAP_MS) for at, then in zip(moments, following, strict=True) if counts[at] > 1
    }


class Replay:
    """The first `until_s` of a trace at `speed`, as `copies` of it whose prompts differ; each request of a copy up to 5 s later.

    Each request is kept with probability `kept`, so that seeds differ. Requests that were recorded at one moment are spread over the time to the
    next: the conversation trace has its times rounded to 3 s. Answers' blocks are not known. The first `warming_s` of the trace warm up.
    """

    def __init__(
        self,
        trace: Recorded,
        *,
        until_s: float,
        speed: float,
        copies: int,
        kept: float,
        seed: int,
        warming_s: float = 0.0,
    ) -> None:
        self.name = trace.name
        self._warming_s = warming_s / speed
        self._trace, self._until_ms, self._speed = trace, until_s * 1000.0, speed
        self._copies, self._kept = copies, kept
        self._chance = Random(f"mooncake {seed}")  # noqa: S311  reproducible, not secret

    def arrivals(self) -> Iterator[Ask]:
        """In order of time."""
        chance, drawn = self._chance, []
        gaps = shared_moments(self._trace.lines)
        for place, line in enumerate(self._trace.lines):
            if line.timestamp >= self._until_ms:
                break
            for copy in range(self._copies):
                if chance.random() < self._kept:
                    late_s = chance.random() * COPY_SPREAD_S if copy else 0.0
                    late_s += chance.random() * gaps.get(line.timestamp, 0.0) / 1000.0
                    drawn.append(((line.timestamp / 1000.0 + late_s) / self._speed, copy, place))
        for at, copy, place in sorted(drawn):
            yield self._ask(at, copy, self._trace.lines[place])

    def after(self, ask: Ask, now: float) -> Ask | None:
        """Nobody waits for an answer."""
        return None

    def _ask(self, at: float, copy: int, line: Line) -> Ask:
        ids = [copy * COPY_IDS + number for number in line.hash_ids[: line.input_length // BLOCK_TOKENS]]
        hashes = chained(ids, BLOCK_TOKENS)
        answer = max(line.output_length, 1)
        return Ask(at, line.input_length, answer, ids, hashes, warms=at < self._warming_s)
