"""What is done with each field of a ScaledObject on one machine: field, default, range, effect. The reference is made of it."""

from __future__ import annotations

from penstock.resources import keda
from penstock.resources.triggers import PARAMETERS, WORDS

_PAUSES = "true, false"
_SPEC: tuple[tuple[str, str, str, str], ...] = (
    ("spec.scaleTargetRef.name", "required", "a name", "the workload that is scaled, of the same namespace"),
    ("spec.scaleTargetRef.kind", "Deployment", "Deployment, ReplicaSet", "its kind; others are refused"),
    ("spec.scaleTargetRef.apiVersion", "apps/v1", "apps/v1", "its group and version"),
    (
        "spec.scaleTargetRef.envSourceContainerName",
        "the first container",
        "a container",
        "whose variables `…FromEnv` means",
    ),
    (
        "spec.pollingInterval",
        f"{keda.POLLING_INTERVAL_S}",
        "≥ 1 s",
        "how often triggers are read; changes act at once",
    ),
    (
        "spec.cooldownPeriod",
        f"{keda.COOLDOWN_PERIOD_S}",
        "≥ 0 s",
        "how long after the last activity the target stays above 0 (or idle)",
    ),
    ("spec.initialCooldownPeriod", "0", "≥ 0 s", "the same from creation on, while nothing was ever active"),
    (
        "spec.idleReplicaCount",
        "none",
        "< minReplicaCount",
        "the size while nothing is active; above 0 the autoscaler is absent meanwhile, since it would lift it",
    ),
    (
        "spec.minReplicaCount",
        "0",
        "0 … maxReplicaCount",
        "the least size while active, and the size in quiet",
    ),
    ("spec.maxReplicaCount", f"{keda.MAX_REPLICAS}", "≥ 1", "the autoscaler's maximum"),
    (
        "spec.fallback.failureThreshold",
        "required",
        "≥ 0",
        "after more failures in a row than this the fallback holds; reads of polls and of the autoscaler count",
    ),
    (
        "spec.fallback.replicas",
        "required",
        "≥ 0",
        "the size that the autoscaler is led to; it never wakes from 0. 0: what fails counts as quiet",
    ),
    (
        "spec.fallback.behavior",
        keda.STATIC,
        ", ".join(keda.FALLBACK_BEHAVIORS),
        "static: replicas; the current size, or it if higher or lower; scalingModifiers: failed triggers are nil in the formula",
    ),
    (
        "spec.advanced.restoreToOriginalReplicaCount",
        "false",
        _PAUSES,
        "when the ScaledObject is deleted the target gets the size from before",
    ),
    (
        "spec.advanced.horizontalPodAutoscalerConfig.name",
        "keda-hpa-NAME",
        "≤ 63 characters",
        "the autoscaler's name; a longer one is refused",
    ),
    (
        "spec.advanced.horizontalPodAutoscalerConfig.behavior",
        "none",
        "autoscaling/v2",
        "passed to the autoscaler",
    ),
    (
        "spec.advanced.scalingModifiers.formula",
        "none",
        "≤ 1000 characters",
        "makes one metric of all: arithmetic, comparison, ?:, ??, and or not, min max sum avg median count abs ceil floor"
        " round, over triggers' names",
    ),
    ("spec.advanced.scalingModifiers.target", "required", "> 0", "of the formula, for one replica"),
    ("spec.advanced.scalingModifiers.activationTarget", "0", "≥ 0", "active above this"),
    (
        "spec.advanced.scalingModifiers.metricType",
        "AverageValue",
        "AverageValue, Value",
        "how the autoscaler reads it",
    ),
    ("spec.triggers[].type", "required", ", ".join(WORDS), "others are refused, with the nearest"),
    ("spec.triggers[].name", "none", "unique", "the trigger in formulas"),
    (
        "spec.triggers[].metricType",
        "AverageValue; Utilization for cpu and memory",
        "AverageValue, Value, Utilization",
        "how the autoscaler reads it",
    ),
    (
        "spec.triggers[].useCachedMetrics",
        "false",
        _PAUSES,
        "the autoscaler is told what the last poll read; refused for cpu, memory and cron",
    ),
    ("spec.triggers[].authenticationRef.name", "none", "a name", "what holds the trigger's secrets"),
    (
        "spec.triggers[].authenticationRef.kind",
        "TriggerAuthentication",
        "TriggerAuthentication, ClusterTriggerAuthentication",
        "a cluster's one reads from the namespace keda",
    ),
    (
        "spec.triggers[].metadata",
        "required",
        "by type, see below",
        "unknown keys are refused, with the nearest",
    ),
    (f"annotation {keda.PAUSED}", "false", _PAUSES, "nothing is read or scaled, the autoscaler is absent"),
    (f"annotation {keda.PAUSED_REPLICAS}", "none", "≥ 0", "the same, at this size"),
    (f"annotation {keda.PAUSED_SCALE_IN}", "false", _PAUSES, "never fewer"),
    (f"annotation {keda.PAUSED_SCALE_OUT}", "false", _PAUSES, "never more"),
    (f"annotation {keda.FORCE_ACTIVATION}", "false", _PAUSES, "active whatever triggers say"),
    (
        "TriggerAuthentication spec.secretTargetRef, configMapTargetRef, env",
        "none",
        "unique parameters",
        "parameters from Secrets, ConfigMaps and variables of the target's container; other stores need a cluster",
    ),
)

FIELDS: tuple[tuple[str, str, str, str], ...] = (
    *_SPEC,
    *(
        (
            f"trigger {type_}: {word.name}{' (FromEnv)' if word.env else ''}",
            "required" if word.required else word.default or "none",
            word.range,
            word.effect,
        )
        for type_, words in WORDS.items()
        for word in words
    ),
    *(
        (f"trigger {type_}: parameter {name}", "none", "text", "by authentication only")
        for type_, names in PARAMETERS.items()
        for name in names
    ),
)
