"""Waits between attempts."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.backoff import delay_s, delays_s, spread_s


def test_waits_double_up_to_the_cap():
    assert list(islice(delays_s(base_s=1, cap_s=10), 6)) == [1, 2, 4, 8, 10, 10]
    assert [delay_s(n, base_s=1, cap_s=10) for n in range(7)] == [0, 1, 2, 4, 8, 10, 10]


@given(st.integers(1, 100_000), st.floats(0.001, 10), st.floats(0.001, 100))
def test_no_wait_exceeds_the_cap(attempt, base_s, cap_s):
    assert 0 < delay_s(attempt, base_s=base_s, cap_s=cap_s) <= cap_s
    assert max(islice(delays_s(base_s=base_s, cap_s=cap_s), 20)) <= cap_s


def test_a_wait_is_spread_only_upward():
    assert (spread_s(10, 0.5, 0), spread_s(10, 0.5, 0.5)) == (10, 12.5)
