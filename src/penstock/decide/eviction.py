"""Which cached models go first when room is needed?

Those whose bytes are worth least: the seconds that a byte saves are how often the model will be asked for times how long it takes to
bring again, per byte. How often is predicted from requests that count half as much for every half-life that they are past. A model
that was bound to the node, or that a pod has in use, stays. Room is made when the high watermark is passed, down to the low one, so that
it is made seldom.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

HIGH, LOW = 0.90, 0.80
HALF_LIFE_S = 7 * 86_400.0
"""A week, since use has weekly patterns; from 3 to 30 days it makes little difference (benchmarks/cache)."""
ONE_FILE_S = 0.5
"""What it costs to bring a model besides its bytes: connections, lists, checks."""
TYPICAL_BYTES_PER_S = 100e6


@dataclass(frozen=True, slots=True)
class Held:
    """A model on the disk. `weight` is its decayed count of requests at `last_at`; `reload_s` is what bringing it took, 0 if unknown."""

    name: str
    size_bytes: int
    last_at: float
    weight: float
    reload_s: float = 0.0
    pinned: str = ""
    """Why it may not go, "" if it may."""

    def asked(self, now: float) -> Held:
        """After one more request."""
        return replace(self, last_at=now, weight=1.0 + decayed(self.weight, now - self.last_at))


@dataclass(frozen=True, slots=True)
class Eviction:
    """`names` go, in this order; `missing_bytes` is what could not be freed. `reasons` has a line for every model, also for those that stay."""

    names: tuple[str, ...] = ()
    freed_bytes: int = 0
    missing_bytes: int = 0
    reasons: tuple[tuple[str, str], ...] = ()


def decayed(weight: float, age_s: float) -> float:
    """What a count is worth after a time."""
    return weight * math.exp2(-max(0.0, age_s) / HALF_LIFE_S)


def worth(model: Held, now: float) -> float:
    """Seconds of loading saved per day and byte, as far as the past tells."""
    rate = decayed(model.weight, now - model.last_at)
    reload_s = model.reload_s or ONE_FILE_S + model.size_bytes / TYPICAL_BYTES_PER_S
    return rate * reload_s / max(1, model.size_bytes)


def evict(
    held: Iterable[Held], *, used_bytes: int, limit_bytes: int, coming_bytes: int = 0, now: float
) -> Eviction:
    """Nothing while `used_bytes` and what is coming stay below the high watermark of `limit_bytes`."""
    after = used_bytes + coming_bytes
    if after <= HIGH * limit_bytes:
        return Eviction(reasons=tuple((model.name, _reason(model, now)) for model in held))
    needed = after - int(LOW * limit_bytes)
    ordered = sorted(held, key=lambda model: (bool(model.pinned), worth(model, now), model.name))
    names, freed = [], 0
    for model in ordered:
        if model.pinned or freed >= needed:
            break
        names.append(model.name)
        freed += model.size_bytes
    reasons = tuple((model.name, _reason(model, now)) for model in ordered)
    return Eviction(tuple(names), freed, max(0, needed - freed), reasons)


def _reason(model: Held, now: float) -> str:
    if model.pinned:
        return f"stays: {model.pinned}"
    days = max(0.0, now - model.last_at) / 86_400
    return f"last asked for {days:.1f} days ago; saves {worth(model, now) * 1e9:.3g} s a day per GB"
