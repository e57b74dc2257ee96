"""The mark on a pod that is being moved: another one is started beside it, and it goes when that one serves."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.resources.pod import Pod

MOVE = "penstock.dev/move"
"""Written by the platform on a pod: `Moving` as JSON."""
HOST_NAME = "kubernetes.io/hostname"
WEIGHT = 100
"""The most that Kubernetes lets a preference count."""


class Moving(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`to` is the node that was found for the successor. Past `until` (Unix s) the mark means nothing. `gpus` is what the move wins."""

    to: str
    at: float
    until: float
    because: str = ""
    gpus: float = 0.0


def moving_of(pod: Pod) -> Moving | None:
    """The mark, also one that has run out; None without one, and where it cannot be read."""
    text = pod.metadata.annotations.get(MOVE)
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=Moving)
    except msgspec.DecodeError:
        return None


def is_moving(pod: Pod, now: float) -> bool:
    """Whether its ReplicaSet has another pod in its place."""
    mark = moving_of(pod)
    return mark is not None and now < mark.until


def leaning_to(pod: Pod, node: str) -> Pod:
    """The pod, which would rather run on that node: nothing that keeps it away from there is overruled."""
    affinity = pod.spec.affinity or {}
    nodes = affinity.get("nodeAffinity") or {}
    known = nodes.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    own: dict[str, Any] = {
        "weight": WEIGHT,
        "preference": {"matchExpressions": [{"key": HOST_NAME, "operator": "In", "values": [node]}]},
    }
    wider = {**nodes, "preferredDuringSchedulingIgnoredDuringExecution": [*known, own]}
    return replace(pod, spec=replace(pod.spec, affinity={**affinity, "nodeAffinity": wider}))
