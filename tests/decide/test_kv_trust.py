"""How far an index of KV caches is believed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.kv_trust import APPROXIMATE, DISTRUSTED, PRECISE, Trust, answered, believed_anew

TOKENS = st.floats(0, 1e6)
ANSWERS = st.lists(st.tuples(TOKENS, TOKENS), max_size=60)


def after(answers, trust=None):
    trust = trust or Trust()
    for predicted, cached in answers:
        trust = answered(trust, predicted, cached)
    return trust


@given(ANSWERS)
def test_confidence_and_accuracy_stay_within_0_and_1(answers):
    trust = after(answers)
    assert 0 < trust.confidence < 1
    assert 0 <= trust.accuracy <= 1


@given(ANSWERS, st.floats(1, 1e6), TOKENS, TOKENS)
def test_the_more_of_a_prediction_holds_the_more_is_believed(answers, predicted, less, more):
    before, (less, more) = after(answers), sorted((less, more))
    assert (
        answered(before, predicted, less).confidence <= answered(before, predicted, more).confidence + 1e-12
    )


@given(ANSWERS, st.floats(1, 1e6), st.floats(0, 1e6))
def test_finding_more_than_predicted_never_lowers_confidence_but_does_lower_accuracy(
    answers, predicted, surplus
):
    before = after(answers)
    exact, more = answered(before, predicted, predicted), answered(before, predicted, predicted + surplus)
    assert before.confidence <= exact.confidence + 1e-12
    assert more.confidence == exact.confidence
    assert more.accuracy <= exact.accuracy


@given(ANSWERS, TOKENS)
def test_an_answer_without_a_prediction_says_nothing_about_trust(answers, cached):
    before = after(answers)
    assert answered(before, 0, cached).confidence == before.confidence


def test_a_prediction_that_fails_costs_more_the_longer_it_was():
    trust = after([(4096, 4096)] * 10)
    assert answered(trust, 4096, 0).confidence < answered(trust, 64, 0).confidence < trust.confidence


def test_a_cache_that_lies_is_found_out_within_ten_answers_and_forgiven_within_thirty():
    trust = after([(4096, 4096)] * 200, Trust(prior=PRECISE))
    assert trust.confidence > 0.97
    lied_to = after([(4096, 0)] * 10, trust)
    assert lied_to.confidence < 0.55
    assert after([(4096, 4096)] * 30, lied_to).confidence > 0.85


def test_a_gap_drops_confidence_at_once_and_evidence_brings_it_back():
    trust = believed_anew(after([(4096, 4096)] * 100), DISTRUSTED)
    assert trust.confidence == DISTRUSTED
    assert after([(4096, 4096)] * 5, trust).confidence > 0.9


def test_what_engines_tell_is_believed_before_what_was_sent_before_what_was_missed():
    assert (
        Trust(prior=PRECISE).confidence
        > Trust(prior=APPROXIMATE).confidence
        > Trust(prior=DISTRUSTED).confidence
    )


def test_the_first_answers_are_all_the_accuracy_there_is():
    assert after([(100, 50)]).accuracy == pytest.approx(0.5)
    assert after([(100, 50), (100, 100)]).accuracy == pytest.approx(0.75)
    assert after([(0, 0)]).accuracy == 1


@given(ANSWERS)
def test_the_counters_say_what_was_agreed(answers):
    trust = after(answers)
    assert trust.answers == len(answers)
    assert trust.agreed_tokens == pytest.approx(sum(min(pair) for pair in answers))
    assert trust.agreed_tokens <= min(trust.predicted_tokens, trust.cached_tokens) * (1 + 1e-9)


@pytest.mark.parametrize("nonsense", [-5.0, math.nan, math.inf, -math.inf])
def test_nonsense_counts_as_nothing(nonsense):
    assert answered(Trust(), 100, nonsense) == answered(Trust(), 100, 0)
    assert answered(Trust(), nonsense, 100) == answered(Trust(), 0, 100)
