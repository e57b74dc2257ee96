"""What is spent of the misses that are allowed, and what follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.error_budget import (
    AIMED,
    COVERED,
    LEAST_COVERED,
    LEAST_LOAD,
    MOST_COVERED,
    MOST_LOAD,
    USUAL_LOAD,
    Budget,
    after,
    covered,
    load,
    spent,
)


def test_before_the_first_request_as_much_is_spent_as_aimed_at() -> None:
    assert spent(Budget(), 0.99) == pytest.approx(1.0)
    assert load(Budget(), 0.99) == pytest.approx(USUAL_LOAD)
    assert covered(Budget(), 0.99) == pytest.approx(COVERED)


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_more_misses_never_make_bolder(answered: int, one: float, other: float) -> None:
    fewer, more = (Budget(answered=answered, missed=answered * share) for share in sorted((one, other)))
    assert load(more, 0.99) <= load(fewer, 0.99)
    assert covered(more, 0.99) >= covered(fewer, 0.99)
    assert LEAST_LOAD <= load(more, 0.99) <= MOST_LOAD
    assert LEAST_COVERED <= covered(more, 0.99) <= MOST_COVERED


def test_misses_as_aimed_at_change_nothing_in_the_long_run() -> None:
    budget = Budget()
    for _ in range(1000):
        budget = after(budget, 1000, 1000 * 0.01 * AIMED)
    assert load(budget, 0.99) == pytest.approx(USUAL_LOAD)


def test_old_misses_are_forgotten() -> None:
    missed = after(Budget(), 1000, 500.0)
    later = missed
    for _ in range(200):
        later = after(later, 1000, 0.0)
    assert load(missed, 0.99) < USUAL_LOAD < load(later, 0.99)
