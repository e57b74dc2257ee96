"""Does a ScaledObject keep KEDA's rules? (its schema, and its admission webhook)"""

from __future__ import annotations

import re

from penstock.kit.errors import InvalidInput, nearest
from penstock.kit.formula import FUNCTIONS, Formula
from penstock.kit.quantity import parse_quantity
from penstock.resources import keda
from penstock.resources.keda import (
    AVERAGE_VALUE,
    RESOURCE_TRIGGERS,
    UTILIZATION,
    VALUE,
    EnvironmentTarget,
    ScaledObject,
    ScaledObjectSpec,
    ScaleTrigger,
    ScalingModifiers,
    SecretTarget,
    TriggerAuthenticationSpec,
)
from penstock.resources.triggers import WORDS, as_number, check_metadata
from penstock.resources.validate_autoscaler import validate_behavior
from penstock.resources.validation import (
    Causes,
    at_least,
    duplicate,
    forbidden,
    one_of,
    required,
    unsupported,
    wrong,
)

MAX_HPA_NAME = 63
MAX_TRIGGERS = 64
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
NOT_CACHED = (*RESOURCE_TRIGGERS, "cron")
AUTHENTICATIONS = ("TriggerAuthentication", "ClusterTriggerAuthentication")
SCALABLE = ("Deployment", "ReplicaSet")


def hpa_name(name: str, spec: ScaledObjectSpec) -> str:
    """The name of the autoscaler of a ScaledObject of this name."""
    return spec.hpa_name or f"keda-hpa-{name}"


def validate_scaled_object(new: ScaledObject) -> Causes:
    """Causes in a ScaledObject."""
    spec = new.spec
    yield from _counts(spec)
    target = spec.scale_target_ref
    if not target.name:
        yield required("spec.scaleTargetRef.name")
    yield from one_of("spec.scaleTargetRef.kind", target.kind, SCALABLE)
    if target.api_version:
        yield from one_of("spec.scaleTargetRef.apiVersion", target.api_version, ("apps/v1",))
    name = hpa_name(new.metadata.name, spec)
    if len(name) > MAX_HPA_NAME:
        where = "spec.advanced.horizontalPodAutoscalerConfig.name" if spec.hpa_name else "metadata.name"
        yield wrong(where, name, f"the autoscaler's name must be no more than {MAX_HPA_NAME} characters")
    config = spec.advanced.horizontal_pod_autoscaler_config if spec.advanced else None
    if config is not None and config.behavior is not None:
        yield from validate_behavior("spec.advanced.horizontalPodAutoscalerConfig.behavior", config.behavior)
    yield from _triggers(spec)
    yield from _fallback(spec)
    if spec.advanced is not None and spec.advanced.scaling_modifiers is not None:
        yield from _modifiers(spec, spec.advanced.scaling_modifiers)
    yield from _annotations(new)


def validate_authentication(spec: TriggerAuthenticationSpec) -> Causes:
    """Causes in a TriggerAuthentication: it must say something, and nothing twice."""
    seen: set[str] = set()
    groups: tuple[tuple[str, tuple[SecretTarget | EnvironmentTarget, ...]], ...] = (
        ("secretTargetRef", spec.secret_target_ref),
        ("configMapTargetRef", spec.config_map_target_ref),
        ("env", spec.env),
    )
    for field, items in groups:
        for i, item in enumerate(items):
            where = f"spec.{field}[{i}]"
            if not item.parameter:
                yield required(f"{where}.parameter")
            elif item.parameter in seen:
                yield duplicate(f"{where}.parameter", item.parameter)
            seen.add(item.parameter)


def _counts(spec: ScaledObjectSpec) -> Causes:
    yield from at_least("spec.pollingInterval", spec.polling_interval, 1)
    yield from at_least("spec.cooldownPeriod", spec.cooldown_period)
    yield from at_least("spec.initialCooldownPeriod", spec.initial_cooldown_period)
    yield from at_least("spec.minReplicaCount", spec.min_replica_count)
    yield from at_least("spec.maxReplicaCount", spec.max_replica_count, 1)
    yield from at_least("spec.idleReplicaCount", spec.idle_replica_count)
    if spec.min_replicas > spec.max_replicas:
        yield wrong(
            "spec.minReplicaCount",
            spec.min_replicas,
            f"MinReplicaCount={spec.min_replicas} must be less than MaxReplicaCount={spec.max_replicas}",
        )
    idle = spec.idle_replica_count
    if idle is not None and idle >= spec.min_replicas:
        yield wrong(
            "spec.idleReplicaCount",
            idle,
            f"IdleReplicaCount={idle} must be less than MinReplicaCount={spec.min_replicas}",
        )


def _triggers(spec: ScaledObjectSpec) -> Causes:
    if not spec.triggers:
        yield required("spec.triggers", "at least one trigger")
    if len(spec.triggers) > MAX_TRIGGERS:
        yield wrong("spec.triggers", len(spec.triggers), f"must be no more than {MAX_TRIGGERS} triggers")
    names: set[str] = set()
    for i, trigger in enumerate(spec.triggers):
        where = f"spec.triggers[{i}]"
        if trigger.name and trigger.name in names:
            yield duplicate(f"{where}.name", trigger.name)
        names.add(trigger.name)
        yield from _trigger(where, trigger)
    lowest = spec.min_replicas if spec.idle_replica_count is None else spec.idle_replica_count
    if lowest == 0 and spec.triggers and all(t.type in RESOURCE_TRIGGERS for t in spec.triggers):
        yield forbidden(
            "spec.minReplicaCount",
            "cpu and memory triggers alone cannot scale to 0: without pods nobody uses any; set minReplicaCount to at"
            " least 1 without idleReplicaCount, or add another trigger",
        )


def _trigger(where: str, trigger: ScaleTrigger) -> Causes:
    if trigger.type not in WORDS:
        close = nearest(trigger.type, tuple(WORDS), 1)
        cause = unsupported(f"{where}.type", trigger.type, tuple(WORDS))
        guess = f'; did you mean "{close[0]}"?' if close else ""
        yield type(cause)(cause.field, cause.message + guess, cause.reason)
        return
    resource = trigger.type in RESOURCE_TRIGGERS
    kinds = (UTILIZATION, AVERAGE_VALUE) if resource else (AVERAGE_VALUE, VALUE)
    yield from one_of(f"{where}.metricType", trigger.metric_type, kinds)
    if trigger.use_cached_metrics and trigger.type in NOT_CACHED:
        yield forbidden(
            f"{where}.useCachedMetrics",
            f'property "useCachedMetrics" is set to true which is not supported for "{trigger.type}" scaler',
        )
    reference = trigger.authentication_ref
    if reference is not None:
        if not reference.name:
            yield required(f"{where}.authenticationRef.name")
        yield from one_of(f"{where}.authenticationRef.kind", reference.kind, AUTHENTICATIONS)
    metadata = f"{where}.metadata"
    yield from check_metadata(metadata, trigger.type, trigger.metadata, authenticated=reference is not None)
    if resource and trigger.metadata.get("value"):
        yield from _resource_value(metadata, trigger)


def _resource_value(where: str, trigger: ScaleTrigger) -> Causes:
    value = trigger.metadata["value"]
    try:
        amount = parse_quantity(value)
    except InvalidInput as error:
        yield wrong(f"{where}[value]", value, error.message)
        return
    if amount <= 0:
        yield wrong(f"{where}[value]", value, "must be greater than 0")
    elif trigger.metric_type != AVERAGE_VALUE and amount != int(amount):
        yield wrong(f"{where}[value]", value, "must be a whole percentage of the request")


def _fallback(spec: ScaledObjectSpec) -> Causes:
    fallback = spec.fallback
    if fallback is None:
        return
    yield from at_least("spec.fallback.failureThreshold", fallback.failure_threshold)
    yield from at_least("spec.fallback.replicas", fallback.replicas)
    yield from one_of("spec.fallback.behavior", fallback.behavior, keda.FALLBACK_BEHAVIORS)
    if all(trigger.type in RESOURCE_TRIGGERS for trigger in spec.triggers):
        yield forbidden(
            "spec.fallback", "cpu and memory triggers have no fallback: the autoscaler reads them"
        )
    if fallback.behavior == keda.MODIFIED and not spec.formula:
        yield forbidden(
            "spec.fallback.behavior", "scalingModifiers needs spec.advanced.scalingModifiers.formula"
        )


def _modifiers(spec: ScaledObjectSpec, modifiers: ScalingModifiers) -> Causes:
    where = "spec.advanced.scalingModifiers"
    yield from one_of(f"{where}.metricType", modifiers.metric_type, (AVERAGE_VALUE, VALUE))
    if not modifiers.formula:
        if modifiers.target or modifiers.activation_target:
            yield required(f"{where}.formula", "a target alone modifies nothing")
        return
    target = as_number(modifiers.target)
    if not modifiers.target:
        yield required(f"{where}.target", "the formula's target for one replica")
    elif target is None or target <= 0:
        yield wrong(f"{where}.target", modifiers.target, "must be a number > 0")
    activation = as_number(modifiers.activation_target or "0")
    if activation is None or activation < 0:
        yield wrong(f"{where}.activationTarget", modifiers.activation_target, "must be a number ≥ 0")
    names = [t.name for t in spec.triggers if t.name and t.type not in RESOURCE_TRIGGERS]
    for i, trigger in enumerate(spec.triggers):
        if trigger.name and (not NAME.fullmatch(trigger.name) or trigger.name in FUNCTIONS):
            yield wrong(
                f"spec.triggers[{i}].name",
                trigger.name,
                "a formula can only name letters, digits and _, that begin with no digit and are no function",
            )
    try:
        unknown = sorted(Formula(modifiers.formula).names - set(names))
    except InvalidInput as error:
        yield wrong(f"{where}.formula", modifiers.formula, f"{error.message} {error.hint}".strip())
        return
    for name in unknown:
        close = nearest(name, tuple(names), 1)
        guess = f", did you mean {close[0]}?" if close else ""
        yield wrong(
            f"{where}.formula", modifiers.formula, f"no trigger that a formula can use is named {name}{guess}"
        )


def _annotations(new: ScaledObject) -> Causes:
    for key in (keda.PAUSED, keda.PAUSED_SCALE_IN, keda.PAUSED_SCALE_OUT, keda.FORCE_ACTIVATION):
        value = new.metadata.annotations.get(key)
        if value is not None and value.lower() not in ("true", "false"):
            yield wrong(f"metadata.annotations[{key}]", value, "must be true or false")
    replicas = new.metadata.annotations.get(keda.PAUSED_REPLICAS)
    if replicas is not None and not (replicas.isascii() and replicas.isdecimal() and len(replicas) < 7):
        yield wrong(f"metadata.annotations[{keda.PAUSED_REPLICAS}]", replicas, "must be an integer ≥ 0")
