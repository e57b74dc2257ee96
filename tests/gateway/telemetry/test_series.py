"""What is counted is told once and whole, in both text formats, also as the sum over workers."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families

from penstock.gateway.telemetry.series import OTHER, Counter, Histogram, gauge, merge, text

VALUES = st.lists(st.floats(0, 10), max_size=20)
BUCKETS = (0.5, 1.0, 5.0)


def measured(values: list[float]) -> Histogram:
    histogram = Histogram("taken_seconds", "Time", ("who",), BUCKETS)
    for value in values:
        histogram.observe(value, "me")
    return histogram


def samples(shown: str, *, openmetrics: bool = False) -> dict[tuple[str, ...], float]:
    parse = open_families if openmetrics else families
    return {(s.name, *s.labels.values()): s.value for family in parse(shown) for s in family.samples}


@given(VALUES, VALUES)
def test_the_sum_over_workers_is_what_one_worker_would_have_told(
    one: list[float], other: list[float]
) -> None:
    apart = merge([[measured(one).family()], [measured(other).family()]])
    together = [measured([*one, *other]).family()]
    shown, expected = samples(text(apart)), samples(text(together))
    assert shown.keys() == expected.keys()
    assert all(shown[key] == pytest.approx(expected[key]) for key in shown)


@pytest.mark.parametrize("openmetrics", [False, True])
@given(values=st.lists(st.floats(0, 10), min_size=1))
def test_buckets_are_cumulative_and_bounds_are_inclusive(values: list[float], openmetrics: bool) -> None:
    shown = samples(text([measured(values).family()], openmetrics=openmetrics), openmetrics=openmetrics)
    for bound in BUCKETS:
        assert shown["taken_seconds_bucket", "me", str(bound)] == sum(value <= bound for value in values)
    assert shown["taken_seconds_bucket", "me", "+Inf"] == shown["taken_seconds_count", "me"] == len(values)
    assert shown["taken_seconds_sum", "me"] == pytest.approx(sum(values))


@pytest.mark.parametrize("openmetrics", [False, True])
@given(label=st.text(max_size=20))
def test_a_label_comes_back_as_it_was_given(label: str, openmetrics: bool) -> None:
    counter = Counter("asked_total", 'Says "how" and\nwhy', ("who",))
    counter.add(label)
    shown = samples(text([counter.family()], openmetrics=openmetrics), openmetrics=openmetrics)
    assert shown["asked_total", label] == 1


def test_an_exemplar_stands_at_the_bucket_of_its_value_and_only_in_openmetrics() -> None:
    histogram = measured([0.7])
    histogram.exemplify(("me",), ("ab" * 16, 0.7, 12.5))
    histogram.exemplify(("you",), ("cd" * 16, 0.7, 12.5))
    assert len(histogram.family().exemplars) == 1
    (family,) = open_families(text([histogram.family()], openmetrics=True))
    found = {s.labels["le"]: s.exemplar for s in family.samples if s.exemplar}
    assert found.keys() == {"1.0"}
    assert (found["1.0"].labels, found["1.0"].value, float(found["1.0"].timestamp)) == (
        {"trace_id": "ab" * 16},
        0.7,
        12.5,
    )
    assert "ab" not in text([histogram.family()])


def test_of_two_workers_exemplars_the_newer_is_kept() -> None:
    old, new = measured([0.7]), measured([0.8])
    old.exemplify(("me",), ("old", 0.7, 1.0))
    new.exemplify(("me",), ("new", 0.8, 2.0))
    for order in ([old, new], [new, old]):
        assert "new" in text(merge([[h.family()] for h in order]), openmetrics=True)


def test_beyond_the_bound_of_label_sets_the_rest_is_counted_under_other() -> None:
    counter = Counter("asked_total", "Asked", ("tenant", "key"), max_rows=2)
    for key in ("a", "b", "c", "d", "a"):
        counter.add("t", key)
    assert samples(text([counter.family()])) == {
        ("asked_total", "t", "a"): 2, ("asked_total", "t", "b"): 1, ("asked_total", OTHER, OTHER): 2,
    }  # fmt: skip


def test_gauges_add_up_and_of_versions_the_least_counts() -> None:
    one = [gauge("busy", "Busy", (), [((), 2)]), gauge("version", "Version", (), [((), 7)], kind="gauge_min")]
    two = [gauge("busy", "Busy", (), [((), 3)]), gauge("version", "Version", (), [((), 5)], kind="gauge_min")]
    assert samples(text(merge([one, two]))) == {("busy",): 5, ("version",): 5}


def test_a_row_kept_at_hand_counts_as_observe_does() -> None:
    kept, observed = measured([]), measured([0.2])
    row = kept.row("me")
    row[bisect_left(BUCKETS, 0.2)] += 1
    row[-1] += 0.2
    assert kept.family() == observed.family()


def test_layouts_that_differ_are_not_added_up() -> None:
    with pytest.raises(ValueError, match="another layout"):
        merge([[gauge("a", "A", (), [])], [gauge("a", "A", ("who",), [])]])
