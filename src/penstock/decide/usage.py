"""How much does a container use, by two looks at what it has used so far?

CPU is a rate over the time between the looks, so that one look tells nothing; memory is as it is now. Looks too near to each other, of
different runs, or with time going backwards make no rate: a number that is not known is left out, never made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LEAST_WINDOW_S = 4.0
STALE_S = 60.0
"""A usage older than this says nothing about now."""


@dataclass(frozen=True, slots=True)
class Look:
    """A container at `at` (s): which `run` of it, CPU seconds used so far, bytes resident, and GPU devices in use (0 to their number)."""

    at: float
    run: str
    cpu_s: float
    memory_bytes: int
    gpus: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What one container uses: in cores, bytes and GPU devices, measured at `at` over `window_s`."""

    at: float
    window_s: float
    amounts: Mapping[str, float] = field(default_factory=dict)


def usage(before: Look, now: Look) -> Usage | None:
    """The usage between two looks; None if they cannot be compared."""
    window_s = now.at - before.at
    if before.run != now.run or window_s < LEAST_WINDOW_S or now.cpu_s < before.cpu_s:
        return None
    amounts = {"cpu": (now.cpu_s - before.cpu_s) / window_s, "memory": float(now.memory_bytes)}
    if now.gpus is not None:
        amounts["nvidia.com/gpu"] = now.gpus
    return Usage(now.at, window_s, amounts)


def of_pod(
    containers: Mapping[str, Usage], wanted: frozenset[str], resource: str, container: str, now: float
) -> Usage | None:
    """The usage of a whole pod, or of one `container` if that is not "". None if any of the `wanted` containers is not known.

    A pod of which a part is unknown would seem idle, and be scaled in for it.
    """
    names = {container} if container else wanted
    known = [containers[name] for name in names if name in containers]
    if not known or len(known) < len(names):
        return None
    if any(resource not in seen.amounts or now - seen.at > STALE_S for seen in known):
        return None
    return Usage(
        min(seen.at for seen in known),
        max(seen.window_s for seen in known),
        {resource: sum(seen.amounts[resource] for seen in known)},
    )
