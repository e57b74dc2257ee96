"""Readers of traces that list each request: Azure's CSV and Mooncake's JSONL. ServeGen's, which lists rates, is a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from penstock.kit.errors import InvalidInput
from penstock.testing.sim.arrival import Arrival, Reader
from penstock.testing.sim.servegen import ServeGen

AZURE_HEADER = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
TAIL_BYTES = 1 << 20


class Listed:
    """A file with one request a line, by time. A subclass says how a line reads; its `header` lines are skipped."""

    thins = False
    header = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        first = next(self._parsed(), None)
        if first is None:
            raise InvalidInput(f"{path}:{self.header + 1}: found no request, expected at least one")
        self.start_s = first.at
        last = self._last_line()
        self.end_s = max(self.parse(last[1], last[0]).at, self.start_s) + 1.0

    def parse(self, line: str, number: int) -> Arrival:
        """One line. Raises InvalidInput."""
        raise NotImplementedError

    def arrivals(self, from_s: float, to_s: float, scale: float, seed: int) -> Iterator[Arrival]:
        """As the file has them; scale and seed are the caller's business."""
        for arrival in self._parsed():
            if arrival.at >= to_s:
                return
            if arrival.at >= from_s:
                yield arrival

    def _parsed(self) -> Iterator[Arrival]:
        latest = float("-inf")
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if number <= self.header or not line.strip():
                    continue
                arrival = self.parse(line, number)
                if arrival.at < latest:
                    raise self.wrong(number, "a time before the line above it", "lines in order of time")
                latest = arrival.at
                yield arrival

    def _last_line(self) -> tuple[int, str]:
        """Its number is unknown without reading the file, and given as 0."""
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - TAIL_BYTES))
            lines = [line for line in file.read().decode(errors="replace").split("\n") if line.strip()]
        return 0, lines[-1]

    def wrong(self, number: int, found: str, expected: str) -> InvalidInput:
        """The error for one line."""
        where = f"{self.path}:{number}" if number else f"{self.path}: last line"
        return InvalidInput(f"{where}: found {found}, expected {expected}")

    def arrival(self, at: float, prompt: int, output: int, number: int) -> Arrival:
        """Checked; what has no tokens counts as having one."""
        if prompt < 0 or output < 0:
            raise self.wrong(number, f"{prompt} and {output} tokens", "0 or more")
        return Arrival(at, max(1, prompt), max(1, output))


class Azure(Listed):
    """TIMESTAMP (UTC), ContextTokens, GeneratedTokens. Source: Azure/AzurePublicDataset."""

    header = 1

    def parse(self, line: str, number: int) -> Arrival:
        """Fractions of a second may have seven digits."""
        parts = line.strip().split(",")
        try:
            at, prompt, output = datetime.fromisoformat(parts[0]), int(parts[1]), int(parts[2])
        except (ValueError, IndexError):
            raise self.wrong(
                number, repr(line.strip()[:80]), "TIMESTAMP,ContextTokens,GeneratedTokens"
            ) from None
        at_s = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        return self.arrival(at_s, prompt, output, number)


class MooncakeLine(msgspec.Struct):
    """`timestamp` is in milliseconds; which blocks repeat is not read: engines here have no prefix cache."""

    timestamp: float
    input_length: int
    output_length: int


class Mooncake(Listed):
    """One JSON object a line. Source: kvcache-ai/Mooncake."""

    def __init__(self, path: Path) -> None:
        self._decoder = msgspec.json.Decoder(MooncakeLine)
        super().__init__(path)

    def parse(self, line: str, number: int) -> Arrival:
        """Fields that are not read may be there."""
        try:
            got = self._decoder.decode(line)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise self.wrong(
                number, f"{line.strip()[:60]!r} ({error})", "timestamp, input_length, output_length"
            ) from None
        return self.arrival(got.timestamp / 1000.0, got.input_length, got.output_length, number)


READERS: tuple[tuple[Callable[[str], bool], Callable[[Path], Reader]], ...] = (
    (lambda first: first.lstrip("\ufeff").strip().split(",")[:3] == list(AZURE_HEADER), Azure),
    (lambda first: first.startswith("{"), Mooncake),
    (lambda first: first.startswith("client,window_start_s,"), ServeGen),
)
