"""With which requests and limits does this pod start, now that its size is known?

What VPA does on admission. Source: kubernetes/autoscaler's admission controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal

from msgspec import structs

from penstock.decide.vpa import amount, policy_mode, policy_of, quantity_of
from penstock.kit.quantity import parse_quantity
from penstock.resources.meta import Quantity
from penstock.resources.pod import Container, Pod, ResourceRequirements
from penstock.resources.vpa import (
    REQUESTS_ONLY,
    Amounts,
    RecommendedContainerResources,
    VerticalPodAutoscaler,
)

UPDATES = "vpaUpdates"
"""The annotation by which Kubernetes' admission says what it changed."""


@dataclass(frozen=True, slots=True)
class Sized:
    """The pod as it should be created, and what was changed; without changes it is the same pod."""

    pod: Pod
    changes: tuple[str, ...] = ()


def sized(pod: Pod, autoscaler: VerticalPodAutoscaler, refused: frozenset[str] = frozenset()) -> Sized:
    """The pod with what its autoscaler's status recommends; resources in `refused` are left alone."""
    recommended = recommendations(autoscaler)
    containers, changes = [], []
    for i, container in enumerate(pod.spec.containers):
        target = wanted_requests(autoscaler, container, recommended.get(container.name), refused)
        changed, texts = _container(autoscaler, container, target)
        containers.append(changed)
        if texts:
            changes.append(f"container {i}: {', '.join(texts)}")
    if not changes:
        return Sized(pod)
    text = f"Pod resources updated by {autoscaler.metadata.name}: {'; '.join(changes)}"
    metadata = structs.replace(pod.metadata, annotations={**pod.metadata.annotations, UPDATES: text})
    spec = structs.replace(pod.spec, containers=tuple(containers))
    return Sized(structs.replace(pod, metadata=metadata, spec=spec), tuple(changes))


def recommendations(autoscaler: VerticalPodAutoscaler) -> Mapping[str, RecommendedContainerResources]:
    """What the status recommends, by container."""
    given = autoscaler.status.recommendation
    return {one.container_name: one for one in (given.container_recommendations if given else ())}


def wanted_requests(
    autoscaler: VerticalPodAutoscaler,
    container: Container,
    recommended: RecommendedContainerResources | None,
    refused: frozenset[str] = frozenset(),
) -> Amounts:
    """The target for a container: bounded by its limits where only requests are controlled. Empty if it is left alone."""
    if recommended is None or policy_mode(autoscaler, container.name) == "Off":
        return {}
    target = {name: value for name, value in recommended.target.items() if name not in refused}
    return {name: within_limit(autoscaler, container, name, value) for name, value in target.items()}


def within_limit(
    autoscaler: VerticalPodAutoscaler, container: Container, resource: str, value: Quantity
) -> Quantity:
    """A request of at most the container's limit, where limits are not controlled."""
    policy = policy_of(autoscaler, container.name)
    limit = limit_of(container, resource)
    if policy is None or policy.controlled_values != REQUESTS_ONLY or limit is None:
        return value
    return limit if amount(resource, value) > amount(resource, limit) else value


def request_of(container: Container, resource: str) -> Quantity | None:
    """What the container requests: its limit where only that is given."""
    requests = container.resources.requests if container.resources else {}
    return requests.get(resource, limit_of(container, resource))


def limit_of(container: Container, resource: str) -> Quantity | None:
    """What the container may use at most."""
    return container.resources.limits.get(resource) if container.resources else None


def _container(
    autoscaler: VerticalPodAutoscaler, container: Container, target: Amounts
) -> tuple[Container, tuple[str, ...]]:
    given = container.resources or ResourceRequirements()
    requests, limits = dict(given.requests), dict(given.limits)
    changes: list[str] = []
    policy = policy_of(autoscaler, container.name)
    keeps_limits = policy is not None and policy.controlled_values == REQUESTS_ONLY
    for resource, value in target.items():
        if requests.get(resource) != value:
            requests[resource] = value
            changes.append(f"{resource} request")
        limit = limit_of(container, resource)
        if limit is None or keeps_limits:
            continue
        grown = _in_proportion(resource, limit, request_of(container, resource), value)
        if limits[resource] != grown:
            limits[resource] = grown
            changes.append(f"{resource} limit")
    if not changes:
        return container, ()
    resources = ResourceRequirements(requests=requests, limits=limits, claims=given.claims)
    return structs.replace(container, resources=resources), tuple(changes)


def _in_proportion(resource: str, limit: Quantity, request: Quantity | None, target: Quantity) -> Quantity:
    """A limit as far above the new request as the old one was above the old; never below the request."""
    before = parse_quantity(request) if request is not None else Decimal(0)
    if not before:
        return limit if parse_quantity(limit) >= parse_quantity(target) else target
    share = parse_quantity(limit) / before
    if share == 1:
        return target
    grown = share * amount(resource, target)
    rounding = ROUND_HALF_UP if resource == "cpu" else ROUND_CEILING
    return quantity_of(resource, int(grown.to_integral_value(rounding)))
