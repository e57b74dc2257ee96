"""What runs come to, how two are compared, and where the knee is."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.testing.load.compare import compared
from penstock.testing.load.knee import ENOUGH, KneeSearch
from penstock.testing.load.outcome import Outcome
from penstock.testing.load.player import Recording
from penstock.testing.load.summary import Objective, result_of, summed_up

NONE = Objective()


def answer(due: float, ttft_s: float = 0.1, e2e_s: float = 1.0, tokens: int = 10, error: str = "") -> Outcome:
    first = due + ttft_s
    return Outcome(
        due=due,
        sent=due,
        first=first,
        last=due + e2e_s,
        end=due + e2e_s,
        error=error,
        output_tokens=0 if error else tokens,
        prompt_tokens=100,
        cached_tokens=25,
        told_usage=True,
    )


def recording(*outcomes: Outcome, counted_from: float = 0.0, until: float = 10.0) -> Recording:
    return Recording(list(outcomes), counted_from, until)


def test_errors_stand_beside_latency_and_miss_the_objective() -> None:
    run = recording(answer(0), answer(1, ttft_s=5.0, e2e_s=6.0), answer(2, error="http 503"), answer(3))
    found = summed_up([run], Objective(ttft_s=1.0))
    assert (found.requests, found.answered, found.errors) == (4, 3, {"http 503": 1})
    assert found.attainment == 0.5
    assert found.goodput_per_s == pytest.approx(0.2)
    assert found.requests_per_s == pytest.approx(0.3)
    assert found.ttft_s.max == pytest.approx(5.0), "a failure has no first token"


def test_an_answers_mean_gap_is_what_its_objective_means() -> None:
    objective = Objective(itl_s=0.11)
    assert objective.met(answer(0, ttft_s=0.1, e2e_s=1.0, tokens=10))
    assert not objective.met(answer(0, ttft_s=0.1, e2e_s=1.2, tokens=10))
    assert objective.met(answer(0, tokens=1)), "one token has no gap"


def test_warm_up_and_what_ends_late_are_in_no_throughput() -> None:
    run = recording(answer(0), answer(5), answer(9.5), counted_from=2.0)
    found = summed_up([run], NONE)
    assert found.requests == 2
    assert found.requests_per_s == pytest.approx(1 / 8)
    assert found.cached_share == 0.25


def test_a_result_has_each_repeat_and_an_example_of_each_error() -> None:
    failed = answer(1, error="no answer")
    failed.message = "the engine closed the connection"
    result = result_of(
        [recording(answer(0)), recording(failed)], NONE, target="t", model="m", workload="w", pace="p"
    )
    assert [one.answered for one in result.repeats] == [1, 0]
    assert result.messages == {"no answer": "the engine closed the connection"}


def runs(factor: float, seed: int, count: int = 300, repeats: int = 4) -> list[Recording]:
    chance = Random(seed)
    found = []
    for _ in range(repeats):
        answers = [answer(n * 10 / count, chance.lognormvariate(-2, 0.4) * factor, 1.0) for n in range(count)]
        found.append(recording(*answers))
    return found


def test_a_difference_is_found_and_its_size_lies_in_the_interval() -> None:
    ratios = {one.figure: one for one in compared(runs(2.0, 1), runs(1.0, 2), NONE, 0, "b")}
    assert ratios["ttft p50"].low < 2.0 < ratios["ttft p50"].high
    assert ratios["ttft p50"].decided
    assert ratios["ttft p50"].high - ratios["ttft p50"].low < 0.4


def test_two_like_servers_do_not_differ() -> None:
    ratios = compared(runs(1.0, 3), runs(1.0, 4), NONE, 0, "b")
    assert not any(one.decided for one in ratios if one.figure.startswith("ttft"))


def test_repeats_that_lie_far_apart_make_a_wide_interval() -> None:
    shaky = [run for seed in range(4) for run in runs(1.0 + seed % 2, 10 + seed, repeats=1)]
    ratios = {one.figure: one for one in compared(shaky, runs(1.0, 2), NONE, 0, "b")}
    assert ratios["ttft p50"].low < 1.15
    assert ratios["ttft p50"].high > 1.7


def test_a_figure_that_one_side_has_not_is_left_out() -> None:
    nothing = [recording(answer(0, error="no answer")) for _ in range(4)]
    assert compared(runs(1.0, 1), nothing, NONE, 0, "b") == ()


@given(knee=st.floats(0.02, 3000.0), first=st.floats(0.1, 100.0))
def test_the_knee_is_found_within_five_percent(knee: float, first: float) -> None:
    search = KneeSearch(first, 60)
    while not search.is_over:
        search.tell(1.0 if search.rate_per_s <= knee else ENOUGH - 0.01)
    assert search.is_found
    assert knee / 1.05 <= search.knee_per_s <= knee
    assert len(search.steps) <= 25


def test_the_search_ends_after_its_steps_and_says_that_it_found_none() -> None:
    search = KneeSearch(1.0, 4)
    while not search.is_over:
        search.tell(0.0)
    assert len(search.steps) == 4
    assert not search.is_found
    assert search.knee_per_s == 0.0
