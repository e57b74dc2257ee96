"""When refused callers are asked to come again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.retry_after import (
    LEAST_S,
    MOST_S,
    SPREAD,
    asked_s,
    drained,
    measured,
    retry_after_s,
    should_retry,
    spread_s,
)


@pytest.mark.parametrize(
    ("queue", "drain_per_s", "least_s"),
    [
        (0, 1.0, 1.0),
        (99, 10.0, 10.0),
        (0, 1000.0, LEAST_S),
        (10_000, 1.0, MOST_S / (1 + SPREAD)),
        (50, 0.0, 1.0),
    ],
)
def test_a_caller_comes_again_when_the_queue_has_drained(
    queue: int, drain_per_s: float, least_s: float
) -> None:
    assert least_s <= retry_after_s(queue, drain_per_s, "some id") <= least_s * (1 + SPREAD)


@given(st.integers(0, 10**9), st.floats(0, 1e9), st.text(max_size=9), st.floats(0, 1e9))
def test_the_wait_keeps_its_bounds_and_is_the_same_for_the_same_request(
    queue: int, rate: float, request_id: str, unknown_s: float
) -> None:
    wait_s = retry_after_s(queue, rate, request_id, unknown_s)
    assert LEAST_S <= wait_s <= MOST_S
    assert wait_s == retry_after_s(queue, rate, request_id, unknown_s)


def test_callers_refused_together_do_not_return_together() -> None:
    waits = sorted(spread_s(8.0, f"request-{i}") for i in range(1000))
    assert waits[0] < 8.05
    assert waits[-1] > 9.95
    for quarter in range(4):
        lower = 8.0 + 0.5 * quarter
        assert 190 < sum(lower <= wait < lower + 0.5 for wait in waits) < 310


def test_only_a_spent_budget_asks_clients_not_to_come_again() -> None:
    assert not should_retry("insufficient_quota")
    assert not should_retry("budget_spent")
    assert should_retry("queue_full")


@pytest.mark.parametrize("per_s", [0.5, 20.0])
def test_the_rate_is_found_whether_the_meter_is_young_or_old(per_s: float) -> None:
    rate, step_s = 0.0, 2.0
    for step in range(1, 100):
        rate = drained(rate, round(per_s * step_s), step_s)
        assert measured(rate, step * step_s) == pytest.approx(per_s, rel=1e-6)


def test_a_rate_fades_when_nothing_is_completed() -> None:
    assert drained(8.0, 0, 10.0) == pytest.approx(8.0 / 2.718281828, rel=1e-6)


@given(st.floats(0, 1e4), st.integers(0, 1000), st.floats(0, 1e-3))
def test_what_is_completed_in_no_time_counts_as_in_a_little(
    rate: float, completed: int, elapsed_s: float
) -> None:
    assert drained(rate, completed, elapsed_s) == pytest.approx(rate + completed / 10.0, rel=1e-3)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], 0.0),
        ([(b"retry-after", b"3")], 3.0),
        ([(b"retry-after", b"3"), (b"retry-after-ms", b"250")], 0.25),
        ([(b"retry-after", b"Wed, 21 Oct 2026 07:28:00 GMT")], 0.0),
        ([(b"retry-after", b"-3")], 0.0),
    ],
)
def test_what_an_upstream_asks_for_is_read(headers: list[tuple[bytes, bytes]], seconds: float) -> None:
    assert asked_s(headers) == seconds
