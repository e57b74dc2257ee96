"""The cluster's defaults for scaling by requests: Knative's ConfigMap `knative-serving/config-autoscaler`.

Keys, defaults, ranges and messages are Knative's (pkg/autoscaler/config). Keys that are not known are ignored, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from penstock.kit.durations import go_duration, parse_go_duration_s
from penstock.kit.errors import InvalidInput
from penstock.kit.numerals import parse_integer, parse_number, shown

CONFIG_NAMESPACE, CONFIG_NAME = "knative-serving", "config-autoscaler"
LEAST_TARGET = 0.01
LEAST_WINDOW_S, MOST_WINDOW_S = 6.0, 3600.0
UNLIMITED_BURST = -1.0
MOST_REPLICAS = 2**31 - 1


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
        (_NUMBERS, parse_number),
        (_COUNTS, _count),
        (_TIMES, _seconds),
        (_SWITCHES, _switch),
    ):
        for key, name in keys.items():
            if key in data:
                value = read(data[key])
                if value is None:
                    problems.append((key, f'failed to parse "{key}": {data[key]!r} is not valid'))
                else:
                    values[name] = value
    if data.get("pod-autoscaler-class"):
        values["autoscaler_class"] = data["pod-autoscaler-class"]
    share = values.get("target_utilization")
    if isinstance(share, float) and share > 1:
        values["target_utilization"] = share / 100
    problems += _problems(replace(DEFAULTS, **values))  # type: ignore[arg-type]
    return _sound(values), tuple(problems)


def _sound(values: Mapping[str, object]) -> AutoscalerConfig:
    """Whatever breaks a rule falls back to its default, and what then does not fit the rest as well."""
    names = {**_NUMBERS, **_COUNTS, **_TIMES}
    config = replace(DEFAULTS, **values)  # type: ignore[arg-type]
    while problems := _problems(config):
        wrong = {names[key] for key, _ in problems}
        if not wrong & values.keys():
            return DEFAULTS
        values = {name: value for name, value in values.items() if name not in wrong}
        config = replace(DEFAULTS, **values)  # type: ignore[arg-type]
    return config


def _count(text: str) -> int | None:
    count = parse_integer(text)
    return count if count is not None and abs(count) <= MOST_REPLICAS else None


def _seconds(text: str) -> float | None:
    try:
        return parse_go_duration_s(text)
    except InvalidInput:
        return None


def _switch(text: str) -> bool:
    """Any case of true; everything else is false, as Knative reads it."""
    return text.lower() == "true"


def _problems(c: AutoscalerConfig) -> list[tuple[str, str]]:
    """For each key the first rule that it breaks, in Knative's order and words."""
    target, share, limit = (
        c.target_utilization * c.target_concurrency,
        c.target_utilization,
        c.max_scale_limit,
    )
    grace, delay, retention, window = map(
        go_duration,
        (c.scale_to_zero_grace_period_s, c.scale_down_delay_s, c.pod_retention_period_s, c.stable_window_s),
    )
    least_initial, least_max = 0 if c.allow_zero_initial_scale else 1, 1 if limit > 0 else 0
    whole = "must be specified with at most second precision"
    checks = (
        (c.scale_to_zero_grace_period_s > 0, "scale-to-zero-grace-period", f" must be positive, was: {grace}"),
        (c.scale_down_delay_s >= 0, "scale-down-delay", f" cannot be negative, was: {delay}"),
        (_is_whole(c.scale_down_delay_s), "scale-down-delay", f" = {delay}, {whole}"),
        (c.pod_retention_period_s >= 0, "scale-to-zero-pod-retention-period", f" cannot be negative, was: {retention}"),
        (c.target_burst_capacity >= 0 or c.target_burst_capacity == UNLIMITED_BURST, "target-burst-capacity", f" must be either non-negative or -1 (for unlimited), was: {c.target_burst_capacity:f}"),
        (0 < share <= 1, "container-concurrency-target-percentage", f" = {share:f} is outside of valid range of (0, 100]"),
        (c.target_concurrency >= LEAST_TARGET, "container-concurrency-target-default", f" must be at least 0.01, was: {shown(c.target_concurrency)}"),
        (target >= LEAST_TARGET or c.target_concurrency < LEAST_TARGET, "container-concurrency-target-percentage", f" and container-concurrency-target-default yield target concurrency of {shown(target)}, can't be less than 0.01"),
        (c.target_rps >= LEAST_TARGET, "requests-per-second-target-default", f" must be at least 0.01, was: {shown(c.target_rps)}"),
        (c.activator_capacity >= 1, "activator-capacity", f" = {shown(c.activator_capacity)}, must be at least 1"),
        (c.max_scale_up_rate > 1, "max-scale-up-rate", f" = {shown(c.max_scale_up_rate)}, must be greater than 1.0"),
        (c.max_scale_down_rate > 1, "max-scale-down-rate", f" = {shown(c.max_scale_down_rate)}, must be greater than 1.0"),
        (LEAST_WINDOW_S <= c.stable_window_s <= MOST_WINDOW_S, "stable-window", f" = {window}, must be in [6s; 1h0m0s] range"),
        (_is_whole(c.stable_window_s), "stable-window", f" = {window}, {whole}"),
        (1 <= c.panic_window_percentage <= 100, "panic-window-percentage", f" = {shown(c.panic_window_percentage)}, must be in [1, 100] interval"),
        (c.panic_threshold_percentage > 0, "panic-threshold-percentage", f" = {shown(c.panic_threshold_percentage)}, must be greater than 0"),
        (c.initial_scale >= least_initial, "initial-scale", f" = {c.initial_scale}, must be at least 0 (or at least 1 when allow-zero-initial-scale is false)"),
        (c.min_scale >= 0, "min-scale", f" = {c.min_scale}, must be at least 0"),
        (limit >= 0, "max-scale-limit", f" = {limit}, must be at least 0"),
        (c.max_scale >= least_max and (limit <= 0 or c.max_scale <= limit), "max-scale", f" = {c.max_scale}, must be in [{least_max}, max-scale-limit({limit})] range"),
        (not c.max_scale or c.max_scale >= c.min_scale, "max-scale", f" = {c.max_scale}, must be at least min-scale({c.min_scale})"),
    )  # fmt: skip
    broken: dict[str, str] = {}
    for holds, key, words in checks:
        if not holds:
            broken.setdefault(key, key + words)
    return list(broken.items())


def _is_whole(seconds: float) -> bool:
    return seconds == int(seconds)
