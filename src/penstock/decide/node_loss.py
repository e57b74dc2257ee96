"""Has this node gone, and when do its pods leave it?

As Kubernetes' node lifecycle has it: a node that tells nothing of itself for a while is unreachable. Pods stay for five minutes more, in case it
comes back, or for as long as they tolerate it.
"""

from __future__ import annotations

from penstock.decide.tolerations import tolerated
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.core import Node, Taint
from penstock.resources.pod import Pod

SILENCE_S = 90.0
"""Three heartbeats of this host."""
STAY_S = 300.0
"""How long pods stay on a node that is unreachable (Kubernetes: DefaultTolerationSeconds)."""
UNREACHABLE = "node.kubernetes.io/unreachable"
EFFECTS = ("NoSchedule", "NoExecute")


def silent_at(node: Node) -> float | None:
    """When the node has been silent for too long (s since the epoch); None for one that never told when it was last seen."""
    beats = [one.last_heartbeat_time for one in node.status.conditions if one.type == "Ready"]
    return parse_rfc3339(beats[0]) + SILENCE_S if beats and beats[0] else None


def tainted(node: Node, now: str) -> tuple[Taint, ...]:
    """The taints of a node that is unreachable; those that it has keep their time."""
    there = {(one.key, one.effect) for one in node.spec.taints}
    missing = (effect for effect in EFFECTS if (UNREACHABLE, effect) not in there)
    return (
        *node.spec.taints,
        *(Taint(key=UNREACHABLE, effect=effect, time_added=now) for effect in missing),
    )


def untainted(node: Node) -> tuple[Taint, ...]:
    """Those of a node that is back."""
    return tuple(one for one in node.spec.taints if one.key != UNREACHABLE)


def leaves_at(pod: Pod, node: Node) -> float | None:
    """When the pod leaves this unreachable node (s since the epoch); None if it stays for ever."""
    found = (one for one in node.spec.taints if (one.key, one.effect) == (UNREACHABLE, "NoExecute"))
    taint = next(found, None)
    if taint is None or taint.time_added is None:
        return None
    own = [one for one in pod.spec.tolerations if tolerated(taint, (one,))]
    if not own:
        return parse_rfc3339(taint.time_added) + STAY_S
    limits = [one.toleration_seconds for one in own if one.toleration_seconds is not None]
    return parse_rfc3339(taint.time_added) + max(0, min(limits)) if limits else None
