"""What holds for a revision: annotations over the profile over the cluster's configuration, and KServe's mapping of fields."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.resources.autoscaler_config import DEFAULTS, AutoscalerConfig
from penstock.resources.autoscaler_settings import (
    ALIASES,
    DOMAIN,
    METRIC,
    PROFILE,
    PROGRESS_DEADLINE,
    RESUME_WITHIN,
    AutoscalerSettings,
    annotations_of,
    settings_of,
)
from penstock.resources.serving import PredictorSpec
from penstock.resources.validate_autoscaling import scaling_problems


def settings(concurrency: int = 0, config: object = DEFAULTS, **annotations: str) -> AutoscalerSettings:
    given = {DOMAIN + key.replace("_", "-"): value for key, value in annotations.items()}
    return settings_of(given, concurrency, config)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("concurrency", "annotations", "total", "target"),
    [
        (0, {}, 100, 70),
        (10, {}, 10, 7),
        (1, {}, 1, 0.7),
        (0, {"target": "50"}, 50, 35),
        (10, {"target": "5"}, 5, 3.5),
        (10, {"target": "20"}, 10, 7),
        (10, {"target_utilization_percentage": "50"}, 10, 5),
        (0, {"target": "0.01", "target_utilization_percentage": "1"}, 0.01, 0.01),
        (0, {"metric": "rps"}, 200, 140),
        (5, {"metric": "rps", "target": "30"}, 30, 21),
        (0, {"metric": "rps", "target_utilization_percentage": "100"}, 200, 200),
    ],
)
def test_the_target_is_a_share_of_what_a_pod_carries_at_most(
    concurrency: int, annotations: dict[str, str], total: float, target: float
) -> None:
    known = settings(concurrency, **annotations)
    assert (known.total, known.target) == pytest.approx((total, target))


def test_the_configuration_of_the_cluster_holds_where_no_annotation_does() -> None:
    config = replace(
        DEFAULTS,
        target_utilization=0.5,
        target_concurrency=20.0,
        stable_window_s=100.0,
        min_scale=2,
        max_scale=9,
    )
    known = settings(config=config)
    assert (known.total, known.target, known.stable_window_s, known.panic_window_s) == (20, 10, 100, 10)
    assert (known.min_scale, known.max_scale) == (2, 9)
    own = settings(config=config, min_scale="0", max_scale="3", window="40s")
    assert (own.min_scale, own.max_scale, own.stable_window_s, own.panic_window_s) == (0, 3, 40, 4)


@pytest.mark.parametrize(
    ("window", "percent", "panic_s"),
    [
        ("60s", "10", 6),
        ("6s", "10", 1),
        ("6s", "1", 1),
        ("25s", "10", 3),
        ("24s", "10", 2),
        ("1h", "100", 3600),
    ],
)
def test_the_panic_window_is_rounded_to_whole_seconds(window: str, percent: str, panic_s: float) -> None:
    assert settings(window=window, panic_window_percentage=percent).panic_window_s == panic_s


def test_the_gpu_profile_reacts_calmly_and_gives_up_slowly() -> None:
    gpu = settings_of({PROFILE: "gpu"}, 0, DEFAULTS)
    assert (gpu.tick_s, gpu.stable_window_s, gpu.panic_window_s, gpu.panic_threshold) == (15, 180, 24, 2)
    assert (gpu.max_scale_up_rate, gpu.max_scale_down_rate) == (20, 1.1)
    assert (gpu.pod_retention_period_s, gpu.scale_down_delay_s) == (1800, 60)
    assert (gpu.total, gpu.target) == pytest.approx((100, 85))
    assert gpu.starts_aware


def test_an_annotation_wins_over_the_profile_and_the_profile_over_the_cluster() -> None:
    config = replace(DEFAULTS, stable_window_s=30.0, panic_threshold_percentage=300.0)
    own = {PROFILE: "gpu", f"{DOMAIN}window": "90s", f"{DOMAIN}scale-down-delay": "0s"}
    known = settings_of(own, 0, config)
    assert (known.stable_window_s, known.panic_window_s, known.scale_down_delay_s) == (90, 12, 0)
    assert known.panic_threshold == 2


@pytest.mark.parametrize(
    ("annotation", "total"), [("in-flight-tokens", 16384), ("queue-wait", 1), ("kv-cache-use", 100)]
)
def test_our_own_metrics_have_targets_of_their_own(annotation: str, total: float) -> None:
    known = settings_of({METRIC: annotation}, 8, DEFAULTS)
    assert (known.metric, known.total) == (annotation, total)
    assert known.target == pytest.approx(0.7 * total)


@pytest.mark.parametrize(("alias", "name"), sorted(ALIASES.items()))
def test_the_canonical_spelling_of_an_annotation_wins_over_its_alias(alias: str, name: str) -> None:
    values = {"metric-aggregation-algorithm": ("weighted-exponential", "linear")}
    durations = ("scale-down-delay", "scale-to-zero-pod-retention-period")
    first, second = values.get(name, ("7s", "9s") if name in durations else ("7", "9"))
    if name == "panic-threshold-percentage":
        first, second = "120", "150"
    alone = settings_of({DOMAIN + alias: first}, 0, DEFAULTS)
    assert alone == settings_of({DOMAIN + name: first}, 0, DEFAULTS) != settings_of({}, 0, DEFAULTS)
    assert settings_of({DOMAIN + alias: second, DOMAIN + name: first}, 0, DEFAULTS) == alone


@pytest.mark.parametrize(
    ("initial", "allowed", "size"), [("0", False, 1), ("0", True, 0), ("3", False, 3), ("-1", True, 1)]
)
def test_an_initial_scale_that_the_cluster_does_not_allow_is_dropped(
    initial: str, allowed: bool, size: int
) -> None:
    config = replace(DEFAULTS, allow_zero_initial_scale=allowed)
    assert settings(config=config, initial_scale=initial).initial_scale == size


@pytest.mark.parametrize(("most", "holds"), [(None, 5), ("0", 10), ("7", 7), ("11", 10)])
def test_nobody_gets_more_than_the_limit_of_the_cluster(most: str | None, holds: int) -> None:
    config = replace(DEFAULTS, max_scale=5, max_scale_limit=10)
    given = settings(config=config) if most is None else settings(config=config, max_scale=most)
    assert given.max_scale == holds


@pytest.mark.parametrize(
    ("predictor", "mapped"),
    [
        (PredictorSpec(), {"min-scale": "1"}),
        (PredictorSpec(min_replicas=0), {"min-scale": "0"}),
        (PredictorSpec(min_replicas=2, max_replicas=0), {"min-scale": "2"}),
        (
            PredictorSpec(max_replicas=4, scale_target=7, scale_metric="rps"),
            {"min-scale": "1", "max-scale": "4", "target": "7", "metric": "rps"},
        ),
    ],
)
def test_fields_are_mapped_as_kserve_does(predictor: PredictorSpec, mapped: dict[str, str]) -> None:
    assert annotations_of({}, predictor) == {DOMAIN + key: value for key, value in mapped.items()}


def test_fields_win_over_annotations_in_every_spelling_and_other_annotations_stay_behind() -> None:
    given = {f"{DOMAIN}minScale": "5", f"{DOMAIN}window": "30s", RESUME_WITHIN: "5s", "example.com/x": "y"}
    mapped = annotations_of(given, PredictorSpec(min_replicas=2))
    assert mapped == {f"{DOMAIN}min-scale": "2", f"{DOMAIN}window": "30s", RESUME_WITHIN: "5s"}


def test_deadlines_are_read() -> None:
    known = settings_of({RESUME_WITHIN: "5s", PROGRESS_DEADLINE: "20m"}, 0, DEFAULTS)
    assert (known.resume_within_s, known.progress_deadline_s) == (5, 1200)
    assert settings_of({RESUME_WITHIN: "-5s", PROGRESS_DEADLINE: "x"}, 0, DEFAULTS) == settings_of(
        {}, 0, DEFAULTS
    )


NAMES = sorted({*ALIASES.values(), *ALIASES, "window", "target", "metric", "class"} - {"class"})
ODD = st.sampled_from(
    ["", "-1", "0", "1", "2.5", "1e99", "nan", "1_0", " 7", "90s", "-3s", "9h", "linear", "rps"]
)


@given(st.dictionaries(st.sampled_from(NAMES), ODD), st.integers(0, 50))
def test_what_admission_would_refuse_is_as_if_it_were_not_there(
    annotations: dict[str, str], concurrency: int
) -> None:
    whole = {DOMAIN + key: value for key, value in annotations.items()}
    known = settings_of(whole, concurrency, DEFAULTS)
    assert known.target >= 0.01
    assert 6 <= known.stable_window_s <= 3600
    assert 1 <= known.panic_window_s <= known.stable_window_s
    assert 1.1 <= known.panic_threshold <= 10
    assert known.min_scale >= 0
    assert known.max_scale >= 0
    alone = {key: value for key, value in whole.items() if not scaling_problems({key: value})}
    if len({ALIASES.get(key, key) for key in annotations}) == len(annotations):
        assert settings_of(alone, concurrency, DEFAULTS) == known


def test_the_profile_holds_whatever_the_cluster_is_set_to() -> None:
    config = AutoscalerConfig(
        target_utilization=0.3,
        stable_window_s=30,
        panic_window_percentage=50,
        panic_threshold_percentage=500,
        max_scale_up_rate=2,
        max_scale_down_rate=9,
        pod_retention_period_s=1,
        scale_down_delay_s=1,
    )
    calm = {PROFILE: "gpu"}
    assert settings_of(calm, 0, config) == settings_of(calm, 0, DEFAULTS)


TEXTS = (
    "",
    "-1",
    "0",
    "1",
    "2",
    "7",
    "50",
    "1_0",
    " 5",
    "nan",
    "inf",
    "1e400",
    "9" * 20,
    "x",
    "10s",
    "-5s",
    "24h",
)


@given(
    st.dictionaries(st.sampled_from([*ALIASES, *ALIASES.values(), "window", "target", "metric"]), st.sampled_from(TEXTS)),
    st.sampled_from(["", "gpu"]),
    st.integers(0, 1000),
)  # fmt: skip
def test_whatever_is_written_the_settings_can_be_worked_with(
    texts: dict[str, str], profile: str, concurrency: int
) -> None:
    annotations = {DOMAIN + key: text for key, text in texts.items()} | {PROFILE: profile}
    found = settings_of(annotations, concurrency, DEFAULTS)
    assert 6 <= found.stable_window_s <= 3600
    assert 1 <= found.panic_window_s <= found.stable_window_s
    assert 0.01 <= found.target <= found.total
    assert not concurrency or found.metric != "concurrency" or found.total <= concurrency
    assert 1.1 <= found.panic_threshold <= 10
    assert found.target_burst_capacity >= -1
    assert 0 <= found.scale_down_delay_s <= 3600
    assert 0 <= found.pod_retention_period_s <= 3600
    assert found.activation_scale >= 1
    assert 0 <= found.min_scale < 2**31
    assert 0 <= found.max_scale < 2**31
