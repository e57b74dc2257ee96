"""The test keeps its false-alarm rate however often it is looked at, and finds what is worse within the requests that are stated."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exchange import LATENCY_BOUNDS_S
from penstock.decide.analysis import (
    Bounds,
    Counts,
    alarm_at,
    by_request,
    exceeding,
    grown,
    is_enough,
    slow_bucket,
    slow_buckets,
)

Pair = tuple[Counts, Counts]
EQUAL = Bounds()


def found_after(
    seen_of: Callable[[int, int], Pair], bounds: Bounds, requests: int, share: float, alpha: float, seed: int
) -> int | None:
    """How many canary requests it takes until the alarm, looking after each batch of twenty; None if it never comes."""
    rng = random.Random(seed)
    seen, block, log_e, canary = (Counts(), Counts()), (Counts(), Counts()), 0.0, 0
    for _ in range(requests // 20):
        chosen = sum(rng.random() < share for _ in range(20))
        one = seen_of(20 - chosen, chosen)
        canary += chosen
        block = (block[0] + one[0], block[1] + one[1])
        if is_enough(block, bounds):
            log_e = grown(log_e, seen, block, bounds)
            seen, block = (seen[0] + block[0], seen[1] + block[1]), (Counts(), Counts())
            if log_e >= alarm_at(alpha, 1):
                return canary
    return None


def coin(seed: int, stable: float, canary: float) -> Callable[[int, int], Pair]:
    rng = random.Random(seed)

    def seen(n: int, m: int) -> Pair:
        return (
            Counts(sum(rng.random() < stable for _ in range(n)), n),
            Counts(sum(rng.random() < canary for _ in range(m)), m),
        )

    return seen


@pytest.mark.parametrize(
    ("stable", "canary", "bounds"),
    [
        (0.05, 0.05, EQUAL),
        (0.5, 0.5, EQUAL),
        (0.02, 0.03, Bounds(ratio=1.5)),
        (0.002, 0.007, Bounds(margin=0.005)),
        (0.3, 0.01, Bounds(ratio=0, margin=0.01)),
        (0.2, 0.05, EQUAL),
    ],
)
def test_a_canary_that_is_just_as_bad_as_allowed_raises_fewer_false_alarms_than_stated(
    stable: float, canary: float, bounds: Bounds
) -> None:
    """150 rollouts of 1,500 requests, looked at after each batch: with 10 % stated, 26 alarms have a probability below 1 in 1,000."""
    alarms = sum(
        found_after(coin(seed, stable, canary), bounds, 1500, 0.25, 0.1, seed) is not None
        for seed in range(150)
    )
    assert alarms < 26


@pytest.mark.parametrize(
    ("stable", "canary", "bounds", "within"),
    [
        (0.01, 1.0, Bounds(margin=0.005), 30),
        (0.01, 0.2, Bounds(margin=0.005), 60),
        (0.01, 0.1, Bounds(margin=0.005), 150),
        (0.05, 0.3, EQUAL, 60),
        (0.05, 0.1, EQUAL, 800),
        (0.3, 0.1, Bounds(ratio=0, margin=0.01), 120),
    ],
)
def test_a_bad_canary_is_found_within_so_many_of_its_own_requests(
    stable: float, canary: float, bounds: Bounds, within: int
) -> None:
    """The median of 21 rollouts at a share of 10 % and a false-alarm rate of 1 %; a canary that always fails takes a dozen requests."""
    found = [
        found_after(coin(seed, stable, canary), bounds, 15 * within, 0.1, 0.01, seed) for seed in range(21)
    ]
    assert sorted(math.inf if one is None else one for one in found)[10] <= within


def test_gaps_of_streams_that_hang_together_raise_no_more_alarms_when_they_count_as_their_request() -> None:
    """Each request has forty gaps, all of them slow or none: taken for forty requests they would be false evidence."""

    def story(seed: int) -> Callable[[int, int], Pair]:
        plain = coin(seed, 0.1, 0.1)

        def seen(n: int, m: int) -> Pair:
            return tuple(  # type: ignore[return-value]
                by_request(Counts(40 * one.exceeded, 40 * one.total), one.total) for one in plain(n, m)
            )

        return seen

    alarms = sum(found_after(story(seed), EQUAL, 1000, 0.25, 0.1, seed) is not None for seed in range(100))
    assert alarms < 20


rates = st.floats(0.01, 0.99)


@given(
    rates,
    st.floats(0, 1),
    st.integers(1, 4),
    st.integers(1, 3),
    st.floats(1, 3),
    st.floats(0, 0.3),
    st.data(),
)
def test_the_mean_of_each_factor_is_at_most_one_wherever_the_canary_is_as_good_as_allowed(
    stable: float, below: float, n: int, m: int, ratio: float, margin: float, data: st.DataObject
) -> None:
    bounds = Bounds(ratio, margin)
    canary = below * min(ratio * stable + margin, 1.0)
    counts = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda pair: Counts(pair[0], sum(pair)))
    seen = data.draw(counts), data.draw(counts)
    mean = 0.0
    for k, j in product(range(n + 1), range(m + 1)):
        chance = math.comb(n, k) * stable**k * (1 - stable) ** (n - k)
        chance *= math.comb(m, j) * canary**j * (1 - canary) ** (m - j)
        mean += chance * math.exp(grown(0.0, seen, (Counts(k, n), Counts(j, m)), bounds))
    assert mean <= 1 + 1e-9


def test_requests_of_only_one_revision_are_no_evidence_unless_the_limit_is_absolute() -> None:
    seen = Counts(1, 100), Counts(50, 100)
    block = Counts(0, 0), Counts(20, 20)
    assert grown(0.0, seen, block, EQUAL) == 0.0
    assert grown(0.0, seen, block, Bounds(ratio=0, margin=0.1)) > 0
    assert grown(0.0, seen, (Counts(0, 20), Counts(0, 0)), EQUAL) == 0.0


def test_the_more_gates_the_more_evidence_each_needs() -> None:
    assert math.exp(alarm_at(0.01, 1)) == pytest.approx(100)
    assert math.exp(alarm_at(0.01, 4)) == pytest.approx(400)


def buckets(*times_s: float) -> list[int]:
    counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
    for time_s in times_s:
        counts[next((i for i, b in enumerate(LATENCY_BOUNDS_S) if time_s <= b), len(LATENCY_BOUNDS_S))] += 1
    return counts


@given(
    st.lists(st.floats(0.001, 900), min_size=200, max_size=300),
    st.sampled_from([0.5, 0.9, 0.95]),
    st.sampled_from([1.0, 1.2, 1.5, 2.0]),
)
def test_a_canary_whose_times_are_the_stable_ones_stretched_by_the_ratio_is_never_counted_slow_more_often(
    times_s: list[float], quantile: float, ratio: float
) -> None:
    stable, canary = buckets(*times_s), buckets(*(time_s * ratio * (1 - 1e-6) for time_s in times_s))
    chosen = slow_buckets(stable, LATENCY_BOUNDS_S, quantile, ratio)
    assert chosen is not None
    assert exceeding(canary, chosen[1]).exceeded <= exceeding(stable, chosen[0]).exceeded


def test_little_is_known_of_a_tail_from_few_requests() -> None:
    assert slow_buckets(buckets(*[0.1] * 19), LATENCY_BOUNDS_S, 0.95, 1.5) is None
    assert slow_buckets(buckets(*[0.1] * 20), LATENCY_BOUNDS_S, 0.95, 1.5) is not None
    assert slow_buckets((), LATENCY_BOUNDS_S, 0.95, 1.5) is None


def test_a_limit_in_seconds_is_rounded_up_to_a_bucket() -> None:
    assert LATENCY_BOUNDS_S[slow_bucket(LATENCY_BOUNDS_S, 0.008)] == pytest.approx(0.008)
    assert LATENCY_BOUNDS_S[slow_bucket(LATENCY_BOUNDS_S, 0.0081)] == pytest.approx(0.0113, abs=1e-4)
