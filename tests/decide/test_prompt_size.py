"""The ratio of tokens to bytes is that of the answers, and nothing that an engine says can spoil it for long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.prompt_size import LEAST, MOST, TYPICAL, UNKNOWN, measured


def after(answers: list[tuple[int, int]]) -> float:
    ratio = UNKNOWN
    for size_bytes, tokens in answers:
        ratio = measured(ratio, size_bytes, tokens)
    return ratio.per_byte


def test_before_any_answer_it_is_that_of_english() -> None:
    assert UNKNOWN.per_byte == TYPICAL


@pytest.mark.parametrize("truth", [0.1, 0.3, 0.6])
def test_some_dozen_answers_teach_the_ratio(truth: float) -> None:
    assert after([(8000, round(8000 * truth))] * 40) == pytest.approx(truth, rel=0.05)


def test_another_ratio_is_learned_after_thousands_of_answers() -> None:
    assert after([(8000, 2000)] * 5000 + [(8000, 4000)] * 200) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("answer", [(1_000_000, 1500), (100, 1_000_000), (0, 100), (100, 0), (100, -1)])
def test_what_is_no_text_teaches_nothing(answer: tuple[int, int]) -> None:
    assert after([answer] * 100) == TYPICAL


@given(st.lists(st.tuples(st.integers(-10, 1 << 40), st.integers(-10, 1 << 40)), max_size=30))
def test_it_stays_what_text_can_have(answers: list[tuple[int, int]]) -> None:
    assert min(LEAST, TYPICAL) * 0.999 <= after(answers) <= max(MOST, TYPICAL) * 1.001
