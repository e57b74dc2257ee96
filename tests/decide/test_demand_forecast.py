"""What may come within a cold start."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from penstock.decide.demand_forecast import (
    AVERAGES_S,
    DAY_S,
    KEPT,
    NAMES,
    Forecast,
    Forecaster,
    History,
    _margin,
    _scored,
    forecast,
    observe,
)

STEP_S = 5.0
HORIZON = 20


def played(demand: Callable[[float], float], steps: int, step_s: float = STEP_S) -> tuple[History, Forecast]:
    history = History()
    for number in range(steps):
        now = number * step_s
        history = observe(
            history,
            work=demand(now),
            peak=demand(now),
            now=now,
            step_s=step_s,
            horizon=HORIZON,
            quantile=0.95,
        )
    told = forecast(history, steps * step_s, HORIZON * step_s)
    assert told
    return history, told


def test_too_little_history_gives_no_forecast() -> None:
    assert forecast(History(), 0.0, 100.0) is None


def test_what_never_changes_is_forecast_as_it_is() -> None:
    assert played(lambda now: 1000.0, 300)[1].demand == pytest.approx(1000.0)


def test_a_trend_is_carried_on_over_the_horizon() -> None:
    _, told = played(lambda now: 1000.0 + now, 720)
    assert told.demand == pytest.approx(1000.0 + (720 + HORIZON) * STEP_S, rel=0.02)


def test_bursts_are_expected_while_it_is_quiet() -> None:
    def bursts(now: float) -> float:
        return 5000.0 if now % 120.0 < 30.0 else 0.0

    history, told = played(bursts, 719)
    assert history.averages[0] < 500.0
    assert told.demand == pytest.approx(5000.0, rel=0.1)


def test_noise_is_covered_up_to_its_high_values_and_not_far_beyond() -> None:
    _, told = played(lambda now: 1000.0 + now * 7919 % 200.0, 720)
    assert 1150.0 <= told.demand <= 1250.0


def test_a_rise_of_earlier_days_is_expected_at_the_same_time() -> None:
    def daily(now: float) -> float:
        return 4000.0 if 9.0 <= now % DAY_S / 3600.0 < 17.0 else 1000.0 + now % 97.0

    step_s = 60.0
    eight, nine = 2 * DAY_S + 8.0 * 3600.0, 2 * DAY_S + 8.9 * 3600.0
    _, early = played(daily, int(eight / step_s), step_s)
    assert early.demand == pytest.approx(1100.0, rel=0.1)
    _, soon = played(daily, int(nine / step_s), step_s)
    assert 3500.0 < soon.demand < 6000.0
    assert "earlier days" in soon.name


def test_a_part_of_a_day_says_nothing_of_the_rest() -> None:
    _, told = played(lambda now: 1000.0, 600, 60.0)
    assert "earlier days" not in told.name


def test_memory_is_bounded() -> None:
    history, _ = played(lambda now: now % 97.0, 3000)
    assert len(history.peaks) == HORIZON
    assert len(history.pending) <= HORIZON
    assert all(len(one.excesses) <= KEPT for one in history.forecasters)
    assert len(history.averages) == len(AVERAGES_S)


def test_the_next_best_is_told_too() -> None:
    _, told = played(lambda now: 1000.0 + now % 50.0, 400)
    assert told.second in NAMES
    assert told.second != told.name
    assert told.second_demand > 0.0


@pytest.mark.parametrize("quantile", [0.85, 0.95, 0.99, 0.9999])
def test_a_margin_that_is_kept_is_the_one_that_ordering_all_excesses_gives(quantile: float) -> None:
    chance = random.Random(3)
    one, kept = Forecaster(), 0
    for step in range(3 * KEPT):
        excess = chance.choice([chance.gauss(0.0, 5.0), float(chance.randint(-2, 2))])
        after = _scored(one, excess, quantile, windows=200.0)
        kept += step >= KEPT and after.margin == one.margin
        one = after
        assert one.margin == _margin(one.excesses, one.rank, quantile, 200.0)
    assert kept > KEPT or quantile > 0.995
