"""Usage out of two looks: a number that is not known is left out, never made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.usage import LEAST_WINDOW_S, STALE_S, Look, Usage, of_pod, usage


def look(at: float, cpu_s: float, run: str = "0", gpus: float | None = None) -> Look:
    return Look(at, run, cpu_s, 1000, gpus)


def test_cpu_is_a_rate_and_memory_is_as_it_is_now() -> None:
    assert usage(look(100, 5), look(110, 12)) == Usage(110, 10, {"cpu": 0.7, "memory": 1000.0})


def test_gpus_are_told_where_there_are_some() -> None:
    seen = usage(look(100, 5), look(110, 5, gpus=1.5))
    assert seen is not None
    assert seen.amounts["nvidia.com/gpu"] == 1.5


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (look(100, 5), look(100 + LEAST_WINDOW_S - 0.1, 6)),
        (look(100, 5), look(110, 4)),
        (look(100, 5, run="0"), look(110, 6, run="1")),
        (look(110, 5), look(100, 6)),
    ],
)
def test_looks_that_cannot_be_compared_make_no_usage(before: Look, now: Look) -> None:
    assert usage(before, now) is None


@given(st.floats(0, 1e6), st.floats(0, 1e3), st.floats(LEAST_WINDOW_S, 1e3))
def test_a_rate_is_never_negative(start_s: float, used_s: float, window_s: float) -> None:
    seen = usage(look(0, start_s), look(window_s, start_s + used_s))
    assert seen is not None
    assert seen.amounts["cpu"] >= 0


def test_a_pod_is_the_sum_of_its_containers_and_unknown_if_one_of_them_is() -> None:
    main, side = Usage(100, 15, {"cpu": 0.5}), Usage(95, 10, {"cpu": 0.25})
    both = frozenset({"main", "side"})
    assert of_pod({"main": main, "side": side}, both, "cpu", "", 110) == Usage(95, 15, {"cpu": 0.75})
    assert of_pod({"main": main}, both, "cpu", "", 110) is None
    assert of_pod({"main": main}, both, "cpu", "main", 110) == Usage(100, 15, {"cpu": 0.5})
    assert of_pod({"main": main}, both, "memory", "main", 110) is None
    assert of_pod({"main": main}, both, "cpu", "other", 110) is None
    assert of_pod({}, frozenset(), "cpu", "", 110) is None


def test_what_was_long_ago_says_nothing_about_now() -> None:
    main = {"main": Usage(100, 15, {"cpu": 0.5})}
    assert of_pod(main, frozenset({"main"}), "cpu", "", 100 + STALE_S) is not None
    assert of_pod(main, frozenset({"main"}), "cpu", "", 100.1 + STALE_S) is None
