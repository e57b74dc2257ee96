"""The formulas of scorers, by cases that can be reckoned by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest
from views import load, view

from penstock.app.registry import open_filter, open_scorer
from penstock.contracts.exchange import PluginRoute
from penstock.contracts.scheduling import Load, Prompt, View

RATES: dict[str, Any] = {"is_measured": True, "prefill_token_s": 1e-4, "decode_s": 0.01}


def scores(scorer: str, *seen: Load, cached: tuple[float, ...] = (), **prompt: Any) -> list[float]:
    found = open_scorer(PluginRoute(name=scorer)).score(Prompt(draw=1, **prompt), view(*seen, cached=cached))
    return [round(score, 4) for score in found]


def test_prefix_is_the_share_of_the_prompt_that_is_held() -> None:
    three = load("a"), load("b"), load("c")
    assert scores("prefix", *three, cached=(0, 512, 4096), tokens=1024) == [0, 0.5, 1]
    assert scores("prefix", *three, cached=(0, 512, 4096)) == [0, 0, 0]


def test_kv_use_is_estimated_where_an_engine_does_not_say() -> None:
    known, own, nothing = load(kv_use=0.25), load(context_tokens=300, kv_tokens=400), load()
    assert scores("kv-use", known, own, nothing) == [0.75, 0.25, 0.5]


def test_queues_and_running_requests_are_told_apart_by_their_spread() -> None:
    assert scores("queue", load(waiting=8), load(waiting=4), load(prefilling=0)) == [0, 0.5, 1]
    assert scores("running", load(running=8), load(running=1, in_flight=4), load()) == [0, 0.5, 1]
    assert scores("queue", load(waiting=3), load(waiting=3)) == [1, 1]


def test_in_flight_tokens_halve_the_score_at_half_tokens() -> None:
    assert scores("in-flight-tokens", load(), load(uncached_tokens=8192)) == [1, 0.5]


def test_an_adapter_is_best_where_it_is_loaded_and_next_where_a_slot_is_free() -> None:
    has, free = load(adapters=frozenset("x"), adapter_slots=1), load(adapter_slots=1)
    full, silent = load(adapters=frozenset("y"), adapter_slots=1), load()
    assert scores("lora", has, free, full, silent, adapter="x") == [1, 0.8, 0, 0.5]
    assert scores("lora", has, full) == [1, 1]
    one = open_filter(PluginRoute(name="lora"))
    assert one.keep(Prompt(draw=1, adapter="x"), view(full, has, free)) == [1]
    assert one.keep(Prompt(draw=1, adapter="z"), view(full, has, free, silent)) == [2, 3]


def test_cost_is_the_ratio_to_the_cheapest() -> None:
    assert scores("cost", load(token_price=2), load(token_price=8), load()) == [1, 0.25, 1]


def test_context_length_prefers_the_tightest_range_that_holds_the_request() -> None:
    small = load(labels={"penstock.dev/context-length-range": "0-4000"})
    large = load(labels={"llm-d.ai/context-length-range": "4001-40000"})
    assert scores("context-length", small, large, load(), tokens=1500, output_tokens=500) == [0.65, 0.15, 0.5]
    assert scores("context-length", small, large, load(), tokens=20000) == [0.06, 0.65, 0.5]
    one = open_filter(PluginRoute(name="context-length"))
    assert one.keep(Prompt(draw=1, tokens=4000), view(small, large, load())) == [0, 2]
    assert one.keep(Prompt(draw=1, tokens=4001), view(small, large, load())) == [1, 2]


def test_sessions_stay_when_another_endpoint_goes() -> None:
    every = [load(name) for name in "abcdef"]
    for number in range(60):
        home = scores("session", *every, session=f"s{number}").index(1.0)
        gone = (home + 1) % len(every)
        left = [one for one in every if one is not every[gone]]
        assert left[scores("session", *left, session=f"s{number}").index(1.0)] is every[home]


def test_latency_counts_what_waits_and_what_the_prompt_itself_needs() -> None:
    idle, busy = load(**RATES), load(uncached_tokens=2000, **RATES)
    answer = 64 * 0.01 * (1 + 1000 / 131_072)
    own, ahead = 0.1, 0.2
    assert scores("predicted-latency", idle, busy, tokens=1000) == pytest.approx(
        [1, (4 * (own + answer) + 0.001) / (4 * (own + ahead + answer) + 0.001)], abs=1e-4
    )


def test_latency_prefers_the_faster_endpoint_and_says_by_how_much() -> None:
    fast, slow = load(**RATES), load(is_measured=True, prefill_token_s=2e-4, decode_s=0.02)
    best, other = scores("predicted-latency", fast, slow, tokens=1000)
    assert best == 1
    assert other == pytest.approx(0.5, abs=0.001)


def test_a_cache_hit_is_worth_the_queue_that_it_saves() -> None:
    cold, held = load(**RATES), load(uncached_tokens=3000, **RATES)
    cold_score, held_score = scores("predicted-latency", cold, held, cached=(0, 4000), tokens=4000)
    assert held_score > cold_score
    longer = load(uncached_tokens=40_000, **RATES)
    cold_score, longer_score = scores("predicted-latency", cold, longer, cached=(0, 4000), tokens=4000)
    assert longer_score < cold_score


def test_a_prompt_is_computed_once_more_only_where_the_holder_is_four_times_as_slow() -> None:
    for ahead, stays in ((14_000, True), (18_000, False)):
        cold, holder = load(**RATES), load(uncached_tokens=ahead, **RATES)
        cold_score, holder_score = scores(
            "predicted-latency", cold, holder, cached=(0, 4000), tokens=4000, output_tokens=1
        )
        assert (holder_score > cold_score) is stays


def test_a_prompt_goes_where_answers_have_just_begun_rather_than_where_they_are_long() -> None:
    old = load(in_flight=4, own_in_flight=4, own_sent_s=4 * 10.0, **RATES)
    new = load(in_flight=4, own_in_flight=4, own_sent_s=4 * 90.0, **RATES)
    others = load(in_flight=4, **RATES)
    at_100 = View([old, new, others], [0.0, 0.0, 0.0], 100.0)
    scorer = open_scorer(PluginRoute(name="predicted-latency"))
    old_score, new_score, other_score = scorer.score(Prompt(draw=1, tokens=4000), at_100)
    assert old_score < other_score < new_score == 1.0
    even = open_scorer(PluginRoute(name="predicted-latency", parameters=(("seniority", 0.0),)))
    assert even.score(Prompt(draw=1, tokens=4000), at_100) == [1.0, 1.0, 1.0]


def test_a_long_prompt_avoids_where_it_would_hold_up_answers() -> None:
    answering, idle = load(in_flight=8, **RATES), load(**RATES)
    assert scores("predicted-latency", answering, idle, tokens=8000)[0] < 0.8
    assert scores("predicted-latency", answering, idle, tokens=10)[0] > 0.95


def test_an_endpoint_whose_rates_are_unknown_is_taken_to_be_like_the_others() -> None:
    fast, slow = load(**RATES), load(is_measured=True, prefill_token_s=3e-4, decode_s=0.03)
    mean = load(is_measured=True, prefill_token_s=2e-4, decode_s=0.02)
    among = scores("predicted-latency", fast, slow, load(), tokens=1000)
    assert among == scores("predicted-latency", fast, slow, mean, tokens=1000)


def test_while_no_rate_is_known_the_cost_is_in_tokens() -> None:
    cold, held = load(in_flight=1, context_tokens=84), load(uncached_tokens=100)
    assert scores("predicted-latency", cold, held, cached=(0, 900), tokens=1000) == [
        round((1.3 * (100 + 100 + 0.032 * 1000) + 1) / (4 * (1000 + 500 + 16 + 0.032 * 1084) + 1), 4),
        1,
    ]


def test_short_prompts_go_where_the_least_requests_are_while_rates_are_unknown() -> None:
    assert scores("predicted-latency", load(in_flight=2), load(in_flight=1))[0] < 1


def test_an_engine_that_does_not_batch_well_gets_fewer_requests_at_once() -> None:
    def of_the_busy_one(**known: Any) -> float:
        busy, idle = load("a", in_flight=4, **RATES, **known), load("b", **RATES, **known)
        return scores("predicted-latency", busy, idle, tokens=10)[0]

    assert of_the_busy_one() > 0.95
    assert of_the_busy_one(step_requests=4.0) == pytest.approx(0.5, abs=0.02)


def test_who_starts_slowly_takes_a_share_of_what_is_new_and_all_that_it_holds() -> None:
    warm, slow = load("a"), load("b", weight=0.2)
    one = open_filter(PluginRoute(name="healthy"))
    prompts = [Prompt(draw=random.Random(i).getrandbits(64), tokens=1000) for i in range(500)]
    new = sum(one.keep(prompt, view(warm, slow)) == [0, 1] for prompt in prompts)
    assert 60 < new < 140
    assert all(one.keep(prompt, view(warm, slow, cached=(0.0, 500.0))) == [0, 1] for prompt in prompts)
