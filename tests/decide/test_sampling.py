"""What reports and samples count in the windows of a revision."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exchange import RevisionDemand
from penstock.decide.sampling import (
    FIRST_STAT,
    Held,
    Recorded,
    Stat,
    recorded,
    reported,
    sample_size,
    settled,
)
from penstock.resources.autoscaler_settings import KNATIVE_METRICS, OWN_METRICS


@pytest.mark.parametrize(
    ("ready", "size"),
    [(-1, 0), (0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (10, 7), (100, 14), (1000, 16)],
)
def test_how_many_pods_are_asked(ready: int, size: int) -> None:
    assert sample_size(ready) == size


@given(st.integers(0, 10**6))
def test_never_more_pods_are_asked_than_there_are_nor_ever_more_than_sixteen(ready: int) -> None:
    assert sample_size(ready) <= min(ready, 16)


def test_what_a_sample_tells_is_scaled_up_to_all_pods() -> None:
    stats = [Stat(concurrency=3.0, requests=5.0)] * 7
    assert recorded(stats, 10) == Recorded(pytest.approx(30.0), pytest.approx(50.0))


def test_what_came_through_a_gateway_is_left_to_the_gateway() -> None:
    stats = [Stat(3.0, 2.0, 5.0, 4.0), Stat(1.0, 1.0, 1.0, 1.0)]
    assert recorded(stats, 2) == Recorded(1.0, 1.0)


def test_a_look_at_too_few_pods_is_no_look() -> None:
    assert recorded([Stat(1.0)] * 6, 10) is None
    assert recorded([], 0) is None
    assert recorded([Stat(1.0)], 0) is None


SEEN = RevisionDemand(name="r", in_flight=4.0, tokens_in_flight=800.0, requests=12)
HELD = Held(requests=2.0, wait_s=1.5, ready=3)


@pytest.mark.parametrize(
    ("metric", "second", "half"),
    [
        ("concurrency", 6.0, 3.0),
        ("rps", 12.0, 12.0),
        ("in-flight-tokens", 800.0, 400.0),
        ("queue-wait", 4.5, 2.25),
        ("kv-cache-use", None, None),
    ],
)
def test_a_report_counts_for_the_time_that_it_covers(
    metric: str, second: float | None, half: float | None
) -> None:
    assert reported(metric, SEEN, HELD, 1.0) == second  # type: ignore[arg-type]
    assert reported(metric, SEEN, HELD, 0.5) == half  # type: ignore[arg-type]


METRICS = st.sampled_from([*KNATIVE_METRICS, *(m for m in OWN_METRICS if m != "kv-cache-use")])
AVERAGES = st.floats(0, 1e4)


@given(AVERAGES, AVERAGES, st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5))
def test_however_a_second_is_cut_into_reports_it_counts_the_same(
    in_flight: float, waiting: float, parts: list[float]
) -> None:
    whole = sum(parts)
    seen, held = RevisionDemand(name="r", in_flight=in_flight), Held(waiting)
    cut = sum(reported("concurrency", seen, held, part / whole) or 0.0 for part in parts)
    assert cut == pytest.approx(in_flight + waiting, abs=1e-6)


LIES = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, 1e9])


@given(METRICS, LIES, LIES, st.integers(-5, 5))
def test_a_report_that_lies_counts_a_finite_number_and_never_less_than_nothing(
    metric: str, value: float, window_s: float, requests: int
) -> None:
    seen = RevisionDemand(name="r", in_flight=value, tokens_in_flight=value, requests=requests)
    counted = reported(metric, seen, Held(value, value, 2), window_s)  # type: ignore[arg-type]
    assert counted is not None
    assert counted >= 0
    assert math.isfinite(counted)


def test_the_first_stat_is_taken_off_the_next_report_once_and_never_below_nothing() -> None:
    assert settled(3.0, FIRST_STAT) == 2.0
    assert settled(0.25, FIRST_STAT) == 0.0
    assert settled(3.0, 0.0) == 3.0
