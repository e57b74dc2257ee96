"""What priority does this pod have, and may it push others aside?

As admission fills it in from the PriorityClass (Kubernetes); for pods that are yet to be made, and those that are older than their class.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from penstock.resources.core import PriorityClass
from penstock.resources.pod import Pod

NEVER = "Never"


def prioritised(pod: Pod, classes: Iterable[PriorityClass]) -> Pod:
    """The pod with its class's priority and policy, unless it has a priority already."""
    if pod.spec.priority is not None:
        return pod
    known = tuple(classes)
    named = next((one for one in known if one.metadata.name == pod.spec.priority_class_name), None)
    default = next((one for one in known if one.global_default and not pod.spec.priority_class_name), None)
    chosen = named or default
    value, policy = (chosen.value, chosen.preemption_policy) if chosen else (0, None)
    return replace(pod, spec=replace(pod.spec, priority=value, preemption_policy=policy))


def may_push(pod: Pod, other: Pod) -> bool:
    """Whether `other` can be told to give way to the pod."""
    return pod.spec.preemption_policy != NEVER and (other.spec.priority or 0) < (pod.spec.priority or 0)
