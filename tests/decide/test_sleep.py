"""How far may a revision go to sleep?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.cold_start import after_start
from penstock.decide.sleep import sleep_depth
from penstock.resources.pod_autoscaler import ColdStart


def measured(cached_s: float | None = None, uncached_s: float | None = None) -> ColdStart:
    known: ColdStart | None = None
    for seconds, cached in ((uncached_s, False), (cached_s, True)):
        if seconds is not None:
            known = after_start(known, "p", {"loading": seconds}, cached=cached)
    assert known is not None
    return known


@pytest.mark.parametrize(
    ("within_s", "known", "depth", "resume_s"),
    [
        (5.0, None, "Idle", 0.0),
        (5.0, measured(cached_s=3.0), "Cached", 3.0),
        (5.0, measured(cached_s=3.0, uncached_s=9.0), "Cached", 3.0),
        (10.0, measured(cached_s=3.0, uncached_s=9.0), "Gone", 9.0),
        (2.0, measured(cached_s=3.0, uncached_s=9.0), "Idle", 0.0),
        (5.0, measured(uncached_s=9.0), "Idle", 0.0),
        (5.0, measured(uncached_s=4.0), "Gone", 4.0),
    ],
)
def test_the_deepest_sleep_that_keeps_the_promise_is_taken(
    within_s: float, known: ColdStart | None, depth: str, resume_s: float
) -> None:
    status = sleep_depth(within_s, known)
    assert (status.depth, status.resume_expected_s) == (depth, resume_s)
    assert status.reason


def test_the_reason_names_the_promise_and_what_was_measured() -> None:
    assert sleep_depth(5.0, measured(cached_s=3.0, uncached_s=9.0)).reason == (
        "5 s are promised; a start with cached weights takes 3 s, one without 9 s"
    )
    assert (
        sleep_depth(1.0, measured(cached_s=3.0)).reason
        == "1 s are promised, the quickest start takes 3 s: one replica stays"
    )


TIMES = st.none() | st.floats(0.1, 100).map(lambda value: round(value, 3))


@given(st.floats(0.1, 100), TIMES, TIMES)
def test_what_is_expected_is_never_longer_than_what_is_promised(
    within_s: float, cached_s: float | None, uncached_s: float | None
) -> None:
    known = measured(cached_s, uncached_s) if cached_s or uncached_s else None
    status = sleep_depth(within_s, known)
    assert status.resume_expected_s is not None
    assert status.resume_expected_s <= within_s


@given(st.floats(0.1, 100), st.floats(0.1, 100), TIMES, TIMES)
def test_more_patience_never_means_a_shallower_sleep(
    within_s: float, more_s: float, cached_s: float | None, uncached_s: float | None
) -> None:
    known = measured(cached_s, uncached_s) if cached_s or uncached_s else None
    order = ["Idle", "Cached", "Gone"]
    assert order.index(sleep_depth(within_s + more_s, known).depth) >= order.index(
        sleep_depth(within_s, known).depth
    )
