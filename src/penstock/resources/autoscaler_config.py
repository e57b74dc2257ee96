"""The cluster's defaults for scaling by requests: Knative's ConfigMap `knative-serving/config-autoscaler`.

Keys, defaults, ranges and messages are Knative's (pkg/autoscaler/config). Keys that are not known are ignored, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from penstock.kit.durations import parse_go_duration_s
from penstock.kit.errors import InvalidInput

CONFIG_NAMESPACE, CONFIG_NAME = "knative-serving", "config-autoscaler"
LEAST_TARGET = 0.01
LEAST_WINDOW_S, MOST_WINDOW_S = 6.0, 3600.0
UNLIMITED_BURST = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerConfig:
    """Shares are fractions, `panic_window_percentage` is in percent of the stable window, times are in seconds, 0 bounds are none."""

    target_utilization: float = 0.7
    target_concurrency: float = 100.0
    target_rps: float = 200.0
    target_burst_capacity: float = 211.0
    stable_window_s: float = 60.0
    panic_window_percentage: float = 10.0
    panic_threshold_percentage: float = 200.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    enable_scale_to_zero: bool = True
    scale_to_zero_grace_period_s: float = 30.0
    pod_retention_period_s: float = 0.0
    scale_down_delay_s: float = 0.0
    activator_capacity: float = 100.0
    initial_scale: int = 1
    allow_zero_initial_scale: bool = False
    min_scale: int = 0
    max_scale: int = 0
    max_scale_limit: int = 0
    autoscaler_class: str = "kpa.autoscaling.knative.dev"


DEFAULTS = AutoscalerConfig()
_NUMBERS: Mapping[str, str] = MappingProxyType(
    {
        "container-concurrency-target-percentage": "target_utilization",
        "container-concurrency-target-default": "target_concurrency",
        "requests-per-second-target-default": "target_rps",
        "target-burst-capacity": "target_burst_capacity",
        "panic-window-percentage": "panic_window_percentage",
        "panic-threshold-percentage": "panic_threshold_percentage",
        "max-scale-up-rate": "max_scale_up_rate",
        "max-scale-down-rate": "max_scale_down_rate",
        "activator-capacity": "activator_capacity",
    }
)
_COUNTS: Mapping[str, str] = MappingProxyType(
    {
        "initial-scale": "initial_scale",
        "min-scale": "min_scale",
        "max-scale": "max_scale",
        "max-scale-limit": "max_scale_limit",
    }
)
_TIMES: Mapping[str, str] = MappingProxyType(
    {
        "stable-window": "stable_window_s",
        "scale-to-zero-grace-period": "scale_to_zero_grace_period_s",
        "scale-to-zero-pod-retention-period": "pod_retention_period_s",
        "scale-down-delay": "scale_down_delay_s",
    }
)
_SWITCHES: Mapping[str, str] = MappingProxyType(
    {
        "enable-scale-to-zero": "enable_scale_to_zero",
        "allow-zero-initial-scale": "allow_zero_initial_scale",
    }
)
KEYS = (*_NUMBERS, *_COUNTS, *_TIMES, *_SWITCHES, "pod-autoscaler-class")


def parse_config(data: Mapping[str, str]) -> tuple[AutoscalerConfig, tuple[tuple[str, str], ...]]:
    """The configuration, and (key, message) of everything in it that is wrong; what is wrong keeps its default."""
    values: dict[str, object] = {}
    problems: list[tuple[str, str]] = []
    for keys, read in (
        (_NUMBERS, float),
        (_COUNTS, int),
        (_TIMES, parse_go_duration_s),
        (_SWITCHES, _switch),
    ):
        for key, name in keys.items():
            if key in data:
                try:
                    values[name] = read(data[key])  # type: ignore[operator]
                except (ValueError, InvalidInput):
                    problems.append((key, f"failed to parse {key!r}: invalid value {data[key]!r}"))
    if "pod-autoscaler-class" in data:
        values["autoscaler_class"] = data["pod-autoscaler-class"]
    share = values.get("target_utilization")
    if isinstance(share, float) and share > 1:
        values["target_utilization"] = share / 100
    config = replace(DEFAULTS, **values)  # type: ignore[arg-type]
    problems += _problems(config)
    return (config if not problems else _without(values, problems)), tuple(problems)


def _without(values: dict[str, object], problems: list[tuple[str, str]]) -> AutoscalerConfig:
    """Whatever a message is about falls back to its default."""
    names = {**_NUMBERS, **_COUNTS, **_TIMES, **_SWITCHES}
    wrong = {names[key] for key, _ in problems if key in names}
    sound = {name: value for name, value in values.items() if name not in wrong}
    return replace(DEFAULTS, **sound)  # type: ignore[arg-type]


def _switch(text: str) -> bool:
    """Any case of true; everything else is false, as Knative reads it."""
    return text.lower() == "true"


def _problems(c: AutoscalerConfig) -> list[tuple[str, str]]:
    """In Knative's order and words."""
    target = c.target_utilization * c.target_concurrency
    window_s = c.stable_window_s
    checks = (
        (c.scale_to_zero_grace_period_s > 0, "scale-to-zero-grace-period", "must be positive, was: {:g}s", c.scale_to_zero_grace_period_s),
        (c.scale_down_delay_s >= 0, "scale-down-delay", "cannot be negative, was: {:g}s", c.scale_down_delay_s),
        (_is_whole(c.scale_down_delay_s), "scale-down-delay", "must be specified with at most second precision, was: {:g}s", c.scale_down_delay_s),
        (c.pod_retention_period_s >= 0, "scale-to-zero-pod-retention-period", "cannot be negative, was: {:g}s", c.pod_retention_period_s),
        (0 < c.target_utilization <= 1, "container-concurrency-target-percentage", "outside of valid range of (0, 100], was: {:g}", c.target_utilization * 100),
        (c.target_concurrency >= LEAST_TARGET, "container-concurrency-target-default", "must be at least 0.01, was: {:g}", c.target_concurrency),
        (target >= LEAST_TARGET, "container-concurrency-target-percentage", "times container-concurrency-target-default must be at least 0.01, was: {:g}", target),
        (c.target_rps >= LEAST_TARGET, "requests-per-second-target-default", "must be at least 0.01, was: {:g}", c.target_rps),
        (c.activator_capacity >= 1, "activator-capacity", "must be at least 1, was: {:g}", c.activator_capacity),
        (c.target_burst_capacity >= 0 or c.target_burst_capacity == UNLIMITED_BURST, "target-burst-capacity", "must be either non-negative or -1 (for unlimited), was: {:g}", c.target_burst_capacity),
        (c.max_scale_up_rate > 1, "max-scale-up-rate", "must be greater than 1.0, was: {:g}", c.max_scale_up_rate),
        (c.max_scale_down_rate > 1, "max-scale-down-rate", "must be greater than 1.0, was: {:g}", c.max_scale_down_rate),
        (LEAST_WINDOW_S <= window_s <= MOST_WINDOW_S, "stable-window", "must be in [6s, 1h] range, was: {:g}s", window_s),
        (_is_whole(window_s), "stable-window", "must be specified with at most second precision, was: {:g}s", window_s),
        (1 <= c.panic_window_percentage <= 100, "panic-window-percentage", "must be in [1, 100] interval, was: {:g}", c.panic_window_percentage),
        (c.initial_scale >= (0 if c.allow_zero_initial_scale else 1), "initial-scale", "must be at least 1, or 0 where allow-zero-initial-scale is true, was: {:g}", c.initial_scale),
        (c.min_scale >= 0, "min-scale", "must be at least 0, was: {:g}", c.min_scale),
        (c.max_scale_limit >= 0, "max-scale-limit", "must be at least 0, was: {:g}", c.max_scale_limit),
        (c.max_scale >= 0, "max-scale", "must be at least 0, was: {:g}", c.max_scale),
        (not c.max_scale or c.max_scale >= c.min_scale, "max-scale", "must not be less than min-scale, was: {:g}", c.max_scale),
        (not c.max_scale_limit or 1 <= c.max_scale <= c.max_scale_limit, "max-scale", "must be in [1, max-scale-limit], was: {:g}", c.max_scale),
    )  # fmt: skip
    return [(key, f"{key} {words.format(value)}") for holds, key, words, value in checks if not holds]


def _is_whole(seconds: float) -> bool:
    return seconds == int(seconds)
