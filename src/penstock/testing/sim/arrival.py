"""What every reader of traces gives: arrivals by time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Arrival(NamedTuple):
    """One line of a trace; seconds, tokens."""

    at: float
    prompt_tokens: int
    output_tokens: int


class Reader(Protocol):
    """One file. `thins`: it obeys the rate's scale by itself."""

    start_s: float
    end_s: float
    thins: bool

    def arrivals(self, from_s: float, to_s: float, scale: float, seed: int) -> Iterator[Arrival]:
        """Those in [from_s, to_s), by time."""
        ...
