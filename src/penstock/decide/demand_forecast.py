"""How much work a second may come until replicas that are asked for now have done their part?

Several simple forecasts run side by side: averages over different times, and a trend. Each learns from the past by how much the peak within
one horizon went beyond it; it forecasts its level plus a high quantile of these excesses. The one with the least loss so far is believed
(pinball loss, the proper score of a quantile; prediction with expert advice). Thus a calm service is covered closely, and one of sudden
bursts up to the bursts that it is known for, though it may be idle now. Where on earlier days much more came a horizon later than at this
time, the forecast grows in the same proportion.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from msgspec import Struct
from msgspec.structs import replace

AVERAGES_S = (20.0, 60.0, 180.0, 600.0, 1800.0, 7200.0)
NAMES = (*(f"average of {tau_s:g} s" for tau_s in AVERAGES_S), "trend")
TREND_FROM, TREND_TO = 1, 3
"""The trend is what lies between these two averages."""
DAY_S = 86400.0
BINS = 144
"""Parts of a day whose demand is remembered."""
NOTABLE_RISE = 1.2
"""Earlier days count when they rose by this factor; less is chance."""
KEPT = 120
"""Excesses that each forecast remembers."""
EVERY = 6
"""An excess is recorded after so many steps."""
NEEDED = 4
"""Excesses without which a forecast is not believed."""
LOSS_KEPT = 0.98
BURSTS_APART_S = 120.0
"""Peaks that are closer belong to one burst, and tell no more than one."""
FURTHEST = 1.5
"""How far a tail may be drawn, over what was seen."""
BEYOND = -1


class Forecaster(Struct, frozen=True, kw_only=True, gc=False):
    """One forecast's record: past excesses, oldest first, the margin that follows from them, and its average loss.

    `rank` is the margin's place among the excesses in their order, BEYOND where it is drawn from several of them.
    """

    excesses: tuple[float, ...] = ()
    margin: float = 0.0
    rank: int = BEYOND
    loss: float = 0.0
    weight: float = 0.0


class History(Struct, frozen=True, kw_only=True, gc=False):
    """What is remembered; `steps` counts those that were taken, `pending` are levels whose horizon is not over, with their step."""

    steps: int = 0
    averages: tuple[float, ...] = (0.0,) * len(AVERAGES_S)
    day: tuple[float, ...] = ()
    peaks: tuple[float, ...] = ()
    pending: tuple[tuple[int, tuple[float, ...]], ...] = ()
    forecasters: tuple[Forecaster, ...] = (Forecaster(),) * len(NAMES)


class Forecast(Struct, frozen=True, kw_only=True, gc=False):
    """`demand` may come; `name` is the forecast that says so, `second` the next best and what it says."""

    demand: float
    name: str
    second: str = ""
    second_demand: float = 0.0


def observe(
    known: History, *, work: float, peak: float, now: float, step_s: float, horizon: int, quantile: float
) -> History:
    """After a step with `work` a second on average and a `peak` of what had to be borne; `horizon` counts steps."""
    steps = known.steps + 1
    averages = _averaged(known.averages, work, step_s, 1.0 / steps)
    peaks = (*known.peaks, peak)[-horizon:]
    history = replace(
        known, steps=steps, averages=averages, peaks=peaks, day=_with_day(known.day, work, now, step_s)
    )
    if known.pending and known.pending[0][0] + horizon <= steps:
        levels = known.pending[0][1]
        windows = min(steps, KEPT * EVERY) * step_s / max(horizon * step_s, BURSTS_APART_S)
        scored = tuple(
            _scored(one, max(peaks) - level, quantile, windows)
            for one, level in zip(known.forecasters, levels, strict=True)
        )
        history = replace(history, pending=known.pending[1:], forecasters=scored)
    if steps % EVERY == 0:
        levels = _levels(history, now, horizon * step_s)
        history = replace(history, pending=(*history.pending, (steps, levels)))
    return history


def forecast(history: History, now: float, horizon_s: float) -> Forecast | None:
    """None while too little has been seen."""
    levels = _levels(history, now, horizon_s)
    told = [
        (one.loss / one.weight, name, level + one.margin)
        for one, name, level in zip(history.forecasters, NAMES, levels, strict=True)
        if len(one.excesses) >= NEEDED
    ]
    if not told:
        return None
    told.sort()
    _, name, demand = told[0]
    second = told[1] if len(told) > 1 else (0.0, "", 0.0)
    rise = _usual_rise(history.day, now, horizon_s)
    if rise > 1.0:
        name += f", and {rise:.1f} times as much on earlier days"
    return Forecast(
        demand=max(0.0, demand) * rise, name=name, second=second[1], second_demand=max(0.0, second[2])
    )


def _averaged(averages: Sequence[float], work: float, step_s: float, least_share: float) -> tuple[float, ...]:
    moved = []
    for old, tau_s in zip(averages, AVERAGES_S, strict=True):
        share = step_s / tau_s
        share = max(share, least_share)
        moved.append(old + (work - old) * share if share < 1.0 else work)
    return tuple(moved)


def _levels(history: History, now: float, horizon_s: float) -> tuple[float, ...]:
    averages = history.averages
    apart_s = AVERAGES_S[TREND_TO] - AVERAGES_S[TREND_FROM]
    slope = (averages[TREND_FROM] - averages[TREND_TO]) / apart_s
    trend = averages[TREND_FROM] + slope * (AVERAGES_S[TREND_FROM] + horizon_s)
    return (*averages, max(0.0, trend))


def _bin(now: float) -> int:
    return int(now % DAY_S / DAY_S * BINS)


def _usual_rise(day: Sequence[float], now: float, horizon_s: float) -> float:
    """By which factor demand rose within the horizon at this time of earlier days; 1 where no whole day is known."""
    if not day:
        return 1.0
    then, later = day[_bin(now)], day[_bin(now + horizon_s)]
    if then <= 0.0 or later < then * NOTABLE_RISE or min(day) <= 0.0:
        return 1.0
    return later / then


def _with_day(day: tuple[float, ...], work: float, now: float, step_s: float) -> tuple[float, ...]:
    """Averages by time of day, half from the last day; -1 where no day has been seen."""
    known = day or (-1.0,) * BINS
    at = _bin(now)
    share = min(1.0, step_s / (DAY_S / BINS))
    average = work if known[at] < 0.0 else known[at] + (work - known[at]) * share
    return (*known[:at], average, *known[at + 1 :])


def _scored(one: Forecaster, excess: float, quantile: float, windows: float) -> Forecaster:
    loss, weight = one.loss, one.weight
    if one.excesses:
        beyond = excess - one.margin
        loss = loss * LOSS_KEPT + (quantile * beyond if beyond > 0.0 else (quantile - 1.0) * beyond)
        weight = weight * LOSS_KEPT + 1.0
    excesses = (*one.excesses, excess)[-KEPT:]
    rank = _rank(len(excesses), quantile, windows)
    margin = one.margin if _keeps_margin(one, excess, rank) else _margin(excesses, rank, quantile, windows)
    return Forecaster(excesses=excesses, margin=margin, rank=rank, loss=loss, weight=weight)


def _rank(count: int, quantile: float, windows: float) -> int:
    """Which of so many excesses is the quantile; BEYOND where so few independent windows cannot show it."""
    return min(count - 1, int(quantile * count)) if windows * (1.0 - quantile) >= 1.0 else BEYOND


def _keeps_margin(one: Forecaster, excess: float, rank: int) -> bool:
    """Whether nothing changes at the margin's rank: as many excesses come above it as go. Saves putting them in order most times."""
    if rank == BEYOND or rank != one.rank or len(one.excesses) < KEPT:
        return False
    return excess == one.margin or (one.excesses[0] - one.margin) * (excess - one.margin) > 0.0


def _margin(excesses: Sequence[float], rank: int, quantile: float, windows: float) -> float:
    """The quantile of the excesses; beyond what they show, an exponential tail is drawn to it."""
    ordered = sorted(excesses)
    if rank != BEYOND:
        return ordered[rank]
    middle, largest = ordered[len(ordered) // 2], ordered[-1]
    further = log(0.5 / (1.0 - quantile)) / log(0.5 * (windows + 2.0))
    return middle + (largest - middle) * min(FURTHEST, further)
