"""Token buckets: what is admitted, what is refused, and for how long."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exchange import RateLimit
from penstock.decide.quota import (
    Bucket,
    Reservation,
    Standing,
    debit,
    prompt_tokens,
    refill,
    reserve,
    reserved,
    settle,
    standing,
    used_tokens,
)


def bucket(requests: int = 0, tokens: int = 0, owner: str = "the key prod/ci", model: str = "*") -> Bucket:
    limit = RateLimit(model=model, requests_per_minute=requests, tokens_per_minute=tokens)
    return Bucket("key/a1", owner, limit, 0.0)


def levels(*buckets: Bucket) -> list[tuple[float, float]]:
    return [(b.requests, b.tokens) for b in buckets]


def test_a_minutes_worth_is_admitted_at_once_and_no_more() -> None:
    b = bucket(requests=60)
    assert [reserve([b], 0, 0, 0.0) is None for _ in range(61)] == [True] * 60 + [False]


def test_a_bucket_is_refilled_continuously() -> None:
    b = bucket(requests=60)
    for _ in range(60):
        reserve([b], 0, 0, 0.0)
    assert reserve([b], 0, 0, 0.5) is not None
    assert reserve([b], 0, 0, 1.0) is None
    assert reserve([b], 0, 0, 1.0) is not None


def test_a_refusal_names_the_limit_that_lasts_longest() -> None:
    key = bucket(requests=60)
    tenant = bucket(requests=6, owner="the tenant acme", model="prod/*")
    for _ in range(6):
        assert reserve([key, tenant], 0, 0, 0.0) is None
    refusal = reserve([key, tenant], 0, 0, 0.0)
    assert refusal is not None
    assert refusal.bucket is tenant
    assert refusal.retry_after_s == pytest.approx(10.0)
    assert refusal.message == (
        "the tenant acme may send 6 requests a minute to prod/*, the limit is used up for 10.000 s"
    )


def test_a_refusal_by_tokens_says_what_the_request_counts_as() -> None:
    b = bucket(tokens=600)
    reserve([b], 10, 500, 0.0)
    refusal = reserve([b], 10, 200, 0.0)
    assert refusal is not None
    assert refusal.message == (
        "the key prod/ci may send 600 tokens a minute: this request counts as 200, and the limit is used up for 10.000 s"
    )


def test_a_ceiling_above_the_bucket_takes_the_whole_bucket() -> None:
    b = bucket(tokens=1000)
    assert reserve([b], 10, 1_000_000, 0.0) is None
    assert b.tokens == 0
    assert reserved(b, 1_000_000) == 1000


def test_a_prompt_that_the_bucket_can_never_hold_is_refused_for_good() -> None:
    b = bucket(tokens=1000)
    refusal = reserve([b], 1001, 1513, 0.0)
    assert refusal is not None
    assert refusal.retry_after_s == inf
    assert (
        refusal.message
        == "the key prod/ci may send 1000 tokens a minute, and this prompt alone has about 1001"
    )
    assert reserve([b], 1000, 1512, 0.0) is None


def test_more_than_was_estimated_leaves_a_debt_that_refill_pays() -> None:
    b = bucket(tokens=600)
    reserve([b], 0, 100, 0.0)
    debit(b, 0, 1100, 0.0)
    assert b.tokens == -600
    refusal = reserve([b], 0, 10, 0.0)
    assert refusal is not None
    assert refusal.retry_after_s == pytest.approx(61.0)
    assert reserve([b], 0, 10, 61.0) is None


def test_what_is_given_back_never_fills_beyond_full() -> None:
    b = bucket(requests=10, tokens=100)
    reserve([b], 0, 50, 0.0)
    debit(b, -1, -50, 60.0)
    assert levels(b) == [(10, 100)]


@pytest.mark.parametrize(
    ("told", "used"),
    [((-1, -1), None), ((80, 40), 120), ((80, -1), 80), ((-1, 40), 140), ((80, 0), 80)],
)
def test_tokens_count_as_told_or_stay_as_reserved(told: tuple[int, int], used: int | None) -> None:
    assert used_tokens(100, *told) == used


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (4096, 1024)])
def test_a_prompt_is_estimated_by_its_bytes_rounded_up(size: int, tokens: int) -> None:
    assert prompt_tokens(size) == tokens


@given(
    tokens=st.integers(0, 20_000),
    used=st.integers(0, 20_000),
    requests=st.sampled_from([0, -1]),
    limits=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 6000)), min_size=1, max_size=3),
    later=st.floats(0, 90),
)
def test_settling_is_the_debit_of_the_difference(
    tokens: int, used: int, requests: int, limits: list[tuple[int, int]], later: float
) -> None:
    one = [bucket(requests=r, tokens=t) for r, t in limits]
    other = [bucket(requests=r, tokens=t) for r, t in limits]
    if reserve(one, 0, tokens, 0.0) is None:
        assert reserve(other, 0, tokens, 0.0) is None
        settle(Reservation(tuple(one), 0, tokens), requests, used, later)
        for b in other:
            debit(b, requests, used - reserved(b, tokens), later)
        assert [(b.requests, b.tokens, b.at) for b in one] == [
            (pytest.approx(b.requests), pytest.approx(b.tokens), b.at) for b in other
        ]


def test_the_standing_is_that_of_the_limit_with_the_least_left() -> None:
    wide, narrow = bucket(requests=60, tokens=6000), bucket(requests=6)
    reserve([wide, narrow], 100, 600, 0.0)
    requests, tokens = standing([wide, narrow], 0.0)
    assert requests == Standing(6, 5, pytest.approx(10.0))
    assert tokens == Standing(6000, 5400, pytest.approx(6.0))
    assert standing([narrow], 0.0)[1] is None


def test_time_that_goes_back_changes_nothing() -> None:
    b = bucket(requests=60)
    refill(b, 100.0)
    reserve([b], 0, 0, 100.0)
    before = (b.requests, b.at)
    refill(b, 50.0)
    assert (b.requests, b.at) == before


limits = st.builds(
    bucket, requests=st.sampled_from((0, 1, 7, 60, 600)), tokens=st.sampled_from((0, 1, 50, 1000, 10**9))
)
calls = st.tuples(st.floats(0.0, 30.0), st.integers(0, 2000), st.integers(0, 2000))


@given(st.lists(limits, min_size=1, max_size=4), st.lists(calls, max_size=60))
def test_no_sequence_admits_more_than_capacity_and_refill(
    buckets: list[Bucket], sequence: list[tuple[float, int, int]]
) -> None:
    now, requests, tokens = 0.0, 0, [0.0] * len(buckets)
    for wait_s, prompt, completion in sequence:
        now += wait_s
        if reserve(buckets, prompt, prompt + completion, now) is None:
            requests += 1
            tokens = [t + reserved(b, prompt + completion) for t, b in zip(tokens, buckets, strict=True)]
    for b, used in zip(buckets, tokens, strict=True):
        assert requests <= b.max_requests + b.requests_per_s * now + 0.01
        assert used <= b.max_tokens + b.tokens_per_s * now + 0.01


@given(st.lists(limits, min_size=1, max_size=4), st.lists(calls, max_size=40))
def test_all_buckets_give_or_none(buckets: list[Bucket], sequence: list[tuple[float, int, int]]) -> None:
    now = 0.0
    for wait_s, prompt, completion in sequence:
        now += wait_s
        for b in buckets:
            refill(b, now)
        before, tokens = levels(*buckets), prompt + completion
        if reserve(buckets, prompt, tokens, now) is not None:
            assert levels(*buckets) == before
            continue
        assert levels(*buckets) == [
            (requests - 1, held - reserved(b, tokens))
            for b, (requests, held) in zip(buckets, before, strict=True)
        ]


@given(limits, st.lists(calls, min_size=1, max_size=40))
def test_settling_with_the_estimate_changes_nothing(
    b: Bucket, sequence: list[tuple[float, int, int]]
) -> None:
    now = 0.0
    for wait_s, prompt, completion in sequence:
        now += wait_s
        tokens = prompt + completion
        if reserve([b], prompt, tokens, now) is None and tokens <= b.max_tokens:
            before = levels(b)
            debit(b, 0, (used_tokens(prompt, prompt, completion) or 0) - reserved(b, tokens), now)
            assert levels(b) == before


@given(st.lists(limits, min_size=1, max_size=3), st.lists(calls, min_size=1, max_size=40))
def test_the_wait_that_is_told_is_exact(
    buckets: list[Bucket], sequence: list[tuple[float, int, int]]
) -> None:
    now = 0.0
    for wait_s, prompt, completion in sequence:
        now += wait_s
        tokens = prompt + completion
        refusal = reserve(buckets, prompt, tokens, now)
        if refusal is None or refusal.retry_after_s == inf:
            continue
        early = now + refusal.retry_after_s * 0.9 - 0.01
        assert early <= now or reserve(buckets, prompt, tokens, early) is not None
        now += refusal.retry_after_s
        assert reserve(buckets, prompt, tokens, now) is None
