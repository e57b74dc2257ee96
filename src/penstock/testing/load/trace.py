"""A trace as a workload: its own times and lengths, and texts that share prefixes where the trace says which blocks were shared."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from pathlib import Path
from random import Random

import msgspec

from penstock.kit.durations import parse_go_duration_s
from penstock.kit.errors import InvalidInput
from penstock.testing.load.conversation import Conversation, Turn
from penstock.testing.load.text import Piece
from penstock.testing.sim.arrival import Arrival
from penstock.testing.sim.readers import Mooncake
from penstock.testing.sim.trace import Cut, open_reader

BLOCK_TOKENS = 512.0
"""Of Mooncake's hash_ids; a block's id stands for all that comes before it, too."""


class Blocks(msgspec.Struct):
    """What else a line says: equal ids, equal text. `block_tokens` is in recordings of one's own traffic, whose ids are of whole blocks."""

    hash_ids: tuple[int, ...] = ()
    block_tokens: float = BLOCK_TOKENS


class TraceLoad:
    """One file in any format that `penstock simulate` reads. Raises NotFound and InvalidInput."""

    timed = True

    def __init__(self, path: Path, cut: Cut) -> None:
        """`cut.scale` may leave requests out, but not add any: copies of a prompt would find each other in caches."""
        self.name = path.stem
        self._path, self._cut = path, cut
        self._reader = open_reader(path)
        if cut.scale > 1.0 and not self._reader.thins:
            raise InvalidInput(
                f"scale: found {cut.scale:g}, expected at most 1 for a trace that lists requests",
                hint="speed=2 plays the trace faster",
            )

    def conversations(self, seed: int) -> Iterator[Conversation]:
        """By time."""
        cut, start_s = self._cut, self._reader.start_s + self._cut.from_s
        end_s = inf if cut.to_s is None else self._reader.start_s + cut.to_s
        chance = Random(f"scale {seed}")  # noqa: S311  reproducible, not secret
        share = 1.0 if self._reader.thins else cut.scale
        for number, (arrival, blocks) in enumerate(self._lines(start_s, end_s, seed)):
            if share == 1.0 or chance.random() < share:
                said = Turn(pieces(arrival, blocks, f"{seed} {number}"), arrival.output_tokens)
                yield Conversation((said,), (), (arrival.at - start_s) / cut.speed)

    def _lines(self, start_s: float, end_s: float, seed: int) -> Iterator[tuple[Arrival, Blocks]]:
        """Each with the blocks of its prompt, where they are known."""
        if not isinstance(self._reader, Mooncake):
            to_s = min(end_s, self._reader.end_s)
            return ((one, Blocks()) for one in self._reader.arrivals(start_s, to_s, self._cut.scale, seed))
        every = zip(self._reader.arrivals(-inf, inf, 1.0, seed), self._blocks(), strict=False)
        return ((one, blocks) for one, blocks in every if start_s <= one.at < end_s)

    def _blocks(self) -> Iterator[Blocks]:
        """One entry per line that the reader gives."""
        decoder = msgspec.json.Decoder(Blocks)
        with self._path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield decoder.decode(line)
                    except msgspec.ValidationError as error:
                        raise InvalidInput(f"{self._path}:{number}: {error}") from None


def trace_of(text: str) -> TraceLoad:
    """Of `FILE,from=1h30m,to=2h,speed=2,scale=0.1`, all but the file optional. Raises NotFound and InvalidInput."""
    path, *parts = text.split(",")
    settings = dict(part.partition("=")[::2] for part in parts)
    if unknown := set(settings) - {"from", "to", "speed", "scale"}:
        raise InvalidInput(f"--workload trace: found {min(unknown)!r}, expected from, to, speed or scale")
    try:
        from_s, to_s = (parse_go_duration_s(settings.get(key, "0")) for key in ("from", "to"))
        speed, scale = (float(settings.get(key, 1.0)) for key in ("speed", "scale"))
    except (InvalidInput, ValueError) as error:
        raise InvalidInput(f"--workload trace: {error}") from None
    return TraceLoad(Path(path), Cut(from_s, to_s or None, scale, speed))


def pieces(arrival: Arrival, blocks: Blocks, own: str) -> tuple[Piece, ...]:
    """The prompt's text: its blocks by their ids, what is left by the id of a last block that is not whole, or all its own."""
    size = max(1, round(blocks.block_tokens))
    whole = min(len(blocks.hash_ids), arrival.prompt_tokens // size)
    found = [Piece(f"block {block}", size) for block in blocks.hash_ids[:whole]]
    if rest := arrival.prompt_tokens - size * whole:
        last = blocks.hash_ids[whole : whole + 1]
        found.append(Piece(f"block {last[0]}" if last else f"own {own}", rest))
    return tuple(found)
