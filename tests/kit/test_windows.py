"""Averages over the last seconds are Knative's: what falls out, what counts as a zero, and what does not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.windows import ExponentialWindow, LinearWindow, Window, smoothing

BOTH = pytest.mark.parametrize("kind", [LinearWindow, ExponentialWindow])


def filled(window: Window, *values: tuple[float, float]) -> Window:
    for at, value in values:
        window.record(at, value)
    return window


@pytest.mark.parametrize(
    ("values", "now", "average"),
    [
        ((), 100, 0.0),
        (((100, 5),), 100, 5.0),
        (((100, 5), (100.9, 2)), 100, 7.0),  # several values of a second add up
        (((100, 5), (101, 1)), 101, 3.0),
        (((100, 5), (102, 1)), 102, 2.0),  # a gap between values is a zero
        (((100, 6), (101, 6)), 103, 6.0),  # trailing silence is not
        (((100, 1), (101, 2), (102, 3), (103, 4), (104, 5)), 104, 3.0),
        (((100, 1), (101, 2), (102, 3), (103, 4), (104, 5), (105, 6)), 105, 4.0),  # the oldest falls out
        (((100, 1), (101, 2), (102, 3), (103, 4), (104, 5)), 106, 4.0),  # also when only time goes on
        (((100, 9),), 104, 9.0),
        (((100, 9),), 105, 0.0),
        (((100, 9), (105, 1)), 105, 1.0),  # a silence as long as the window begins anew
        (((105, 3), (100, 9)), 105, 3.0),  # what is older than the window is not taken
        (((105, 3), (103, 3)), 105, 2.0),  # what is late but within it is
        (((100, 1 / 3),), 100, 0.333333),  # six digits
        (((100, 5),), 99, 5.0),  # a clock that went back
    ],
)
def test_the_linear_average_over_five_seconds(
    values: tuple[tuple[float, float], ...], now: float, average: float
) -> None:
    assert filled(LinearWindow(5), *values).average(now) == average


@pytest.mark.parametrize(
    ("buckets", "weight"), [(5, 0.8415), (6, 0.78456), (40, 0.20567), (60, 0.2), (3600, 0.2)]
)
def test_the_weight_of_the_newest_second_depends_on_the_length_of_the_window(
    buckets: int, weight: float
) -> None:
    assert smoothing(buckets) == pytest.approx(weight, abs=5e-5)


def test_the_exponential_average_is_the_weighted_sum_of_the_seconds() -> None:
    weight = smoothing(5)
    window = filled(ExponentialWindow(5), (100, 2), (101, 3), (102, 5))
    expected = 5 * weight + 3 * weight * (1 - weight) + 2 * weight * (1 - weight) ** 2
    assert window.average(102) == pytest.approx(expected)
    shifted = 5 * weight * (1 - weight) ** 2 + 3 * weight * (1 - weight) ** 3 + 2 * weight * (1 - weight) ** 4
    assert window.average(104) == pytest.approx(shifted)
    assert window.average(108) == 0.0


@BOTH
def test_a_window_is_empty_when_nothing_came_for_longer_than_it_is(kind: type[LinearWindow]) -> None:
    window = kind(5)
    assert window.is_empty(100)
    window.record(100, 0.0)
    assert not window.is_empty(105)
    assert window.is_empty(106)


@pytest.mark.parametrize(
    ("seconds", "average"),
    [(3, 5.0), (5, 4.0), (10, 4.0)],  # of a longer window only what there was counts
)
def test_a_window_that_is_resized_keeps_the_newest_seconds(seconds: int, average: float) -> None:
    window = filled(LinearWindow(5), *((100 + i, float(1 + i)) for i in range(6)))
    window.resize(seconds, 105)
    assert window.average(105) == average
    window.record(106, average)
    assert not math.isnan(window.average(106))


def test_what_is_older_than_the_window_is_dropped_when_it_is_resized() -> None:
    window = filled(LinearWindow(5), (100, 7))
    window.resize(50, 106)
    assert window.average(106) == 0.0
    window.record(107, 3)
    assert window.average(107) == 3.0


def test_when_a_window_was_last_written_is_known_after_it_was_resized_also() -> None:
    window = filled(LinearWindow(5), (100, 7))
    window.resize(50, 106)
    assert not window.is_empty(150)
    assert window.is_empty(151)


def test_what_is_just_as_old_as_the_window_is_kept_when_it_is_resized() -> None:
    window = filled(LinearWindow(5), (100, 8))
    window.resize(10, 105)
    assert window.average(105) == pytest.approx(8 / 5), "as if all of the shorter window had been written"


SERIES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 100)), min_size=1, max_size=40)


@given(SERIES, st.integers(1, 10), st.integers(0, 12))
def test_the_linear_average_is_what_adding_up_every_second_gives(
    steps: list[tuple[int, int]], length: int, later: int
) -> None:
    window, seconds, at, first = LinearWindow(length), dict[int, float](), 1000, 1000 + steps[0][0]
    for passed, value in steps:
        if seconds and passed >= length:
            seconds, first = {}, at + passed
        at += passed
        seconds[at] = seconds.get(at, 0.0) + value
        window.record(at, value)
    now = at + later
    seen = [value for second, value in seconds.items() if now - length < second]
    divisor = min(at - first + 1, length - later)
    expected = sum(seen) / divisor if later < length else 0.0
    assert window.average(now) == pytest.approx(expected, abs=1e-6)


@BOTH
@given(SERIES)
def test_an_average_is_never_more_than_the_largest_second(
    kind: type[LinearWindow], steps: list[tuple[int, int]]
) -> None:
    window, seconds, at = kind(6), dict[int, float](), 1000
    for passed, value in steps:
        at += passed
        seconds[at] = seconds.get(at, 0.0) + value
        window.record(at, value)
        assert 0 <= window.average(at) <= max(seconds.values()) + 1e-6


@BOTH
@given(
    st.lists(st.tuples(st.floats(0, 40), st.floats(0, 9)), max_size=8),
    st.integers(0, 200),
    st.lists(st.tuples(st.floats(0, 20), st.floats(0, 9)), max_size=4),
)
def test_a_quiet_while_counts_as_zeros_in_each_of_its_seconds(
    kind: type[LinearWindow],
    before: list[tuple[float, float]],
    quiet_s: int,
    after: list[tuple[float, float]],
) -> None:
    at_once, each = kind(10), kind(10)
    for window in (at_once, each):
        filled(window, *sorted(before), (41, 0))
    at_once.quiet(41, 41 + quiet_s)
    for second in range(quiet_s + 1):
        each.record(41 + second, 0)
    for passed_s, value in sorted(after):
        now = 41 + quiet_s + passed_s
        at_once.record(now, value)
        each.record(now, value)
        assert at_once.average(now) == pytest.approx(each.average(now), abs=2e-6)
