"""Which taint keeps this pod away?"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.resources.core import Taint
from penstock.resources.pod import Toleration

KEEPS_OFF = ("NoSchedule", "NoExecute")


def untolerated(
    taints: Iterable[Taint], tolerations: tuple[Toleration, ...], effects: tuple[str, ...] = KEEPS_OFF
) -> Taint | None:
    """The first taint with one of the effects that no toleration allows, or None."""
    return next(
        (taint for taint in taints if taint.effect in effects and not tolerated(taint, tolerations)), None
    )


def tolerated(taint: Taint, tolerations: tuple[Toleration, ...]) -> bool:
    """Whether the pod may live with the taint (Kubernetes: an empty key with Exists tolerates all, an empty effect any)."""
    return any(
        (not t.effect or t.effect == taint.effect)
        and ((not t.key and t.operator == "Exists") or t.key == taint.key)
        and (t.operator == "Exists" or t.value == taint.value)
        for t in tolerations
    )
