"""A tokenizer that counts otherwise than the engine is given up soon, one that is right never, and each is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.tokenizer_trust import (
    LAST_REST_S,
    MOST,
    NEW,
    Question,
    Standing,
    given_up,
    is_quick,
    judged,
    patience_s,
    tried_again,
)

QUESTIONS: tuple[Question, ...] = tuple(MOST)


def after(question: Question, evidence: list[bool], standing: Standing = NEW) -> Standing:
    for is_good in evidence:
        standing = judged(standing, question, is_good=is_good, now=100.0)
    return standing


@pytest.mark.parametrize("question", QUESTIONS)
def test_one_that_is_always_right_is_never_given_up(question: Question) -> None:
    assert not after(question, [True] * 1000).reason


@pytest.mark.parametrize(("question", "within"), [("disagrees", 10), ("hits_fail", 10), ("slow", 30)])
def test_one_that_is_always_wrong_is_given_up_soon(question: Question, within: int) -> None:
    assert after(question, [False] * within).reason == question


def test_one_that_is_slow_with_all_first_prompts_at_once_is_not_slow() -> None:
    assert not after("slow", [False] * 16 + [True] * 100).reason


def test_a_few_wrong_ones_are_no_evidence() -> None:
    assert not after("disagrees", [False] * 3).reason


def test_one_that_was_right_for_long_is_given_up_once_the_engine_is_another() -> None:
    assert after("disagrees", [True] * 1000 + [False] * 10).reason == "disagrees"


def test_hits_that_fail_now_and_then_are_the_cache_s_fault() -> None:
    assert not after("hits_fail", [False, False, True] * 100).reason


def test_it_rests_longer_each_time_up_to_a_limit() -> None:
    standing, rests = NEW, []
    for _ in range(12):
        standing = given_up(standing, "slow", 100.0)
        rests.append(standing.until - 100.0)
        standing = tried_again(standing)
        assert not standing.reason
    assert rests[:3] == [60.0, 120.0, 240.0]
    assert rests[-1] == LAST_REST_S


@given(st.lists(st.tuples(st.sampled_from(QUESTIONS), st.booleans()), max_size=50))
def test_once_given_up_evidence_changes_nothing(evidence: list[tuple[Question, bool]]) -> None:
    standing = given_up(NEW, "died", 5.0)
    for question, is_good in evidence:
        assert judged(standing, question, is_good=is_good, now=6.0) is standing


def test_what_takes_a_small_part_of_an_answer_s_time_is_quick_and_so_is_what_nobody_notices() -> None:
    assert is_quick(0.1, 1.0)
    assert not is_quick(0.1, 0.3)
    assert is_quick(0.005, 0.006)
    assert not is_quick(0.5, -3.0)


def test_longer_prompts_may_wait_longer() -> None:
    assert patience_s(0) < patience_s(1 << 20) < 3.0
