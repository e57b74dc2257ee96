"""Which replicas go, and when may they end?

First those that are not ready: nobody loses anything. Then those with the fewest live streams, and of these the one whose cache saved
the fewest tokens lately. A replica that is to go gets no new requests and ends when its last stream has ended, or at the limit; if
demand comes back before, it stays: that is cheaper than a start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DRAINING = "penstock.dev/draining"
"""Annotation of a pod that is set aside: since when (RFC 3339)."""
SETTLE_S = 2.0
"""From when a replica is set aside until its stream count can be trusted: every gateway has the table, and has reported since."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One pod that has not ended. `cache_value` is in tokens that it need not have computed lately; `draining_since` in Unix seconds."""

    name: str
    ready: bool
    streams: int = 0
    cache_value: float = 0.0
    draining_since: float | None = None


@dataclass(frozen=True, slots=True)
class ScaleIn:
    """`size` is what the workload is set to now; `leave` those that go with it, first of all; `drain` and `keep` change who is set aside."""

    size: int
    leave: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    again_s: float | None = None
    reasons: tuple[str, ...] = ()


def plan_scale_in(replicas: Sequence[Replica], desired: int, now: float, limit_s: float) -> ScaleIn:
    """`limit_s` is how long a replica may drain. Growth goes through unchanged."""
    aside = [replica for replica in replicas if replica.draining_since is not None]
    surplus = len(replicas) - desired
    if surplus <= 0:
        return ScaleIn(desired, keep=tuple(replica.name for replica in aside))
    going = sorted(
        replicas, key=lambda replica: (replica.ready, replica.draining_since is None, _worth(replica))
    )[:surplus]
    names = {replica.name for replica in going}
    leave = [replica for replica in going if not replica.ready or _is_done(replica, now, limit_s)]
    waiting = [replica for replica in going if replica not in leave]
    return ScaleIn(
        size=len(replicas) - len(leave),
        leave=tuple(replica.name for replica in leave),
        drain=tuple(replica.name for replica in waiting if replica.draining_since is None),
        keep=tuple(replica.name for replica in aside if replica.name not in names),
        again_s=1.0 if waiting else None,
        reasons=tuple(f"{replica.name} goes: {_why(replica)}" for replica in going),
    )


def _worth(replica: Replica) -> tuple[int, float, str]:
    return replica.streams, replica.cache_value, replica.name


def _is_done(replica: Replica, now: float, limit_s: float) -> bool:
    if replica.draining_since is None:
        return False
    passed_s = now - replica.draining_since
    return passed_s >= limit_s or (passed_s >= SETTLE_S and not replica.streams)


def _why(replica: Replica) -> str:
    if not replica.ready:
        return "it is not ready"
    return f"{replica.streams} streams, {replica.cache_value:g} tokens of its cache used lately"
