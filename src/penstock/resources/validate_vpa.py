"""Does a vertical pod autoscaler keep the rules of its admission webhook?"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from penstock.kit.errors import InvalidInput
from penstock.kit.quantity import parse_quantity
from penstock.resources.meta import Quantity
from penstock.resources.validation import Causes, at_least, duplicate, forbidden, one_of, required, wrong
from penstock.resources.vpa import (
    AUTO,
    IN_PLACE,
    IN_PLACE_OR_RECREATE,
    REQUESTS_AND_LIMITS,
    REQUESTS_ONLY,
    RESOURCES,
    TARGET_HIGHER,
    TARGET_LOWER,
    UPDATE_MODES,
    Amounts,
    ContainerResourcePolicy,
    PodUpdatePolicy,
    StartupBoost,
    VerticalPodAutoscaler,
)

MILLI, WHOLE = Decimal("0.001"), Decimal(1)


def validate_vpa(new: VerticalPodAutoscaler) -> Causes:
    """Causes in a vertical pod autoscaler."""
    spec = new.spec
    for name in ("kind", "name"):
        if not getattr(spec.target_ref, name):
            yield required(f"spec.targetRef.{name}")
    if len(spec.recommenders) > 1:
        yield forbidden("spec.recommenders", "an autoscaler may name no more than one recommender")
    if spec.update_policy is not None:
        yield from _update_policy("spec.updatePolicy", spec.update_policy)
    if spec.startup_boost is not None:
        yield from _boost("spec.startupBoost", spec.startup_boost)
    seen: set[str] = set()
    for i, policy in enumerate(spec.resource_policy.container_policies if spec.resource_policy else ()):
        where = f"spec.resourcePolicy.containerPolicies[{i}]"
        if policy.container_name in seen:
            yield duplicate(f"{where}.containerName", policy.container_name)
        seen.add(policy.container_name)
        yield from _container_policy(where, policy)


def advise_vpa(new: VerticalPodAutoscaler) -> Iterator[str]:
    """Warnings about what is accepted and not done as written."""
    policy = new.spec.update_policy
    mode = policy.update_mode if policy else None
    if mode == AUTO:
        yield "spec.updatePolicy.updateMode: Auto is deprecated; Recreate does the same"
    elif mode == IN_PLACE_OR_RECREATE:
        yield f"spec.updatePolicy.updateMode: {mode} acts as Recreate: pods are not resized in place"
    elif mode == IN_PLACE:
        yield f"spec.updatePolicy.updateMode: {mode} acts as Initial: pods are not resized in place"
    policies = new.spec.resource_policy.container_policies if new.spec.resource_policy else ()
    if new.spec.startup_boost is not None or any(p.startup_boost is not None for p in policies):
        yield "startupBoost is accepted and stored, but not acted upon"


def _update_policy(where: str, policy: PodUpdatePolicy) -> Causes:
    yield from one_of(f"{where}.updateMode", policy.update_mode, UPDATE_MODES)
    yield from at_least(f"{where}.minReplicas", policy.min_replicas, 1)
    yield from at_least(f"{where}.evictAfterOOMSeconds", policy.evict_after_oom_seconds, 1)
    for i, requirement in enumerate(policy.eviction_requirements):
        field = f"{where}.evictionRequirements[{i}]"
        if not requirement.resources:
            yield required(f"{field}.resources")
        for k, name in enumerate(requirement.resources):
            yield from one_of(f"{field}.resources[{k}]", name, RESOURCES)
        if not requirement.change_requirement:
            yield required(f"{field}.changeRequirement")
        known = (TARGET_HIGHER, TARGET_LOWER)
        yield from one_of(f"{field}.changeRequirement", requirement.change_requirement, known)


def _container_policy(where: str, policy: ContainerResourcePolicy) -> Causes:
    if not policy.container_name:
        yield required(f"{where}.containerName", "a container's name, or * for all others")
    yield from one_of(f"{where}.mode", policy.mode, ("Auto", "Off"))
    yield from one_of(
        f"{where}.controlledValues", policy.controlled_values, (REQUESTS_AND_LIMITS, REQUESTS_ONLY)
    )
    if policy.mode == "Off" and policy.controlled_values:
        yield forbidden(f"{where}.controlledValues", "may not be specified when `mode` is 'Off'")
    for k, name in enumerate(policy.controlled_resources or ()):
        yield from one_of(f"{where}.controlledResources[{k}]", name, RESOURCES)
    yield from _bounds(where, policy.min_allowed, policy.max_allowed)
    yield from _quantity(f"{where}.oomBumpUpRatio", policy.oom_bump_up_ratio, least=1)
    yield from _quantity(f"{where}.oomMinBumpUp", policy.oom_min_bump_up, step=WHOLE)
    for field, value in (
        ("memoryAggregationIntervalSeconds", policy.memory_aggregation_interval_seconds),
        ("memoryAggregationIntervalCount", policy.memory_aggregation_interval_count),
    ):
        yield from at_least(f"{where}.{field}", value, 1)
    if policy.startup_boost is not None:
        yield from _boost(f"{where}.startupBoost", policy.startup_boost)


def _bounds(where: str, least: Amounts, most: Amounts) -> Causes:
    problems = [
        cause
        for side, amounts in (("minAllowed", least), ("maxAllowed", most))
        for name, amount in amounts.items()
        for cause in _amount(f"{where}.{side}[{name}]", name, amount)
    ]
    yield from problems
    if problems:
        return
    for name in least.keys() & most.keys():
        if parse_quantity(most[name]) < parse_quantity(least[name]):
            field = f"{where}.maxAllowed[{name}]"
            yield wrong(field, most[name], f"must be greater than or equal to `minAllowed` ({least[name]})")


def _amount(field: str, name: str, amount: Quantity) -> Causes:
    yield from one_of(field, name, RESOURCES)
    yield from _quantity(field, amount, step=MILLI if name == "cpu" else WHOLE)


def _quantity(field: str, amount: Quantity | None, *, least: int = 0, step: Decimal | None = None) -> Causes:
    """Causes if this is no quantity, too small, or finer than `step`: whole milli CPUs, whole bytes."""
    if amount is None:
        return
    try:
        value = parse_quantity(amount)
    except InvalidInput as error:
        yield wrong(field, amount, error.message)
        return
    if value < least:
        yield wrong(field, amount, f"must be greater than or equal to {least}")
    elif step is not None and value % step:
        yield wrong(field, amount, f"must be a whole number of {'milli CPUs' if step == MILLI else 'bytes'}")


def _boost(where: str, boost: StartupBoost) -> Causes:
    rule, where = boost.cpu, f"{where}.cpu"
    if rule is None:
        return
    yield from one_of(f"{where}.type", rule.type, ("Factor", "Quantity"))
    if (rule.type == "Factor") != (rule.factor is not None):
        yield wrong(f"{where}.factor", rule.factor, "is required when type is Factor and forbidden otherwise")
    if (rule.type == "Quantity") != (rule.quantity is not None):
        detail = "is required when type is Quantity and forbidden otherwise"
        yield wrong(f"{where}.quantity", rule.quantity, detail)
    yield from _quantity(f"{where}.quantity", rule.quantity, step=MILLI)
    yield from at_least(f"{where}.durationSeconds", rule.duration_seconds)
