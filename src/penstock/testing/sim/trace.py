"""Requests of a trace, in order of arrival, from a file in any known format; cut, thinned and sped up as asked.

A reader is one class: it knows when its trace begins and ends, and streams what lies between. Nothing is held but what is needed to keep
the order. The same file, cut and seed give the same requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate
from pathlib import Path
from random import Random

from penstock.kit.errors import InvalidInput, NotFound
from penstock.testing.sim.arrival import Arrival, Reader
from penstock.testing.sim.engine import Request
from penstock.testing.sim.readers import READERS

POPULARITY = 1.25
"""Zipf's exponent by which services share a trace: near GenTD26's base models (the first of 78 has 31 %, ten have 85 % of the requests)."""
COPY_SPREAD_S = 1.0


@dataclass(frozen=True, slots=True)
class Cut:
    """`from_s` and `to_s` count from the trace's beginning. `scale` multiplies the rate: below 1 requests are left out by chance, above
    1 they come in copies within a second. `speed` divides the gaps: 2 plays the trace in half its time.
    """

    from_s: float = 0.0
    to_s: float | None = None
    scale: float = 1.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        for name in ("scale", "speed"):
            value = getattr(self, name)
            if not 0.0 < value < float("inf"):
                raise InvalidInput(f"--{name}: found {value:g}, expected more than 0")


class Trace:
    """`start_s` and `end_s` are in virtual time: the trace's own, but for the speed. Iterate as often as you like."""

    def __init__(self, path: Path, cut: Cut, seed: int, services: int = 1) -> None:
        self.name = path.stem
        self._cut, self._seed, self._services = cut, seed, services
        self._reader = open_reader(path)
        whole_s = self._reader.end_s - self._reader.start_s
        self._from_s = self._reader.start_s + cut.from_s
        self._to_s = self._reader.end_s if cut.to_s is None else self._reader.start_s + cut.to_s
        self._to_s = min(self._to_s, self._reader.end_s)
        if not self._from_s < self._to_s:
            asked = f"{cut.from_s:g} s to {'its end' if cut.to_s is None else f'{cut.to_s:g} s'}"
            raise InvalidInput(f"{path}: --from, --to: found {asked}, but the trace takes {whole_s:.1f} s")
        self.start_s = self._from_s
        self.end_s = self._from_s + (self._to_s - self._from_s) / cut.speed

    def __iter__(self) -> Iterator[Request]:
        chance = Random(f"services {self._seed}")  # noqa: S311  reproducible, not secret
        bounds = list(accumulate(1.0 / rank**POPULARITY for rank in range(1, self._services + 1)))
        services = range(self._services)
        start_s, speed, one = self.start_s, self._cut.speed, self._services == 1
        for arrival in self._arrivals():
            service = 0 if one else chance.choices(services, cum_weights=bounds)[0]
            yield Request(
                start_s + (arrival.at - start_s) / speed,
                arrival.prompt_tokens,
                arrival.output_tokens,
                service,
            )

    def _arrivals(self) -> Iterator[Arrival]:
        arrivals = self._reader.arrivals(self._from_s, self._to_s, self._cut.scale, self._seed)
        scale = 1.0 if self._reader.thins else self._cut.scale
        if scale == 1.0:
            return arrivals
        chance = Random(f"scale {self._seed}")  # noqa: S311
        return (
            thinned(arrivals, scale, chance) if scale < 1.0 else copied(arrivals, scale, chance, self._to_s)
        )


def thinned(arrivals: Iterator[Arrival], share: float, chance: Random) -> Iterator[Arrival]:
    """Each is kept with this probability."""
    return (arrival for arrival in arrivals if chance.random() < share)


def copied(arrivals: Iterator[Arrival], scale: float, chance: Random, to_s: float) -> Iterator[Arrival]:
    """Each comes `scale` times on average: once as it is, and again within a second, as far as the trace goes."""
    waiting: list[Arrival] = []
    for arrival in arrivals:
        while waiting and waiting[0].at <= arrival.at:
            yield heappop(waiting)
        yield arrival
        extra = int(scale) - 1 + (chance.random() < scale % 1)
        for _ in range(extra):
            copy = arrival._replace(at=arrival.at + COPY_SPREAD_S * chance.random())
            if copy.at < to_s:
                heappush(waiting, copy)
    while waiting:
        yield heappop(waiting)


def open_reader(path: Path) -> Reader:
    """The format is known by the first line. Raises NotFound and InvalidInput."""
    if not path.is_file():
        raise NotFound(f"trace: found no file {path}")
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline()
    except OSError as error:
        raise InvalidInput(f"trace: cannot read {path}: {error.strerror}") from None
    for reads, reader in READERS:
        if reads(first):
            return reader(path)
    raise InvalidInput(
        f"{path}:1: found {first.strip()[:60]!r}, expected an Azure CSV (TIMESTAMP,ContextTokens,GeneratedTokens), "
        "a Mooncake JSONL (timestamp, input_length, output_length), or ServeGen arrivals (client,window_start_s,rate_rps,…)"
    )
