"""What a container used, as its recommended size rests on it."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.vpa_history import (
    CPU_BUCKETS,
    DAY_S,
    MEMORY_BUCKETS,
    History,
    Rules,
    Sample,
    Window,
    observe,
    observe_oom,
    rules_of,
    without_usage_peak,
)
from penstock.resources.vpa import ContainerResourcePolicy

NOW = 20_000 * DAY_S
MIB, GIB = 1 << 20, 1 << 30


def seen(*samples, request_cores=1.0, history=None, window=None, rules=None):
    history, window = history or History(), window or Window()
    for sample in samples:
        result = observe(history, window, sample, request_cores, rules)
        history, window = result.history, result.window
    return history, window


def weight(histogram, value):
    return histogram.weights.get(histogram.buckets.find(value), 0.0)


def units(histogram):
    """The sum of weights in samples of weight one, all of the reference's day."""
    return sum(histogram.weights.values())


def test_a_cpu_sample_weighs_what_was_requested_and_at_least_a_tenth_of_a_core():
    for request, expected in ((2.0, 2.0), (0.01, 0.1), (0.0, 0.1)):
        history, _ = seen(Sample(NOW, 0.5), request_cores=request)
        assert weight(history.cpu, 0.5) == pytest.approx(expected)


def test_memory_has_one_sample_for_each_day_its_peak():
    minutes = (Sample(NOW + 60 * m, None, (200 + m) * MIB) for m in range(1, 30))
    history, window = seen(*minutes)
    # The first sample ends its own window; the rest are one day's peak.
    assert window.peak_bytes == 229 * MIB
    assert [b for b, w in sorted(history.memory.weights.items()) if w > 1e-6] == sorted(
        {MEMORY_BUCKETS.find(229 * MIB)}
    )


def test_a_lower_use_in_the_same_day_changes_nothing():
    history, window = seen(Sample(NOW, None, GIB), Sample(NOW + 60, None, GIB))
    after, _ = seen(Sample(NOW + 120, None, 100 * MIB), history=history, window=window)
    assert after.memory == history.memory


def test_the_next_day_has_a_peak_of_its_own():
    history, window = seen(Sample(NOW, None, GIB), Sample(NOW + DAY_S + 1, None, 2 * GIB))
    assert weight(history.memory, GIB) > 0
    assert weight(history.memory, 2 * GIB) > 0
    assert window.peak_bytes == 2 * GIB
    assert window.ends_s == NOW + 2 * DAY_S


@given(st.lists(st.floats(1e7, 1e11), min_size=1, max_size=40))
def test_however_memory_moves_in_a_day_it_counts_once_with_its_peak(uses):
    history, window = seen(*(Sample(NOW + 60 * m, None, used) for m, used in enumerate(uses)))
    assert window.peak_bytes == max(uses)
    filled = {b: w for b, w in history.memory.weights.items() if w > 1e-6}
    assert list(filled) == [MEMORY_BUCKETS.find(max(uses))]


@pytest.mark.parametrize(
    ("request_bytes", "peak", "needed"),
    [
        (GIB, 0, GIB * 1.2),
        (100 * MIB, 0, 200 * MIB),
        (100 * MIB, 2 * GIB, 2 * GIB * 1.2),
        (500 * MIB, 100 * MIB, 600 * MIB),
    ],
)
def test_running_out_of_memory_asks_for_a_fifth_or_100_mib_more(request_bytes, peak, needed):
    history, window = seen(Sample(NOW, None, peak)) if peak else (History(), Window())
    result = observe_oom(history, window, request_bytes, NOW + 60)
    assert result.window.oom_bytes == pytest.approx(needed)
    assert weight(result.history.memory, needed) > 0
    assert "ran out of memory" in result.reasons[0]


def test_the_policy_says_how_much_more_and_over_which_days():
    rules = rules_of(
        ContainerResourcePolicy(
            oom_bump_up_ratio="2",
            oom_min_bump_up="1Mi",
            memory_aggregation_interval_seconds=3600,
            memory_aggregation_interval_count=4,
        )
    )
    assert rules == Rules(interval_s=3600.0, intervals=4, oom_ratio=2.0, oom_bytes=MIB)
    assert observe_oom(History(), Window(), GIB, NOW, rules).window.oom_bytes == 2 * GIB
    assert rules_of(None) == rules_of(ContainerResourcePolicy()) == Rules()


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_an_impossible_use_is_left_out_with_a_reason(value):
    result = observe(History(), Window(), Sample(NOW, value, value), 1.0)
    assert result.history == History()
    assert len(result.reasons) == 2


def test_a_history_without_samples_for_eight_days_begins_anew():
    history, window = seen(Sample(NOW, 1.0, GIB))
    later = observe(history, window, Sample(NOW + 8 * DAY_S + 1, 0.5, MIB), 1.0)
    assert later.history.samples == 1
    assert weight(later.history.cpu, 1.0) == 0
    assert "ended" in later.reasons[0]


def test_a_clock_that_went_back_a_little_counts_as_standing_still():
    history, window = seen(Sample(NOW, 1.0, 100 * MIB))
    later = observe(history, window, Sample(NOW - 3600, 1.0, GIB), 1.0)
    assert (later.history.samples, later.history.last_sample_s) == (2, NOW)
    assert later.window.peak_bytes == GIB


def test_a_clock_that_had_been_years_ahead_does_not_blind_the_recommender():
    ahead = NOW + 1000 * DAY_S
    history, window = seen(Sample(ahead, 4.0, GIB))
    later = observe(history, window, Sample(NOW, 1.0, 100 * MIB), 1.0)
    assert later.history.cpu.percentile(0.9) == CPU_BUCKETS.end(CPU_BUCKETS.find(1.0))
    assert later.history.memory.percentile(0.9) == MEMORY_BUCKETS.end(MEMORY_BUCKETS.find(100 * MIB))


@pytest.mark.parametrize(
    ("days", "samples", "confidence"), [(0, 1, 0), (1, 1440, 1), (2, 1440, 1), (1, 14400, 1), (10, 7200, 5)]
)
def test_confidence_is_days_of_history_or_of_samples_whichever_is_less(days, samples, confidence):
    history = History(first_sample_s=NOW, last_sample_s=NOW + days * DAY_S, samples=samples)
    assert history.confidence == pytest.approx(confidence)


def test_what_is_written_down_leaves_out_a_peak_that_comes_again():
    history, window = seen(Sample(NOW, None, GIB))
    assert weight(without_usage_peak(history, window).memory, GIB) == pytest.approx(0)
    assert weight(without_usage_peak(history, Window()).memory, GIB) > 0


def test_what_is_written_down_keeps_what_an_oom_taught():
    result = observe_oom(*seen(Sample(NOW, None, GIB)), GIB, NOW + 1)
    kept = without_usage_peak(result.history, result.window)
    assert kept == result.history


def test_other_pods_peaks_are_other_samples():
    history, _ = seen(Sample(NOW, None, GIB))
    history, _ = seen(Sample(NOW, None, GIB), history=history, window=Window())
    assert weight(history.memory, GIB) == pytest.approx(
        2 * weight(seen(Sample(NOW, None, GIB))[0].memory, GIB)
    )
    assert units(replace(history).memory) > 0
