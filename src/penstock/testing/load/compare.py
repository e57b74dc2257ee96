"""One target against another: ratios with the interval in which they lie in 95 of 100 such runs, by bootstrap.

Repeats are drawn anew with replacement, and of each the tenths of its time, both targets' at once: neighbours in time are alike, and so
are the runs of one repeat, so single requests would promise too much (Efron and Tibshirani 1993, 8.6; Davison and Hinkley 1997, 3.8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from msgspec import Struct

from penstock.testing.load.outcome import Outcome
from penstock.testing.load.player import Recording
from penstock.testing.load.summary import Objective, counted
from penstock.testing.sim.report import ranked

MIN_DRAWS, MAX_DRAWS = 200, 1000
MAX_VALUES = 5_000_000
"""That are drawn for one figure; more of them, fewer draws."""
PARTS = 10
ENOUGH_PAIRS = 5
"""Below so many repeats chance between runs is hardly seen, and intervals are too narrow."""


class Ratio(Struct, frozen=True):
    """What the first target has for each one of the target `against`. `low` and `high` bound the 95 % interval."""

    against: str
    figure: str
    ratio: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether the interval leaves 1 out."""
        return self.low > 1.0 or self.high < 1.0


class Part(NamedTuple):
    """A tenth of one run's time: sorted times of the answers to what was due in it, and what ended in it, by the second."""

    ttft_s: list[float]
    e2e_s: list[float]
    itl_s: list[float]
    tokens_per_s: float
    good_per_s: float


Pairs = Sequence[Sequence[tuple[Part, Part]]]
Figure = Callable[[Sequence[Part]], float]


def _of_times(name: str, share: float) -> Figure:
    def figure(parts: Sequence[Part]) -> float:
        times = [time for part in parts for time in getattr(part, name)]
        times.sort()
        return ranked(times, share) if times else 0.0

    return figure


FIGURES: dict[str, Figure] = {
    "output tokens/s": lambda parts: sum(part.tokens_per_s for part in parts),
    "goodput": lambda parts: sum(part.good_per_s for part in parts),
    "ttft p50": _of_times("ttft_s", 0.5),
    "ttft p99": _of_times("ttft_s", 0.99),
    "itl p50": _of_times("itl_s", 0.5),
    "e2e p50": _of_times("e2e_s", 0.5),
    "e2e p99": _of_times("e2e_s", 0.99),
}


def compared(
    first: Sequence[Recording], second: Sequence[Recording], objective: Objective, seed: int, against: str
) -> tuple[Ratio, ...]:
    """Both have as many repeats. A figure that one of them does not have at all is left out."""
    pairs = [
        list(zip(parts_of(one, objective), parts_of(other, objective), strict=True))
        for one, other in zip(first, second, strict=True)
    ]
    found = ((name, _ratio(figure, pairs, seed)) for name, figure in FIGURES.items())
    return tuple(Ratio(against, name, *bounds) for name, bounds in found if bounds is not None)


def parts_of(recording: Recording, objective: Objective) -> list[Part]:
    """The counted time in ten."""
    every = counted(recording)
    start = recording.counted_from
    span_s = max(recording.until - start, 1e-9)

    def part(at: float) -> int:
        return min(PARTS - 1, max(0, int(PARTS * (at - start) / span_s)))

    due: list[list[Outcome]] = [[] for _ in range(PARTS)]
    ended: list[list[Outcome]] = [[] for _ in range(PARTS)]
    for outcome in every:
        if outcome.ok:
            due[part(outcome.due)].append(outcome)
    for outcome in recording.outcomes:
        if outcome.ok and start <= outcome.end <= recording.until:
            ended[part(outcome.end)].append(outcome)
    return [
        Part(
            sorted(one.ttft_s for one in those),
            sorted(one.e2e_s for one in those),
            sorted(one.itl_s for one in those if one.output_tokens > 1),
            sum(one.output_tokens for one in over) * PARTS / span_s,
            sum(objective.met(one) for one in over) * PARTS / span_s,
        )
        for those, over in zip(due, ended, strict=True)
    ]


def _ratio(figure: Figure, pairs: Pairs, seed: int) -> tuple[float, float, float] | None:
    point = _of(figure, [pair for repeat in pairs for pair in repeat])
    if point is None:
        return None
    chance = Random(f"bootstrap {seed}")  # noqa: S311  reproducible, not secret
    values = sum(len(part.ttft_s) for repeat in pairs for pair in repeat for part in pair)
    draws = min(MAX_DRAWS, max(MIN_DRAWS, MAX_VALUES // max(1, values)))
    found = []
    for _ in range(draws):
        repeats = chance.choices(pairs, k=len(pairs))
        drawn = _of(figure, [pair for repeat in repeats for pair in chance.choices(repeat, k=len(repeat))])
        if drawn is not None:
            found.append(drawn)
    found.sort()
    low, high = (ranked(found, 0.025), ranked(found, 0.975)) if found else (point, point)
    return round(point, 4), round(low, 4), round(high, 4)


def _of(figure: Figure, pairs: Sequence[tuple[Part, Part]]) -> float | None:
    one, other = figure([pair[0] for pair in pairs]), figure([pair[1] for pair in pairs])
    return one / other if one > 0.0 and other > 0.0 else None
