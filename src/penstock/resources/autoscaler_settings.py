"""How one revision scales by its requests: its annotations over the profile, over the cluster's configuration.

Sources: Knative's `autoscaling.knative.dev/*` annotations and target rules; KServe's mapping of a component's fields onto them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, inf
from types import MappingProxyType
from typing import Literal

from penstock.kit.durations import parse_go_duration_s
from penstock.kit.errors import InvalidInput
from penstock.kit.numerals import parse_integer, parse_number
from penstock.resources.autoscaler_config import (
    LEAST_TARGET,
    LEAST_WINDOW_S,
    MOST_REPLICAS,
    MOST_WINDOW_S,
    UNLIMITED_BURST,
    AutoscalerConfig,
)
from penstock.resources.meta import Labels
from penstock.resources.serving import Component

DOMAIN = "autoscaling.knative.dev/"
KPA_CLASS, HPA_CLASS = "kpa.autoscaling.knative.dev", "hpa.autoscaling.knative.dev"
FORECAST_CLASS = "forecast.penstock.dev"
PROFILE, METRIC = "penstock.dev/autoscaling-profile", "penstock.dev/autoscaling-metric"
RESUME_WITHIN, TTFT_SLO = "penstock.dev/resume-within", "penstock.dev/ttft-slo"
PROGRESS_DEADLINE = "serving.knative.dev/progress-deadline"
PROGRESS_DEADLINE_S = 600.0
RPS_UTILIZATION = 0.7
TICK_S = 2.0
LINEAR, EXPONENTIAL = "linear", "weighted-exponential"

Metric = Literal["concurrency", "rps", "in-flight-tokens", "queue-wait", "kv-cache-use"]
KNATIVE_METRICS: tuple[Metric, ...] = ("concurrency", "rps")
OWN_METRICS: tuple[Metric, ...] = ("in-flight-tokens", "queue-wait", "kv-cache-use")
OWN_TARGETS: Mapping[str, float] = MappingProxyType(
    {"in-flight-tokens": 16384.0, "queue-wait": 1.0, "kv-cache-use": 100.0}
)
"""What one replica carries where nothing else is said: tokens, seconds that a request waits, percent of the KV cache."""
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "minScale": "min-scale",
        "maxScale": "max-scale",
        "initialScale": "initial-scale",
        "activationScale": "activation-scale",
        "targetUtilizationPercentage": "target-utilization-percentage",
        "targetBurstCapacity": "target-burst-capacity",
        "panicWindowPercentage": "panic-window-percentage",
        "panicThresholdPercentage": "panic-threshold-percentage",
        "scaleDownDelay": "scale-down-delay",
        "scaleToZeroPodRetentionPeriod": "scale-to-zero-pod-retention-period",
        "metricAggregationAlgorithm": "metric-aggregation-algorithm",
    }
)
NO_PROFILE: Mapping[str, float] = MappingProxyType({})
PROFILES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "gpu": MappingProxyType(
            {
                "tick_s": 15.0,
                "stable_window_s": 180.0,
                "panic_window_percentage": 100 * 24 / 180,
                "panic_threshold_percentage": 200.0,
                "utilization": 0.85,
                "max_scale_up_rate": 20.0,
                "max_scale_down_rate": 1.1,
                "pod_retention_period_s": 1800.0,
                "scale_down_delay_s": 60.0,
            }
        )
    }
)
"""Starts take minutes and devices are scarce: react calmly, give up slowly. Explicit annotations win."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerSettings:
    """What holds for one revision. `total` is what a pod carries at most, `target` what it should carry; bounds of 0 are none."""

    autoscaler_class: str = KPA_CLASS
    metric: Metric = "concurrency"
    total: float = 100.0
    target: float = 70.0
    algorithm: str = LINEAR
    tick_s: float = TICK_S
    stable_window_s: float = 60.0
    panic_window_s: float = 6.0
    panic_threshold: float = 2.0
    target_burst_capacity: float = 211.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    min_scale: int = 0
    max_scale: int = 0
    initial_scale: int = 1
    activation_scale: int = 1
    scale_down_delay_s: float = 0.0
    enable_scale_to_zero: bool = True
    grace_period_s: float = 30.0
    pod_retention_period_s: float = 0.0
    progress_deadline_s: float = PROGRESS_DEADLINE_S
    activator_capacity: float = 100.0
    resume_within_s: float | None = None
    ttft_slo_s: float | None = None
    starts_aware: bool = False


def annotations_of(given: Mapping[str, str], component: Component) -> Labels:
    """The scaling annotations of a component's revisions, as KServe maps its fields onto Knative's. Fields win over annotations."""
    named = {key: value for key, value in given.items() if _is_scaling(key)}
    least = 1 if component.min_replicas is None else component.min_replicas
    fields = {"min-scale": str(least)}
    if component.max_replicas:
        fields["max-scale"] = str(component.max_replicas)
    if component.scale_target is not None:
        fields["target"] = str(component.scale_target)
    if component.scale_metric is not None:
        fields["metric"] = component.scale_metric
    for alias, key in ALIASES.items():
        if key in fields:
            named.pop(DOMAIN + alias, None)
    return named | {DOMAIN + key: value for key, value in fields.items()}


def settings_of(
    annotations: Mapping[str, str], container_concurrency: int, config: AutoscalerConfig
) -> AutoscalerSettings:
    """Never fails: admission has refused what is wrong, and what got through all the same is as if it were not there."""
    read = _Reader(annotations)
    profile = PROFILES.get(annotations.get(PROFILE, ""), NO_PROFILE)
    stable_s = read.duration("window", profile.get("stable_window_s", config.stable_window_s), LEAST_WINDOW_S)
    metric = _metric(annotations, read)
    total, target = _targets(read, metric, container_concurrency, config, profile.get("utilization"))
    return AutoscalerSettings(
        autoscaler_class=annotations.get(DOMAIN + "class", config.autoscaler_class),
        metric=metric,
        total=total,
        target=target,
        algorithm=_algorithm(read),
        tick_s=profile.get("tick_s", TICK_S),
        stable_window_s=stable_s,
        panic_window_s=_panic_window_s(read, stable_s, config, profile),
        panic_threshold=read.number(
            "panic-threshold-percentage",
            profile.get("panic_threshold_percentage", config.panic_threshold_percentage),
            110.0,
            1000.0,
        )
        / 100,
        target_burst_capacity=_burst(read, config),
        max_scale_up_rate=profile.get("max_scale_up_rate", config.max_scale_up_rate),
        max_scale_down_rate=profile.get("max_scale_down_rate", config.max_scale_down_rate),
        **_scales(read, config),
        scale_down_delay_s=read.duration(
            "scale-down-delay", profile.get("scale_down_delay_s", config.scale_down_delay_s)
        ),
        enable_scale_to_zero=config.enable_scale_to_zero,
        grace_period_s=config.scale_to_zero_grace_period_s,
        pod_retention_period_s=read.duration(
            "scale-to-zero-pod-retention-period",
            profile.get("pod_retention_period_s", config.pod_retention_period_s),
        ),
        progress_deadline_s=_positive_s(annotations.get(PROGRESS_DEADLINE)) or PROGRESS_DEADLINE_S,
        activator_capacity=config.activator_capacity,
        resume_within_s=_positive_s(annotations.get(RESUME_WITHIN)),
        ttft_slo_s=_positive_s(annotations.get(TTFT_SLO)),
        starts_aware=bool(profile),
    )


class _Reader:
    """Annotations of Knative's domain by their short names; the canonical spelling wins over its alias. What is out of range is not there."""

    def __init__(self, annotations: Mapping[str, str]) -> None:
        self._given: dict[str, str] = {}
        for key, value in annotations.items():
            if key.startswith(DOMAIN):
                short = key.removeprefix(DOMAIN)
                if short in ALIASES:
                    self._given.setdefault(ALIASES[short], value)
                else:
                    self._given[short] = value

    def text(self, key: str) -> str | None:
        return self._given.get(key)

    def number(self, key: str, default: float, low: float, high: float) -> float:
        value = parse_number(self._given.get(key, ""))
        return value if value is not None and low <= value <= high else default

    def count(self, key: str, default: int, low: int = 0) -> int:
        value = parse_integer(self._given.get(key, ""))
        return value if value is not None and low <= value <= MOST_REPLICAS else default

    def duration(self, key: str, default: float, low: float = 0.0) -> float:
        value = _seconds(self._given.get(key))
        return value if value is not None and low <= value <= MOST_WINDOW_S else default


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else parse_go_duration_s(text)
    except InvalidInput:
        return None


def _positive_s(text: str | None) -> float | None:
    seconds = _seconds(text)
    return seconds if seconds is not None and seconds > 0 else None


def _panic_window_s(
    read: _Reader, stable_s: float, config: AutoscalerConfig, profile: Mapping[str, float]
) -> float:
    """A share of the stable window, rounded to whole seconds, halves up, and at least one."""
    default = profile.get("panic_window_percentage", config.panic_window_percentage)
    return max(1.0, floor(stable_s * read.number("panic-window-percentage", default, 1.0, 100.0) / 100 + 0.5))


def _burst(read: _Reader, config: AutoscalerConfig) -> float:
    burst = read.number("target-burst-capacity", config.target_burst_capacity, UNLIMITED_BURST, inf)
    return burst if burst >= 0 or burst == UNLIMITED_BURST else config.target_burst_capacity


def _scales(read: _Reader, config: AutoscalerConfig) -> dict[str, int]:
    """Bounds and first sizes. An initial scale that the cluster does not allow is dropped silently (KServe); its limit holds for all."""
    most = read.count("max-scale", config.max_scale)
    limit = config.max_scale_limit
    if limit and not 1 <= most <= limit:
        most = limit
    return {
        "min_scale": read.count("min-scale", config.min_scale),
        "max_scale": most,
        "initial_scale": read.count(
            "initial-scale", config.initial_scale, 0 if config.allow_zero_initial_scale else 1
        ),
        "activation_scale": read.count("activation-scale", 1, 2),
    }


def _is_scaling(key: str) -> bool:
    return key.startswith(DOMAIN) or key in (PROFILE, METRIC, RESUME_WITHIN, TTFT_SLO, PROGRESS_DEADLINE)


def _metric(annotations: Mapping[str, str], read: _Reader) -> Metric:
    own, theirs = annotations.get(METRIC), read.text("metric")
    return next(
        (metric for metric in (*OWN_METRICS, *KNATIVE_METRICS) if metric in (own, theirs)), "concurrency"
    )


def _algorithm(read: _Reader) -> str:
    named = read.text("metric-aggregation-algorithm")
    return EXPONENTIAL if named in (EXPONENTIAL, "weightedExponential") else LINEAR


def _targets(
    read: _Reader,
    metric: Metric,
    container_concurrency: int,
    config: AutoscalerConfig,
    utilization: float | None,
) -> tuple[float, float]:
    """What a pod carries at most, and what it should carry."""
    wished = read.number("target", 0.0, LEAST_TARGET, inf)
    if metric == "concurrency":
        total = float(container_concurrency or config.target_concurrency)
        if wished:
            total = min(wished, container_concurrency) if container_concurrency else wished
        share = config.target_utilization if utilization is None else utilization
    elif metric == "rps":
        total = wished or config.target_rps
        share = RPS_UTILIZATION if utilization is None else utilization
    else:
        total = wished or OWN_TARGETS[metric]
        share = config.target_utilization if utilization is None else utilization
    percent = read.number("target-utilization-percentage", 0.0, 1.0, 100.0)
    if percent:
        share = percent / 100
    return total, max(LEAST_TARGET, total * share)
