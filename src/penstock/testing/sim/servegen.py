"""ServeGen's traces: rates and burstiness by client and window, from which requests are drawn.

A client's requests are a renewal process: gaps of mean 1 come from the window's Gamma or Weibull law, and pass as fast as the window's
rate says, so that each window has its rate, and burstiness goes on over its borders. Prompt and answer lengths are drawn from the
quantiles of the client's 6-hour window, independently of each other. A client without token figures draws from those of all others.
Source: alibaba/ServeGen (Xiang et al., 2025), condensed into two files, `…_arrivals.csv` and `…_tokens.csv` beside it.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from heapq import merge
from math import gamma
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

from penstock.kit.errors import InvalidInput, NotFound
from penstock.testing.sim.arrival import Arrival

T = TypeVar("T")
WINDOW_S = 600.0
TOKENS_WINDOW_S = 21600.0
SHARES = (0.0, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0)
KNOTS = ("p10", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "max")
ARRIVAL_FIELDS = ("client", "window_start_s", "rate_rps", "interarrival", "p1")


class Window(NamedTuple):
    """One client's 10 minutes: requests a second, and the law of its gaps."""

    start_s: float
    rate: float
    law: str
    shape: float


Lengths = tuple[tuple[float, ...], tuple[float, ...]]
"""Quantiles of prompts and of answers at SHARES."""


class ServeGen:
    """Reads both files at once: they are small, the requests that they stand for are not."""

    thins = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._windows: dict[int, list[Window]] = defaultdict(list)
        for number, row in _rows(path, ARRIVAL_FIELDS):
            window = _parsed(path, number, row, _window)
            self._windows[int(row["client"])].append(window)
        if not self._windows:
            raise InvalidInput(f"{path}:2: found no window, expected at least one")
        for windows in self._windows.values():
            windows.sort()
        self._lengths = _lengths(tokens_path(path))
        self.start_s = min(windows[0].start_s for windows in self._windows.values())
        self.end_s = max(windows[-1].start_s for windows in self._windows.values()) + WINDOW_S

    def arrivals(self, from_s: float, to_s: float, scale: float, seed: int) -> Iterator[Arrival]:
        """All clients together; the scale is on the rates, and leaves the burstiness as it is."""
        return merge(*(self._client(client, from_s, to_s, scale, seed) for client in sorted(self._windows)))

    def _client(self, client: int, from_s: float, to_s: float, scale: float, seed: int) -> Iterator[Arrival]:
        chance = Random(f"client {client} {seed}")  # noqa: S311  reproducible, not secret
        known = self._lengths.get(client)
        left = None
        for window in self._windows[client]:
            start_s, end_s = max(window.start_s, from_s), min(window.start_s + WINDOW_S, to_s)
            if start_s >= end_s:
                continue
            draw, rate, at = _gaps(window, chance), window.rate * scale, start_s
            # The first gap is cut at random: the process has been going on for long.
            left = draw() * chance.random() if left is None else left
            while at + left / rate < end_s:
                at += left / rate
                left = draw()
                yield Arrival(at, *self._tokens(at, known, chance))
            left -= (end_s - at) * rate

    def _tokens(self, at: float, known: dict[int, Lengths] | None, chance: Random) -> tuple[int, int]:
        if known is None:
            known = self._lengths[chance.choice(tuple(self._lengths))]
        slot = int(at // TOKENS_WINDOW_S)
        lengths = known.get(slot) or known[min(known, key=lambda other: (abs(other - slot), other))]
        return _drawn(lengths[0], chance.random()), _drawn(lengths[1], chance.random())


def tokens_path(path: Path) -> Path:
    """The file with the token lengths that belongs to an arrivals file. Raises NotFound."""
    beside = path.with_name(path.name.replace("arrivals", "tokens"))
    if beside == path or not beside.is_file():
        raise NotFound(
            f"{path}: found no file with token lengths beside it",
            hint="ServeGen traces are two files: NAME_arrivals.csv and NAME_tokens.csv",
        )
    return beside


def _gaps(window: Window, chance: Random) -> Callable[[], float]:
    """Draws gaps of mean 1."""
    shape = window.shape
    if window.law == "Gamma":
        return lambda: chance.gammavariate(shape, 1.0 / shape)
    scale = 1.0 / gamma(1.0 + 1.0 / shape)
    return lambda: chance.weibullvariate(scale, shape)


def _drawn(quantiles: tuple[float, ...], share: float) -> int:
    """Straight lines between the quantiles."""
    right = min(bisect_right(SHARES, share), len(SHARES) - 1)
    low, high = SHARES[right - 1], SHARES[right]
    part = (share - low) / (high - low)
    return max(1, round(quantiles[right - 1] + part * (quantiles[right] - quantiles[right - 1])))


def _lengths(path: Path) -> dict[int, dict[int, Lengths]]:
    fields = ("client", "window_start_s", *(f"{way}_{knot}" for way in ("in", "out") for knot in KNOTS))
    lengths: dict[int, dict[int, Lengths]] = defaultdict(dict)
    for number, row in _rows(path, fields):
        slot, found = _parsed(path, number, row, _quantiles)
        lengths[int(row["client"])][slot] = found
    if not lengths:
        raise InvalidInput(f"{path}:2: found no token lengths, expected at least one line")
    return dict(lengths)


def _quantiles(row: dict[str, str]) -> tuple[int, Lengths]:
    slot = int(float(row["window_start_s"]) // TOKENS_WINDOW_S)
    prompts, answers = (tuple(float(row[f"{way}_{knot}"]) for knot in KNOTS) for way in ("in", "out"))
    return slot, (prompts, answers)


def _window(row: dict[str, str]) -> Window:
    window = Window(
        float(row["window_start_s"]), float(row["rate_rps"]), row["interarrival"], float(row["p1"])
    )
    if window.law not in ("Gamma", "Weibull") or not window.rate > 0 or not window.shape > 0:
        raise ValueError("interarrival must be Gamma or Weibull, rate_rps and p1 more than 0")
    int(row["client"])
    return window


def _rows(path: Path, fields: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        missing = [field for field in fields if field not in (reader.fieldnames or ())]
        if missing:
            raise InvalidInput(
                f"{path}:1: found no column {missing[0]!r}, expected {', '.join(dict.fromkeys(fields))}"
            )
        for row in reader:
            yield reader.line_num, row


def _parsed(path: Path, number: int, row: dict[str, str], parse: Callable[[dict[str, str]], T]) -> T:
    try:
        return parse(row)
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"{path}:{number}: found {','.join(map(str, row.values()))[:80]!r}: {error}"
        ) from None
