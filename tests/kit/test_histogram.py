"""Histograms that forget."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.histogram import Buckets, CompactHistogram, DecayingHistogram

DAY_S = 86_400.0
CORES = Buckets(first=0.01, growth=0.05, most=1000.0)
BYTES = Buckets(first=1e7, growth=0.05, most=1e12)
NOW = 20_000 * DAY_S
values = st.floats(0, 2000, allow_nan=False)
samples = st.lists(st.tuples(values, st.floats(0.1, 8), st.floats(NOW, NOW + 30 * DAY_S)), max_size=30)


def filled(*found, buckets=CORES):
    histogram = DecayingHistogram(buckets, DAY_S)
    for value, weight, at_s in found:
        histogram = histogram.add(value, weight, at_s)
    return histogram


def test_buckets_grow_by_five_percent():
    assert [CORES.start(n) for n in range(3)] == pytest.approx([0, 0.01, 0.0205])
    widths = [CORES.start(n + 1) - CORES.start(n) for n in range(CORES.count)]
    assert all(b == pytest.approx(a * 1.05) for a, b in itertools.pairwise(widths))


@pytest.mark.parametrize(("buckets", "count"), [(CORES, 176), (BYTES, 176)])
def test_the_buckets_reach_the_largest_value(buckets, count):
    assert buckets.start(buckets.count - 1) >= buckets.most
    assert buckets.count == pytest.approx(count, abs=1)


@given(values)
def test_a_value_lies_within_its_bucket(value):
    bucket = CORES.find(value)
    assert CORES.start(bucket) <= value * (1 + 1e-9) + 1e-12
    assert value < CORES.start(bucket + 1) * (1 + 1e-9) or bucket == CORES.count - 1


def test_an_empty_histogram_has_percentiles_of_zero():
    assert filled().is_empty
    assert filled().percentile(0.9) == 0


def test_a_percentile_is_the_end_of_the_first_bucket_that_reaches_it():
    histogram = filled(*[(0.5, 1, NOW)] * 9, (5.0, 1, NOW))
    assert histogram.percentile(0.9) == CORES.end(CORES.find(0.5))
    assert histogram.percentile(0.95) == CORES.end(CORES.find(5.0))


def test_a_sample_counts_half_after_a_half_life():
    """Two old samples against one new: even after one half-life, so the median moves to the new after a bit more."""
    old, new = (1.0, 2, NOW), (10.0, 1, NOW + DAY_S)
    assert filled(old, new).percentile(0.5) == CORES.end(CORES.find(1.0))
    assert filled(old, (10.0, 1, NOW + 1.01 * DAY_S)).percentile(0.5) == CORES.end(CORES.find(10.0))


@given(samples, st.floats(0, 1))
def test_renormalising_changes_no_percentile(found, share):
    """A sample of no weight far ahead shifts the reference and nothing else, until weights are too light to count."""
    histogram = filled(*((value, weight * 1e6, at_s) for value, weight, at_s in found))
    base = DecayingHistogram(CORES, DAY_S, histogram.weights, histogram.reference_s)
    scaled = DecayingHistogram(
        CORES, DAY_S, {b: w * 2.0**-3 for b, w in base.weights.items()}, base.reference_s + 3 * DAY_S
    )
    assert scaled.percentile(share) == base.percentile(share)


def test_weights_stay_finite_for_decades():
    histogram = filled()
    for years in range(60):
        histogram = histogram.add(1.0, 1.0, NOW + years * 365 * DAY_S)
    assert all(math.isfinite(weight) and weight < 2**101 for weight in histogram.weights.values())
    assert histogram.percentile(0.5) == CORES.end(CORES.find(1.0))


def test_what_is_much_older_is_forgotten():
    histogram = filled((500.0, 1, NOW), (1.0, 0.1, NOW + 200 * DAY_S))
    assert histogram.percentile(1.0) == CORES.end(CORES.find(1.0))


@given(samples, values, st.floats(0.1, 8))
def test_taking_a_sample_out_undoes_putting_it_in(found, value, weight):
    before = filled(*found, (1.0, 1.0, NOW))
    after = before.add(value, weight, NOW + DAY_S).subtract(value, weight, NOW + DAY_S)
    for bucket in after.weights:
        assert after.weights[bucket] == pytest.approx(before.weights.get(bucket, 0), abs=1e-6, rel=1e-6)


@given(samples)
def test_percentiles_grow_with_their_share(found):
    histogram = filled(*found)
    marks = [histogram.percentile(p) for p in (0, 0.25, 0.5, 0.9, 0.95, 1)]
    assert marks == sorted(marks)


@given(samples)
def test_what_is_written_down_reads_back_to_within_a_ten_thousandth(found):
    histogram = filled(*found)
    written = histogram.compact()
    assert all(0 < weight <= 10_000 for weight in written.weights.values())
    read = filled().restored(written)
    whole = sum(histogram.weights.values())
    for bucket, weight in histogram.weights.items():
        assert read.weights.get(bucket, 0) == pytest.approx(weight, abs=whole * 5e-3)
    assert read.compact().weights == pytest.approx(written.weights, abs=1)


@pytest.mark.parametrize(
    "written",
    [
        CompactHistogram({-1: 1}, 1, NOW),
        CompactHistogram({10_000: 1}, 1, NOW),
        CompactHistogram({1: -1}, 1, NOW),
        CompactHistogram({1: 1}, -1, NOW),
        CompactHistogram({1: 1}, math.nan, NOW),
        CompactHistogram({1: 1}, 1, math.inf),
    ],
)
def test_what_cannot_have_been_written_is_refused(written):
    with pytest.raises(ValueError, match="out of range"):
        filled().restored(written)
