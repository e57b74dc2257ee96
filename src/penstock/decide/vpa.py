"""What size should one replica have?

Percentiles of what its containers used, a safety margin, bounds that are wide while little is known, and a floor; then the
autoscaler's own bounds. Source: kubernetes/autoscaler's recommender.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from penstock.decide.vpa_history import History
from penstock.kit.quantity import format_quantity, parse_quantity
from penstock.resources.meta import Quantity
from penstock.resources.vpa import (
    ANY_CONTAINER,
    AUTO,
    DEFAULT_RECOMMENDER,
    IN_PLACE,
    IN_PLACE_OR_RECREATE,
    INITIAL,
    RECREATE,
    RESOURCES,
    Amounts,
    ContainerResourcePolicy,
    RecommendedContainerResources,
    RecommendedPodResources,
    VerticalPodAutoscaler,
)

TARGET, LOWER, UPPER = 0.9, 0.5, 0.95
MARGIN = 0.15
MIN_POD = {"cpu": 25, "memory": 250 << 20}
"""What a pod needs at least, in milli CPUs and bytes: Kubernetes' 25m and 262144k."""
MAX_AMOUNT = 10**14


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The sizes of all containers that are sized; `confidence` is the least of theirs, in days of history."""

    resources: RecommendedPodResources
    confidence: float = 0.0
    reasons: tuple[str, ...] = ()


def recommend(autoscaler: VerticalPodAutoscaler, histories: Mapping[str, History]) -> Recommendation:
    """`histories` are those of the target's containers by name; one without samples gets no recommendation yet."""
    sized: list[RecommendedContainerResources] = []
    reasons: list[str] = []
    confidences: list[float] = []
    wanted = {name: h for name, h in sorted(histories.items()) if policy_mode(autoscaler, name) != "Off"}
    reasons += [f"{name}: its policy is Off" for name in sorted(histories.keys() - wanted.keys())]
    for name, history in wanted.items():
        if not history.samples:
            reasons.append(f"{name}: no use was seen yet")
            continue
        sized.append(_container(name, history, policy_of(autoscaler, name), len(wanted)))
        confidences.append(history.confidence)
        reasons.append(_reason(sized[-1], history))
    return Recommendation(
        RecommendedPodResources(tuple(sized)), min(confidences, default=0.0), tuple(reasons)
    )


def policy_of(autoscaler: VerticalPodAutoscaler, container: str) -> ContainerResourcePolicy | None:
    """The policy with the container's name, else the one for all others."""
    resource_policy = autoscaler.spec.resource_policy
    by_name = {p.container_name: p for p in (resource_policy.container_policies if resource_policy else ())}
    return by_name.get(container, by_name.get(ANY_CONTAINER))


def policy_mode(autoscaler: VerticalPodAutoscaler, container: str) -> str:
    """Auto, or Off for a container that is left alone."""
    policy = policy_of(autoscaler, container)
    return (policy.mode if policy else None) or "Auto"


def update_mode(autoscaler: VerticalPodAutoscaler) -> str:
    """Off, Initial or Recreate: what the written mode comes to on a host that resizes no running process."""
    policy = autoscaler.spec.update_policy
    written = (policy.update_mode if policy else None) or AUTO
    return {AUTO: RECREATE, IN_PLACE_OR_RECREATE: RECREATE, IN_PLACE: INITIAL}.get(written, written)


def is_ours(autoscaler: VerticalPodAutoscaler) -> bool:
    """Whether the default recommender is the one that the autoscaler asks."""
    named = autoscaler.spec.recommenders
    return not named or named[0].name == DEFAULT_RECOMMENDER


def controlled(policy: ContainerResourcePolicy | None) -> tuple[str, ...]:
    """The resources that the policy leaves to the autoscaler."""
    return RESOURCES if policy is None or policy.controlled_resources is None else policy.controlled_resources


def amount(resource: str, quantity: Quantity) -> int:
    """A quantity in milli CPUs or bytes, rounded up."""
    return math.ceil(parse_quantity(quantity) * (1000 if resource == "cpu" else 1))


def quantity_of(resource: str, amount: int) -> str:
    """The quantity of so many milli CPUs or bytes."""
    return format_quantity(Decimal(amount) / 1000 if resource == "cpu" else amount)


def _container(
    name: str, history: History, policy: ContainerResourcePolicy | None, containers: int
) -> RecommendedContainerResources:
    confidence = history.confidence
    wider = _power(1 + _over(1.0, confidence), 1)
    narrower = _power(1 + _over(0.001, confidence), -2)
    target, lower, upper = (
        {resource: _estimate(history, resource, share, factor, containers) for resource in controlled(policy)}
        for share, factor in ((TARGET, 1.0), (LOWER, narrower), (UPPER, wider))
    )
    return RecommendedContainerResources(
        container_name=name,
        target=_written(_capped(target, policy)),
        lower_bound=_written(_capped(lower, policy)),
        upper_bound=_written(_capped(upper, policy)),
        uncapped_target=_written(target),
    )


def _estimate(history: History, resource: str, share: float, factor: float, containers: int) -> int:
    """Milli CPUs or bytes: whole after every step, as the amounts of the source are."""
    cpu = resource == "cpu"
    used = int(history.cpu.percentile(share) * 1000 if cpu else history.memory.percentile(share))
    with_margin = used + int(used * MARGIN)
    scaled = with_margin * factor if with_margin else 0.0
    floor = int(MIN_POD[resource] / containers)
    return max(floor, MAX_AMOUNT if scaled >= MAX_AMOUNT else int(scaled))


def _capped(amounts: Mapping[str, int], policy: ContainerResourcePolicy | None) -> dict[str, int]:
    least: Amounts = policy.min_allowed if policy else {}
    most: Amounts = policy.max_allowed if policy else {}
    result = {}
    for resource, value in amounts.items():
        raised = max(value, amount(resource, least[resource])) if resource in least else value
        result[resource] = min(raised, amount(resource, most[resource])) if resource in most else raised
    return result


def _written(amounts: Mapping[str, int]) -> Amounts:
    return {resource: quantity_of(resource, value) for resource, value in amounts.items()}


def _over(share: float, confidence: float) -> float:
    return share / confidence if confidence > 0 else math.inf


def _power(base: float, exponent: int) -> float:
    return base**exponent if math.isfinite(base) else (math.inf if exponent > 0 else 0.0)


def _reason(sized: RecommendedContainerResources, history: History) -> str:
    target = ", ".join(f"{resource} {value}" for resource, value in sized.target.items())
    uncapped = sized.uncapped_target
    bounded = [resource for resource, value in sized.target.items() if uncapped[resource] != value]
    by_policy = f" (bounded by its policy: {', '.join(bounded)})" if bounded else ""
    return (
        f"{sized.container_name}: {target}{by_policy}: the 90th percentile of {history.samples} samples"
        f" over {history.confidence:.2f} days, and 15 % more"
    )
