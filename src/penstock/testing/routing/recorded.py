"""A trace whose lines say which beginnings of prompts were shared, with sessions where it tells them: recorded by `penstock simulate --record`, or Mooncake's.

A block's id stands for all that comes before it, too. Blocks are of the size that most lines say; of lines with another size
only the lengths count. What answers put into caches is not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from penstock.kit.errors import InvalidInput, NotFound
from penstock.testing.routing.ask import Ask, chained

MOONCAKE_BLOCK_TOKENS = 512


class Line(msgspec.Struct, frozen=True):
    """One request; `timestamp` and `ttft_ms` are in milliseconds. Columns that Mooncake does not have are as `gateway.recording` has them."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...] = ()
    block_tokens: float = MOONCAKE_BLOCK_TOKENS
    session: int = 0
    model: str = ""
    profile: str = ""
    endpoint: str = ""
    cached: int = -1
    ttft_ms: float = 0.0


class Recorded(NamedTuple):
    """Its lines in order of time, and the size of most of its blocks."""

    name: str
    lines: tuple[Line, ...]
    block_tokens: int

    @property
    def endpoints(self) -> int:
        """How many endpoints answered; 0 where it does not say."""
        return len({line.endpoint for line in self.lines if line.endpoint})

    @property
    def hit_share(self) -> float:
        """Of the prompt tokens whose engines told what was cached, the share that was; -1 where none did."""
        told = [line for line in self.lines if line.cached >= 0]
        prompts = sum(line.input_length for line in told)
        return sum(line.cached for line in told) / prompts if prompts else -1.0


def read_recorded(path: Path, model: str = "") -> Recorded:
    """The lines of one model, `namespace/name`; "" if there is but one. Raises NotFound and InvalidInput."""
    if not path.is_file():
        raise NotFound(f"trace: found no file {path}")
    lines = tuple(sorted(_lines(path), key=lambda line: line.timestamp))
    models = sorted({line.model for line in lines})
    if not model and len(models) > 1:
        raise InvalidInput(
            f"{path}: found {len(models)} models, expected --model with one of them",
            hint=f"they are {', '.join(models[:10])}",
        )
    kept = tuple(line for line in lines if not model or line.model == model)
    if not kept:
        raise InvalidInput(
            f"{path}: found no request{f' of {model}' if model else ''}, expected at least one"
        )
    sizes = Counter(round(line.block_tokens) for line in kept if line.hash_ids)
    return Recorded(path.stem, kept, max(1, sizes.most_common(1)[0][0]) if sizes else MOONCAKE_BLOCK_TOKENS)


def _lines(path: Path) -> Iterator[Line]:
    decode = msgspec.json.Decoder(Line).decode
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if text.strip():
                try:
                    yield decode(text)
                except msgspec.DecodeError as error:
                    raise InvalidInput(
                        f"{path}:{number}: found {text[:60].decode(errors='replace')!r} ({error}), expected "
                        "timestamp, input_length, output_length, hash_ids"
                    ) from None


class Replayed:
    """A recording at `speed`, between two seconds of it, as it came: clients do not wait for answers."""

    def __init__(
        self, recorded: Recorded, *, speed: float = 1.0, from_s: float = 0.0, to_s: float = float("inf")
    ) -> None:
        """Raises InvalidInput if nothing is left."""
        self.name = recorded.name
        began_ms = recorded.lines[0].timestamp
        self._lines = [
            line for line in recorded.lines if 1000.0 * from_s <= line.timestamp - began_ms < 1000.0 * to_s
        ]
        if not self._lines:
            span_s = (recorded.lines[-1].timestamp - began_ms) / 1000.0
            raise InvalidInput(f"--from, --to: found no request there, the trace takes {span_s:.1f} s")
        self._speed, self._size = speed, recorded.block_tokens

    def __len__(self) -> int:
        """Requests."""
        return len(self._lines)

    def arrivals(self) -> Iterator[Ask]:
        """In order of time."""
        began_ms = self._lines[0].timestamp
        for line in self._lines:
            yield self._ask(line, (line.timestamp - began_ms) / 1000.0 / self._speed)

    def after(self, ask: Ask, now: float) -> Ask | None:
        """Nobody waits for an answer."""
        return None

    def _ask(self, line: Line, at: float) -> Ask:
        size, length = self._size, max(line.input_length, 1)
        ids = line.hash_ids if round(line.block_tokens) == size else ()
        ids = ids[: length // size]
        session = f"session-{line.session}" if line.session else ""
        return Ask(at, length, max(line.output_length, 1), ids, chained(ids, size), session=session)
