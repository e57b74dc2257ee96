"""Cold prompts get what the working set leaves, where engines could not do without its hits."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.footprint import KEPT, LEAST_SHARE, Prefix, cold_budget, is_cold

HOT = [Prefix(8_000.0, 0.5)] * 10
"""40,000 tokens of hits a second; 80,000 tokens of cache."""


def test_nothing_is_held_back_while_the_engines_could_compute_everything() -> None:
    assert cold_budget(HOT, 100_000.0, 50_000.0, 5_000.0).tokens_per_s == inf
    assert cold_budget(HOT, 100_000.0, 44_000.0, 5_000.0).tokens_per_s < inf


@pytest.mark.parametrize(
    ("prefixes", "capacity", "compute"),
    [([], 1e5, 1e4), (HOT, 0.0, 1e4), (HOT, 1e5, 0.0)],
    ids=["set", "size", "rate"],
)
def test_nothing_is_held_back_on_guesses(prefixes: list[Prefix], capacity: float, compute: float) -> None:
    budget = cold_budget(prefixes, capacity, compute, 1e6)
    assert (budget.tokens_per_s, budget.tokens) == (inf, inf)
    assert budget.reason


def test_within_the_time_in_which_the_working_set_comes_back_cold_prompts_fill_what_it_leaves() -> None:
    budget = cold_budget(HOT, 200_000.0, 20_000.0, 50_000.0)
    assert budget.tokens == pytest.approx(200_000 - KEPT * 80_000, rel=0.01)
    assert budget.tokens_per_s == pytest.approx(budget.tokens / 6.0, rel=0.01), (
        "all come back within 6 s, but 5 percent"
    )
    assert "back within 6 s" in budget.reason


def test_a_working_set_that_fills_the_caches_leaves_a_tenth_of_the_computation() -> None:
    budget = cold_budget(HOT, 60_000.0, 20_000.0, 50_000.0)
    assert budget.tokens_per_s == LEAST_SHARE * 20_000


@given(
    st.lists(st.builds(Prefix, st.floats(64, 1e6), st.floats(1e-6, 1e3)), min_size=1, max_size=20),
    st.floats(1, 1e9),
    st.floats(1, 1e6),
    st.floats(0, 1e6),
    st.floats(1, 1e9),
)
def test_more_cache_never_leaves_less_and_something_is_always_left(
    prefixes: list[Prefix], capacity: float, compute: float, cold: float, more: float
) -> None:
    small, large = (cold_budget(prefixes, size, compute, cold) for size in (capacity, capacity + more))
    assert 0 < small.tokens_per_s <= large.tokens_per_s * (1 + 1e-9)
    assert small.tokens_per_s <= small.tokens


def test_a_prompt_is_cold_that_brings_more_than_it_finds() -> None:
    assert is_cold(8_000, 7_000)
    assert not is_cold(8_000, 3_000)
    assert not is_cold(800, 800), "too short to drive anything out"


def hits_of_lru(
    capacity: float, hot: list[Prefix], cold_per_s: float, cold_tokens: float, seconds: int
) -> float:
    """The share of the tokens of hot prefixes that a cache with least-recently-used eviction has, when cold prompts come as well."""
    draw = Random(1)
    cache: OrderedDict[int, float] = OrderedDict()
    used = hits = asked = 0.0
    rates = [*(one.rate for one in hot), cold_per_s / cold_tokens]
    at, fresh = 0.0, len(hot)
    while at < seconds:
        at += draw.expovariate(sum(rates))
        [key] = draw.choices(range(len(rates)), rates)
        if key < len(hot):
            one = hot[key]
        else:
            fresh += 1
            key, one = fresh, Prefix(cold_tokens, 0.0)
        if one.rate:
            asked += one.tokens
            hits += one.tokens if key in cache else 0.0
        used += one.tokens - cache.pop(key, 0.0)
        cache[key] = one.tokens
        while used > capacity:
            used -= cache.popitem(last=False)[1]
    return hits / asked


def test_a_cache_that_takes_in_no_more_than_the_budget_keeps_the_hits_that_it_would_lose_otherwise() -> None:
    budget = cold_budget(HOT, 200_000.0, 20_000.0, 60_000.0)
    held_back = hits_of_lru(200_000.0, HOT, budget.tokens_per_s, 4_000.0, 3_000)
    let_in = hits_of_lru(200_000.0, HOT, 60_000.0, 4_000.0, 3_000)
    assert held_back == pytest.approx(KEPT, abs=0.02)
    assert let_in < 0.8
