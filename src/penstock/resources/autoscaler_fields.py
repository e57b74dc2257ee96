"""What is done with each setting of Knative's autoscaling, and with ours: name, default, range, effect. The reference is made of it."""

from __future__ import annotations

from penstock.resources.autoscaler_settings import (
    ALIASES,
    METRIC,
    OWN_METRICS,
    OWN_TARGETS,
    PROFILE,
    PROFILES,
    PROGRESS_DEADLINE,
    RESUME_WITHIN,
    TTFT_SLO,
)

Row = tuple[str, str, str, str]

CONFIG_FIELDS: tuple[Row, ...] = (
    (
        "container-concurrency-target-percentage",
        "70",
        "0 < x ≤ 100; up to 1 a fraction",
        "how much of what a pod takes at once it should carry; times the target default at least 0.01",
    ),
    (
        "container-concurrency-target-default",
        "100",
        "≥ 0.01",
        "what a pod takes at once where containerConcurrency says nothing",
    ),
    (
        "requests-per-second-target-default",
        "200",
        "≥ 0.01",
        "the same for metric rps, of which a pod should carry 70 %",
    ),
    (
        "target-burst-capacity",
        "211",
        "≥ 0, or -1",
        "requests in excess that pods should have room for; below that the status says Proxy. Our gateway is in the path at any"
        " value; with -1, no reports mean no demand instead of nothing known",
    ),
    (
        "stable-window",
        "60s",
        "6s … 1h, whole seconds",
        "over what the average is taken that a service follows",
    ),
    (
        "panic-window-percentage",
        "10",
        "1 … 100",
        "the panic window's part of the stable one, rounded to seconds, at least 1 s",
    ),
    (
        "panic-threshold-percentage",
        "200",
        "> 0",
        "panic begins when the panic window asks for this many percent of the ready pods",
    ),
    ("max-scale-up-rate", "1000", "> 1", "at most so many times the ready pods at each tick (2 s)"),
    ("max-scale-down-rate", "2", "> 1", "at least the ready pods divided by this at each tick"),
    ("enable-scale-to-zero", "true", "true, or false", "false: the last pod stays"),
    (
        "scale-to-zero-grace-period",
        "30s",
        "> 0",
        "from when a service is inactive until its last pod goes, so that gateways hold its requests by then",
    ),
    (
        "scale-to-zero-pod-retention-period",
        "0s",
        "≥ 0",
        "how long the last pod stays in any case after a service got inactive",
    ),
    (
        "scale-down-delay",
        "0s",
        "≥ 0, whole seconds",
        "the most that was wanted within this time is kept; takes effect on revisions that are new to the autoscaler",
    ),
    (
        "activator-capacity",
        "100",
        "≥ 1",
        "requests that one gateway worker is meant to hold; the PodAutoscaler's status.numActivators says how many workers that takes, "
        "and the setting workers how many there are: each of them holds requests",
    ),
    (
        "initial-scale",
        "1",
        "≥ 1; ≥ 0 with allow-zero-initial-scale",
        "pods of a new revision before demand counts; it is ready when it has that many",
    ),
    ("allow-zero-initial-scale", "false", "true, or false", "whether a new revision may begin without a pod"),
    ("min-scale", "0", "≥ 0", "the least number of pods; KServe's minReplicas always says one (1 if unset)"),
    ("max-scale", "0", "≥ min-scale, or 0 for none", "the greatest number of pods"),
    (
        "max-scale-limit",
        "0",
        "≥ 0; 1 ≤ max-scale ≤ it",
        "the greatest max-scale of the configuration; a revision that asks for more, or for no bound, gets this one; 0 for none",
    ),
    (
        "pod-autoscaler-class",
        "kpa.autoscaling.knative.dev",
        "a class",
        "the class of revisions that name none",
    ),
)
"""The keys of the ConfigMap knative-serving/config-autoscaler."""

_BY_CONFIG = "as configured"
ANNOTATION_FIELDS: tuple[Row, ...] = (
    (
        "class",
        _BY_CONFIG,
        "kpa.autoscaling.knative.dev, hpa.autoscaling.knative.dev, forecast.penstock.dev, or one of another domain",
        "which law decides; with hpa the revision gets a HorizontalPodAutoscaler. One of another domain is taken as kpa",
    ),
    ("min-scale", _BY_CONFIG, "0 … 2147483647", "the least number of pods while the revision has traffic; minReplicas wins"),
    ("max-scale", _BY_CONFIG, "0 … 2147483647", "the greatest number; 0 is none; maxReplicas wins"),
    ("initial-scale", _BY_CONFIG, "≥ 1; 0 where allowed", "pods of the new revision; one that is not allowed is dropped, as KServe does"),
    ("activation-scale", "1", "≥ 2, min-scale ≤ it ≤ max-scale", "where any pod is wanted, at least so many"),
    ("scale-down-delay", _BY_CONFIG, "0s … 1h, whole seconds", "the most that was wanted within this time is kept"),
    ("scale-to-zero-pod-retention-period", _BY_CONFIG, "0s … 1h", "how long the last pod stays after the service got inactive"),
    ("metric", "concurrency", "concurrency, rps; for class hpa also cpu, memory and others", "what is held against the target; scaleMetric wins"),
    ("target", _BY_CONFIG, "≥ 0.01", "what one pod takes at most; with concurrency no more than containerConcurrency; scaleTarget wins"),
    ("target-utilization-percentage", _BY_CONFIG, "1 … 100", "how much of that a pod should carry; 70 for rps where nothing is said"),
    ("target-burst-capacity", _BY_CONFIG, "≥ 0, or -1", "see the ConfigMap's key"),
    ("panic-window-percentage", _BY_CONFIG, "1 … 100", "the panic window's part of the stable one"),
    ("panic-threshold-percentage", _BY_CONFIG, "110 … 1000", "when panic begins, in percent of the ready pods"),
    ("window", _BY_CONFIG, "6s … 1h, whole seconds", "the stable window; for class hpa both stabilisation windows"),
    ("metric-aggregation-algorithm", "linear", "linear, weighted-exponential", "how a window averages; the second weighs what is recent more"),
)  # fmt: skip
"""Annotations `autoscaling.knative.dev/…` of a service or a component."""

OWN_FIELDS: tuple[Row, ...] = (
    (PROFILE, "none", ", ".join(PROFILES), "a preset for what starts slowly and costs much, see below; annotations of Knative's win over it"),
    (
        METRIC,
        "none",
        ", ".join(OWN_METRICS),
        "held against the target instead of concurrency, by the same law. Where no target is said, one replica takes "
        + ", ".join(f"{OWN_TARGETS[metric]:g} ({metric})" for metric in OWN_METRICS)
        + ": tokens, seconds that a request waits, percent of the KV cache",
    ),
    (RESUME_WITHIN, "none", "a duration above 0", "how soon a first answer must come after a sleep: how deep the service sleeps follows from measured starts, and is said in the status"),
    (TTFT_SLO, "2s", "a duration above 0", "class forecast: the time to a first token that 99 % of the requests are to have"),
    (PROGRESS_DEADLINE, "600s", "a duration above 0", "a start that takes 30 s longer than this is given up"),
)  # fmt: skip
"""Annotations of a service or a component that Knative's scaling does not know."""

_PROFILE_WORDS = {
    "tick_s": "seconds between decisions",
    "stable_window_s": "stable window, seconds",
    "panic_window_percentage": "panic window, percent of the stable one",
    "panic_threshold_percentage": "panic threshold, percent of the ready pods",
    "utilization": "share of what a pod takes that it should carry",
    "max_scale_up_rate": "factor up at each tick",
    "max_scale_down_rate": "factor down at each tick",
    "pod_retention_period_s": "retention of the last pod, seconds",
    "scale_down_delay_s": "scale-down delay, seconds",
}


def aliases_of(name: str) -> tuple[str, ...]:
    """Other spellings of an annotation."""
    return tuple(alias for alias, key in ALIASES.items() if key == name)


def profile_rows(name: str) -> tuple[tuple[str, str], ...]:
    """What a profile sets, and to what."""
    return tuple((_PROFILE_WORDS[key], f"{value:g}") for key, value in PROFILES[name].items())
