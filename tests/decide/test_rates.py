"""An endpoint's speed is learned from its own answers: truly under noise, anew when it changes, and undisturbed by single stalls."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.rates import ENOUGH, Rates, between_tokens, first_token

BASE_S, TOKEN_S = 0.04, 0.0002


def took_s(tokens: float, slower: float = 1.0) -> float:
    return slower * (BASE_S + TOKEN_S * tokens)


def learned(
    chance: random.Random,
    answers: int,
    rates: Rates | None = None,
    *,
    slower: float = 1.0,
    noise: float = 0.1,
    stalls: float = 0.0,
) -> Rates:
    rates = rates or Rates()
    for _ in range(answers):
        tokens = chance.choice((60, 500, 2000, 8000, 30_000)) * chance.uniform(0.5, 1.5)
        seen_s = took_s(tokens, slower) * max(0.1, chance.gauss(1.0, noise))
        if chance.random() < stalls:
            seen_s *= chance.choice((0.05, 8.0, 20.0))
        rates = first_token(rates, tokens, seen_s)
    return rates


def is_true(rates: Rates, slower: float = 1.0, within: float = 0.15) -> bool:
    """At short prompts and long ones."""
    return all(
        abs(rates.first_token_s(tokens) / took_s(tokens, slower) - 1) < within
        for tokens in (100, 2000, 10_000, 40_000)
    )


@pytest.mark.parametrize("seed", range(10))
def test_the_truth_is_found_under_noise(seed: int) -> None:
    rates = learned(random.Random(seed), 200)
    assert rates.is_measured
    assert is_true(rates)
    assert rates.prefill_token_s == pytest.approx(TOKEN_S, rel=0.1)


def test_without_noise_it_is_exact() -> None:
    rates = learned(random.Random(1), 60, noise=0.0)
    assert is_true(rates, within=0.01)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("slower", [2.0, 0.5])
def test_a_change_is_followed_within_some_dozen_answers(seed: int, slower: float) -> None:
    chance = random.Random(seed)
    before = learned(chance, 300)
    after = learned(chance, 40, before, slower=slower)
    assert after.is_measured
    assert is_true(after, slower, within=0.25)


@pytest.mark.parametrize("seed", range(10))
def test_one_answer_in_twenty_that_is_far_off_changes_little(seed: int) -> None:
    rates = learned(random.Random(seed), 400, stalls=0.05)
    assert rates.is_measured
    assert is_true(rates, within=0.25)


def test_few_answers_are_no_measure() -> None:
    assert not learned(random.Random(1), ENOUGH - 1, noise=0.0).is_measured
    assert not Rates().is_measured


@pytest.mark.parametrize("seed", range(5))
def test_what_follows_no_rule_is_not_taken_for_measured(seed: int) -> None:
    chance, rates = random.Random(seed), Rates()
    said = 0
    for _ in range(300):
        rates = first_token(rates, chance.uniform(10, 20_000), 10 ** chance.uniform(-2, 1))
        said += rates.is_measured
    assert said < 30
    assert not rates.is_measured


def test_prompts_of_one_length_teach_what_they_can() -> None:
    rates = Rates()
    for _ in range(3000):
        rates = first_token(rates, 1000, took_s(1000))
    assert rates.first_token_s(1000) == pytest.approx(took_s(1000), rel=0.01)
    assert math.isfinite(rates.variance)
    longer = first_token(rates, 10_000, took_s(10_000))
    assert longer.first_token_s(10_000) < 10 * took_s(10_000)


@given(
    st.lists(
        st.tuples(
            st.floats() | st.floats(0, 1e6),
            st.floats() | st.floats(0, 100),
        ),
        max_size=80,
    )
)
def test_whatever_is_seen_rates_are_numbers_that_are_never_negative(seen: list[tuple[float, float]]) -> None:
    rates = Rates()
    for tokens, seconds in seen:
        rates = between_tokens(first_token(rates, tokens, seconds), seconds)
        for rate in (rates.prefill_s, rates.prefill_token_s, rates.decode_s, rates.error):
            assert math.isfinite(rate)
            assert rate >= 0


def test_the_time_between_tokens_is_learned_and_stalls_move_it_little() -> None:
    chance, rates = random.Random(3), Rates()
    for _ in range(200):
        stall = 50.0 if chance.random() < 0.05 else 1.0
        rates = between_tokens(rates, 0.02 * chance.gauss(1.0, 0.1) * stall)
    assert rates.decode_s == pytest.approx(0.02, rel=0.3)
    for _ in range(30):
        rates = between_tokens(rates, 0.04)
    assert rates.decode_s == pytest.approx(0.04, rel=0.1)
