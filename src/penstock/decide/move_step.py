"""What happens next to a pod that is being moved?

As many other pods as are wished must be available first: then it gets no new requests, and it goes when its last stream has ended. Everything is
read from the pods, so that whoever asks may be killed at any point. Where the successor got a place that does not help, or none in time,
the pod stays, and its ReplicaSet has one too many: of those the one that is not ready goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import floor
from typing import Literal

from msgspec import Struct

from penstock.decide.replica_set import is_active, ready_since
from penstock.decide.scale_in import DRAINING, SETTLE_S
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.moving import is_moving, moving_of
from penstock.resources.pod import Pod

DRAIN_LIMIT_S = 3600.0
"""How long a pod that is moved may keep its streams; a stream that is longer is cut."""
LOOK_AGAIN_S = 1.0
Action = Literal["Wait", "Drain", "Resume", "End", "Stay"]
"""Drain: no new requests. Resume: it gets requests again. End: it goes. Stay: it is not moved."""


class Step(Struct, frozen=True):
    """`again_s` is when to ask again, None when something has changed."""

    action: Action
    reason: str
    again_s: float | None = None


def next_step(
    pod: Pod, replicas: Iterable[Pod], wished: int, min_ready_s: int, now: float, streams: int | None
) -> Step:
    """`replicas` are all pods of its ReplicaSet, which wishes for so many; `streams` what is under way at the pod, None where nobody tells."""
    mark, since = moving_of(pod), _draining_since(pod)
    if mark is None or (now >= mark.until and since is None):
        return Step("Stay", "nothing took its place in time")
    others = [one for one in replicas if is_active(one) and not is_moving(one, now)]
    new = [one for one in others if _created_at(one) >= floor(mark.at)]
    astray = next((one for one in new if one.spec.node_name and one.spec.node_name != mark.to), None)
    if astray is not None and since is None and wished:
        where = astray.spec.node_name
        return Step("Stay", f"{astray.metadata.name} got a place on {where}, where nothing is won")
    available = sum(_is_available(one, min_ready_s, now) for one in others)
    if available < wished:
        told = f"{available} of {wished} other pods are available"
        return Step("Resume" if since is not None else "Wait", told, LOOK_AGAIN_S)
    if since is None:
        return Step("Drain", f"{available} other pods are available", LOOK_AGAIN_S)
    passed_s = now - since
    if passed_s >= DRAIN_LIMIT_S or (passed_s >= SETTLE_S and not streams):
        return Step("End", f"{available} other pods serve in its place")
    return Step("Wait", f"{streams or 0} streams are under way", LOOK_AGAIN_S)


def _draining_since(pod: Pod) -> float | None:
    text = pod.metadata.annotations.get(DRAINING)
    return parse_rfc3339(text) if text else None


def _created_at(pod: Pod) -> float:
    return parse_rfc3339(pod.metadata.creation_timestamp) if pod.metadata.creation_timestamp else 0.0


def _is_available(pod: Pod, min_ready_s: int, now: float) -> bool:
    since = ready_since(pod)
    return since is not None and now >= since + min_ready_s
