"""Which prompts are computed by another endpoint than the one that answers."""

import pytest

from penstock.contracts.exchange import Endpoint
from penstock.contracts.scheduling import Load, Prompt
from penstock.decide.disaggregation import BOTH, DECODE, PREFILL, choose_remote, role_of

LEAST = {"prompt_tokens": 1000, "uncached_tokens": 512}


def load(name, **fields):
    return Load(endpoint=Endpoint(name=name, address="127.0.0.1", port=1), **fields)


def measured(name, **fields):
    return load(name, **{"is_measured": True, "prefill_token_s": 1e-4, **fields})


IDLE = load("p")


def chosen(tokens=4000, cached=0.0, others=(IDLE,), there=(0.0,), here=None, **least):
    return choose_remote(
        Prompt(draw=1, tokens=tokens), here or load("d"), cached, others, there, **{**LEAST, **least}
    )


def test_a_long_prompt_that_is_in_no_cache_is_computed_elsewhere():
    assert chosen().place == 0


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("it is short", {"tokens": 999}),
        ("little of it is to be computed", {"cached": 3600.0}),
        ("the profile never wants it", {"uncached_tokens": 0}),
        ("nobody is there for it", {"others": (), "there": ()}),
    ],
)
def test_it_stays(case, fields):
    remote = chosen(**fields)
    assert remote.place == -1
    assert remote.reason


def test_the_one_takes_it_where_it_is_computed_soonest():
    busy, idle = load("p0", uncached_tokens=9000), load("p1", uncached_tokens=100)
    assert chosen(others=(busy, idle), there=(0.0, 0.0)).place == 1
    assert chosen(others=(load("p0", uncached_tokens=500), idle), there=(3000.0, 0.0)).place == 0


def test_a_detour_that_takes_longer_is_not_made():
    waits = measured("p", uncached_tokens=100_000)
    assert chosen(here=measured("d"), others=(waits,)).place == -1
    assert chosen(here=measured("d", uncached_tokens=200_000), others=(waits,)).place == 0


def test_answers_that_would_be_held_up_count():
    slower = measured("p", prefill_token_s=1.5e-4)
    assert chosen(here=measured("d"), others=(slower,)).place == -1
    assert chosen(here=measured("d", in_flight=20), others=(slower,)).place == 0


def test_tokens_count_where_any_rate_is_unknown():
    others = (measured("p0", uncached_tokens=5000), load("p1", uncached_tokens=10))
    assert chosen(here=measured("d"), others=others, there=(0.0, 0.0)).place == 1


@pytest.mark.parametrize(
    ("labels", "role"),
    [
        ({}, BOTH),
        ({"llm-d.ai/role": "prefill"}, PREFILL),
        ({"llm-d.ai/role": "decode"}, DECODE),
        ({"llm-d.ai/role": "prefill", "penstock.dev/role": "both"}, BOTH),
        ({"penstock.dev/role": "cook"}, BOTH),
    ],
)
def test_roles_are_read_from_labels(labels, role):
    assert role_of(labels) == role
