"""Do two autoscalers pull at one target?

Replicas have one master: of a PodAutoscaler, a HorizontalPodAutoscaler and a ScaledObject with the same target, the first holds and
the others are refused. A vertical autoscaler and a horizontal one may share a target, but not a resource: more pods bring use per
pod down, which makes the pods smaller, which brings more pods.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from penstock.decide.vpa import controlled, policy_mode
from penstock.resources.annotations import KNATIVE_CLASS, KNATIVE_HPA
from penstock.resources.autoscaling import CrossVersionObjectReference, HorizontalPodAutoscaler
from penstock.resources.keda import RESOURCE_TRIGGERS, ScaledObject
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.vpa import ANY_CONTAINER, OFF, RESOURCES, VerticalPodAutoscaler

Horizontal: TypeAlias = HorizontalPodAutoscaler | ScaledObject | PodAutoscaler
Autoscaler: TypeAlias = Horizontal | VerticalPodAutoscaler

REASON = "ConflictingAutoscaler"
"""For conditions and Events of whoever is refused."""
KNATIVE_METRIC = "autoscaling.knative.dev/metric"


@dataclass(frozen=True, slots=True)
class Conflict:
    """`other` came first. `resources` is what both want to say, empty for the number of replicas."""

    other: Autoscaler
    resources: frozenset[str]
    message: str


class Target(NamedTuple):
    """What is scaled; `group` is "" where a reference leaves it open."""

    group: str
    kind: str
    name: str


def conflicts(scaler: Autoscaler, others: Iterable[Autoscaler]) -> tuple[Conflict, ...]:
    """Every earlier autoscaler of `others` that `scaler` must give way to, the first of them first.

    `others` may hold `scaler` itself, and objects of other namespaces. One that is not stored yet comes last.
    """
    found = [
        conflict
        for other in others
        if _may_clash(scaler, other)
        and _turn(other) < _turn(scaler)
        and (conflict := _between(scaler, other)) is not None
    ]
    return tuple(sorted(found, key=lambda conflict: _turn(conflict.other)))


def refused_resources(found: Iterable[Conflict]) -> frozenset[str]:
    """The resources that a vertical autoscaler leaves alone for these conflicts."""
    return frozenset(resource for conflict in found for resource in conflict.resources)


def target_of(scaler: Autoscaler) -> Target:
    """What an autoscaler scales; a ScaledObject's reference means a Deployment unless it says otherwise."""
    if isinstance(scaler, VerticalPodAutoscaler):
        return _target(scaler.spec.target_ref)
    if isinstance(scaler, ScaledObject):
        reference = scaler.spec.scale_target_ref
        given = CrossVersionObjectReference(
            api_version=reference.api_version or "apps/v1",
            kind=reference.kind or "Deployment",
            name=reference.name,
        )
        return _target(given)
    return _target(scaler.spec.scale_target_ref)


def resources_of(scaler: Autoscaler) -> frozenset[str]:
    """Which of cpu and memory it acts by, or acts upon; none for a vertical autoscaler that only recommends."""
    if isinstance(scaler, VerticalPodAutoscaler):
        return _sized(scaler)
    if isinstance(scaler, ScaledObject):
        wanted = {trigger.type for trigger in scaler.spec.triggers if trigger.type in RESOURCE_TRIGGERS}
    elif isinstance(scaler, PodAutoscaler):
        annotations = scaler.metadata.annotations
        by_hpa = annotations.get(KNATIVE_CLASS) == KNATIVE_HPA
        wanted = {annotations.get(KNATIVE_METRIC, "cpu")} if by_hpa else set()
    else:
        sources = (m.resource or m.container_resource for m in scaler.spec.metrics)
        wanted = {source.name for source in sources if source} if scaler.spec.metrics else {"cpu"}
    return frozenset(wanted) & frozenset(RESOURCES)


def _sized(scaler: VerticalPodAutoscaler) -> frozenset[str]:
    policy = scaler.spec.update_policy
    if policy is not None and policy.update_mode == OFF:
        return frozenset()
    given = scaler.spec.resource_policy.container_policies if scaler.spec.resource_policy else ()
    resources = {r for p in given if policy_mode(scaler, p.container_name) != "Off" for r in controlled(p)}
    if not any(p.container_name == ANY_CONTAINER for p in given):
        resources |= set(RESOURCES)  # containers that no policy names
    return frozenset(resources)


def _may_clash(one: Autoscaler, other: Autoscaler) -> bool:
    """Not the same one, not one that serves the other (as KEDA's HPA does), neither on its way out, of one namespace."""
    if one.metadata.namespace != other.metadata.namespace or other.metadata.deletion_timestamp is not None:
        return False
    if (one.kind, one.metadata.name) == (other.kind, other.metadata.name):
        return False
    return not _owns(one, other) and not _owns(other, one)


def _owns(owner: Autoscaler, owned: Autoscaler) -> bool:
    return any((r.kind, r.name) == (owner.kind, owner.metadata.name) for r in owned.metadata.owner_references)


def _turn(scaler: Autoscaler) -> tuple[bool, str, str, str]:
    """Who came first; of one second, whose kind and name come first."""
    created = scaler.metadata.creation_timestamp
    return created is None, created or "", scaler.kind, scaler.metadata.name


def _between(scaler: Autoscaler, other: Autoscaler) -> Conflict | None:
    target, its = target_of(scaler), target_of(other)
    if (target.kind, target.name) != (its.kind, its.name):
        return None
    if target.group and its.group and target.group != its.group:
        return None
    where = f"{target.kind} {target.name}"
    who = f"{other.kind} {other.metadata.name}"
    vertical = isinstance(scaler, VerticalPodAutoscaler), isinstance(other, VerticalPodAutoscaler)
    if not any(vertical):
        return Conflict(other, frozenset(), f"{where} is already scaled by {who}: remove one of the two")
    both = resources_of(scaler) & resources_of(other)
    if not both:
        return None
    names = " and ".join(sorted(both))
    verb = "sizes the pods of" if vertical[1] else "scales"
    advice = "let them control different resources, or set updateMode: Off on the vertical one"
    return Conflict(other, both, f"{who} already {verb} {where} by {names}: {advice}")


def _target(reference: CrossVersionObjectReference) -> Target:
    return Target(reference.api_version.rpartition("/")[0], reference.kind, reference.name)
