"""May this service sleep, and must it wake? Knative's bounds, and the two parts of the way to zero."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.scale_to_zero import UNKNOWN, Active, Applied, Seen, activators, apply_scale, mode_of
from penstock.resources.autoscaler_settings import AutoscalerSettings

SETTINGS = AutoscalerSettings()
SERVING = Seen(active="True", age_s=1e6, replicas=1)
SLEEPY = Seen(active="False", age_s=0.0, replicas=1)


@pytest.mark.parametrize(
    ("desired", "bounds", "wanted"),
    [
        (3, {}, 3),
        (3, {"max_scale": 2}, 2),
        (1, {"min_scale": 2}, 2),
        (9, {"min_scale": 5, "max_scale": 2}, 2),
        (3, {"min_scale": 5, "max_scale": 2}, 5),  # the lower bound wins
        (0, {"min_scale": 1}, 1),
    ],
)
def test_a_wish_is_brought_within_its_bounds(desired: int, bounds: dict[str, int], wanted: int) -> None:
    assert apply_scale(replace(SETTINGS, **bounds), desired, SERVING).wanted == wanted


def test_a_revision_that_is_not_reachable_has_no_lower_bound() -> None:
    seen = Seen(active="False", age_s=1e6, reachable=False, replicas=3)
    assert apply_scale(replace(SETTINGS, min_scale=2), 0, seen).replicas == 0


def test_the_initial_scale_is_a_lower_bound_until_the_first_start_is_done() -> None:
    settings = replace(SETTINGS, initial_scale=4)
    assert apply_scale(settings, 1, replace(SERVING, initialized=False)).wanted == 4
    assert apply_scale(settings, 1, SERVING).wanted == 1


@pytest.mark.parametrize(("active", "wanted"), [("True", UNKNOWN), ("False", UNKNOWN), ("Unknown", 2)])
def test_before_anything_is_decided_only_a_start_is_brought_to_its_least(active: Active, wanted: int) -> None:
    seen = Seen(active=active, age_s=1.0, replicas=0)
    assert apply_scale(replace(SETTINGS, min_scale=2), UNKNOWN, seen).wanted == wanted


def test_only_what_changes_is_written() -> None:
    assert apply_scale(SETTINGS, 1, SERVING).replicas is None
    assert apply_scale(SETTINGS, 2, SERVING).replicas == 2


def test_where_scale_to_zero_is_switched_off_one_pod_stays() -> None:
    assert apply_scale(replace(SETTINGS, enable_scale_to_zero=False), 0, SLEEPY).wanted == 1


@pytest.mark.parametrize(
    ("seen", "wanted", "replicas", "again_s"),
    [
        (Seen(active="Unknown", age_s=600.0, replicas=1), UNKNOWN, None, 30.0),
        (Seen(active="Unknown", age_s=630.5, replicas=1), 0, 0, None),
        (Seen(active="True", age_s=20.0, replicas=1), 1, None, 40.0),
        (Seen(active="True", age_s=60.0, replicas=1), 0, None, None),
        (Seen(active="True", age_s=60.0, replicas=1, proxied_s=5.0), 0, None, 3.0),
        (Seen(active="False", age_s=10.0, replicas=1, proxied_s=10.0), 0, None, 20.0),
        (Seen(active="False", age_s=29.0, replicas=1, proxied_s=30.0), 0, 0, None),
        (Seen(active="False", age_s=30.0, replicas=1), 0, 0, None),
        (Seen(active="False", age_s=99.0, replicas=1, probed=False), 0, None, 1.0),
    ],
)
def test_the_way_to_zero(seen: Seen, wanted: int, replicas: int | None, again_s: float | None) -> None:
    applied = apply_scale(SETTINGS, 0, seen)
    assert (applied.wanted, applied.replicas, applied.again_s) == (wanted, replicas, again_s)


def test_the_last_pod_is_kept_for_its_retention_period() -> None:
    settings = replace(SETTINGS, pod_retention_period_s=100.0)
    early = apply_scale(settings, 0, Seen(active="False", age_s=60.0, replicas=1, proxied_s=60.0))
    assert early == Applied(0, None, 40.0, "its last pod is kept for 100 s")
    assert apply_scale(settings, 0, Seen(active="False", age_s=100.0, replicas=1)).replicas == 0
    gone = Seen(active="False", age_s=31.0, replicas=1, reachable=False)
    assert apply_scale(settings, 0, gone).replicas == 0


def test_without_a_burst_capacity_limit_nobody_is_asked_whether_requests_are_held() -> None:
    settings = replace(SETTINGS, target_burst_capacity=-1.0)
    assert apply_scale(settings, 0, Seen(active="False", age_s=99.0, replicas=1, probed=False)).replicas == 0


@pytest.mark.parametrize(
    ("wanted", "excess", "inactive", "mode"),
    [
        (1, 0, False, "Serve"),
        (1, -1, False, "Proxy"),
        (0, 50, False, "Proxy"),
        (UNKNOWN, 50, True, "Proxy"),
        (UNKNOWN, 50, False, "Serve"),
    ],
)
def test_whether_requests_go_straight_to_pods(wanted: int, excess: int, inactive: bool, mode: str) -> None:
    assert mode_of(wanted, excess, inactive=inactive) == mode


@pytest.mark.parametrize(
    ("burst", "ready", "count"), [(0, 50, 2), (-1, 0, 2), (200, 1, 3), (211, 0, 3), (0.5, 0, 2), (100, 9, 10)]
)
def test_how_many_gateways_are_in_the_path(burst: float, ready: int, count: int) -> None:
    assert activators(replace(SETTINGS, target_burst_capacity=burst), ready) == count


SEEN = st.builds(
    Seen,
    active=st.sampled_from(["True", "False", "Unknown"]),
    age_s=st.floats(0, 5000),
    reachable=st.booleans(),
    initialized=st.booleans(),
    replicas=st.integers(0, 20),
    proxied_s=st.none() | st.floats(0, 5000),
    probed=st.booleans(),
)
BOUNDED = st.builds(AutoscalerSettings, min_scale=st.integers(0, 5), max_scale=st.sampled_from([0, 5, 9]))


@given(BOUNDED, st.integers(1, 50), SEEN)
def test_whoever_is_asked_for_never_loses_the_last_pod(
    settings: AutoscalerSettings, desired: int, seen: Seen
) -> None:
    applied = apply_scale(settings, desired, seen)
    assert applied.wanted >= 1
    assert applied.replicas is None or applied.replicas >= 1


@given(BOUNDED, SEEN)
def test_the_last_pod_goes_only_from_what_is_inactive_or_never_became_ready(
    settings: AutoscalerSettings, seen: Seen
) -> None:
    if apply_scale(settings, 0, seen).replicas == 0:
        assert seen.active == "False" or (
            seen.active == "Unknown" and seen.age_s > settings.progress_deadline_s
        )
