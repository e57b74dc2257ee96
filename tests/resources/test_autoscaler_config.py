"""The cluster's scaling configuration: Knative's keys, defaults and ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.resources.autoscaler_config import DEFAULTS, KEYS, AutoscalerConfig, parse_config


def test_the_defaults_are_knatives() -> None:
    assert parse_config({}) == (DEFAULTS, ())
    assert (
        AutoscalerConfig(
            target_utilization=0.7,
            target_concurrency=100,
            target_rps=200,
            target_burst_capacity=211,
            stable_window_s=60,
            panic_window_percentage=10,
            panic_threshold_percentage=200,
            max_scale_up_rate=1000,
            max_scale_down_rate=2,
            enable_scale_to_zero=True,
            scale_to_zero_grace_period_s=30,
            pod_retention_period_s=0,
            scale_down_delay_s=0,
            activator_capacity=100,
            initial_scale=1,
            allow_zero_initial_scale=False,
            min_scale=0,
            max_scale=0,
            max_scale_limit=0,
            autoscaler_class="kpa.autoscaling.knative.dev",
        )
        == DEFAULTS
    )


@pytest.mark.parametrize(
    ("key", "text", "name", "value"),
    [
        ("container-concurrency-target-percentage", "0.5", "target_utilization", 0.5),
        ("container-concurrency-target-percentage", "1", "target_utilization", 1.0),
        ("container-concurrency-target-percentage", "1.01", "target_utilization", 0.0101),
        ("container-concurrency-target-percentage", "100", "target_utilization", 1.0),
        ("enable-scale-to-zero", "TRUE", "enable_scale_to_zero", True),
        ("enable-scale-to-zero", "no", "enable_scale_to_zero", False),
        ("stable-window", "1h", "stable_window_s", 3600.0),
        ("stable-window", "6s", "stable_window_s", 6.0),
        ("target-burst-capacity", "-1", "target_burst_capacity", -1.0),
        ("target-burst-capacity", "0", "target_burst_capacity", 0.0),
        ("panic-window-percentage", "1", "panic_window_percentage", 1.0),
        ("scale-to-zero-pod-retention-period", "0", "pod_retention_period_s", 0.0),
        ("pod-autoscaler-class", "hpa.autoscaling.knative.dev", "autoscaler_class", "hpa.autoscaling.knative.dev"),
        ("max-scale", "2147483647", "max_scale", 2147483647),
    ],
)  # fmt: skip
def test_a_key_that_is_in_range_is_taken(key: str, text: str, name: str, value: object) -> None:
    config, problems = parse_config({key: text})
    assert problems == ()
    assert getattr(config, name) == pytest.approx(value)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("container-concurrency-target-percentage", "101", "= 1.010000 is outside of valid range of (0, 100]"),
        ("container-concurrency-target-percentage", "0", "= 0.000000 is outside of valid range of (0, 100]"),
        ("container-concurrency-target-percentage", "0.00001", "yield target concurrency of 0.001, can't be less than 0.01"),
        ("container-concurrency-target-default", "0.001", "must be at least 0.01, was: 0.001"),
        ("requests-per-second-target-default", "-5.25", "must be at least 0.01, was: -5.25"),
        ("target-burst-capacity", "-2", "must be either non-negative or -1 (for unlimited), was: -2.000000"),
        ("stable-window", "5s", "= 5s, must be in [6s; 1h0m0s] range"),
        ("stable-window", "2h", "= 2h0m0s, must be in [6s; 1h0m0s] range"),
        ("stable-window", "60500ms", "= 1m0.5s, must be specified with at most second precision"),
        ("panic-window-percentage", "0.5", "= 0.5, must be in [1, 100] interval"),
        ("panic-window-percentage", "110", "= 110, must be in [1, 100] interval"),
        ("max-scale-up-rate", "1", "= 1, must be greater than 1.0"),
        ("max-scale-down-rate", "0.9", "= 0.9, must be greater than 1.0"),
        ("scale-to-zero-grace-period", "0s", "must be positive, was: 0s"),
        ("scale-to-zero-pod-retention-period", "-4s", "cannot be negative, was: -4s"),
        ("scale-down-delay", "-1s", "cannot be negative, was: -1s"),
        ("scale-down-delay", "1500ms", "= 1.5s, must be specified with at most second precision"),
        ("activator-capacity", "0.95", "= 0.95, must be at least 1"),
        ("initial-scale", "0", "= 0, must be at least 0 (or at least 1 when allow-zero-initial-scale is false)"),
        ("min-scale", "-1", "= -1, must be at least 0"),
        ("max-scale", "-1", "= -1, must be in [0, max-scale-limit(0)] range"),
        ("max-scale-limit", "-1", "= -1, must be at least 0"),
        ("stable-window", "soon", "failed to parse"),
        ("max-scale", "2147483648", "failed to parse"),
        ("max-scale-up-rate", "inf", "failed to parse"),
        ("target-burst-capacity", "NaN", "failed to parse"),
    ],
)  # fmt: skip
def test_a_key_that_is_out_of_range_is_told_in_knatives_words_and_keeps_its_default(
    key: str, text: str, message: str
) -> None:
    config, problems = parse_config({key: text})
    assert [where for where, _ in problems] == [key]
    assert message in problems[0][1]
    assert config == DEFAULTS


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        ({"min-scale": "5", "max-scale": "4"}, True),
        ({"min-scale": "5", "max-scale": "0"}, False),
        ({"min-scale": "5", "max-scale": "5"}, False),
        ({"max-scale-limit": "10"}, True),
        ({"max-scale-limit": "10", "max-scale": "11"}, True),
        ({"max-scale-limit": "10", "max-scale": "10"}, False),
        ({"initial-scale": "0", "allow-zero-initial-scale": "True"}, False),
    ],
)
def test_bounds_must_agree_with_each_other(data: dict[str, str], wrong: bool) -> None:
    assert bool(parse_config(data)[1]) is wrong


def test_one_wrong_key_does_not_spoil_the_others() -> None:
    data = {"stable-window": "2x", "panic-window-percentage": "0", "max-scale-up-rate": "5"}
    config, problems = parse_config(data)
    assert len(problems) == 2
    assert config.max_scale_up_rate == 5
    assert (config.stable_window_s, config.panic_window_percentage) == (60, 10)


def test_old_and_unknown_keys_are_ignored() -> None:
    assert parse_config({"tick-interval": "x", "panic-window": "x", "_example": "x"}) == (DEFAULTS, ())


@given(
    st.dictionaries(
        st.sampled_from(KEYS), st.sampled_from(["", "-1", "0", "1", "7", "1e9", "20s", "true", "x"])
    )
)
def test_whatever_is_written_what_comes_out_breaks_no_rule(data: dict[str, str]) -> None:
    config, _ = parse_config(data)
    assert 6 <= config.stable_window_s <= 3600
    assert config.max_scale_up_rate > 1
    assert config.max_scale_down_rate > 1
    assert config.min_scale >= 0
    assert not config.max_scale or config.max_scale >= config.min_scale
    assert not config.max_scale_limit or 1 <= config.max_scale <= config.max_scale_limit
