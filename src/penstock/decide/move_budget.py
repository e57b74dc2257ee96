"""How much may still be moved now?

As Karpenter's disruption budgets: so many pods and so many GPU-seconds of work in any hour. What was begun counts, whatever became of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

HOUR_S = 3600.0


class Limits(Struct, frozen=True, kw_only=True):
    """In any hour."""

    moves: int
    gpu_seconds: float


class Spent(Struct, frozen=True, kw_only=True, rename="camel"):
    """Some pods that were moved together at a time (Unix s), `pods` as NAMESPACE/NAME."""

    at: float
    pods: tuple[str, ...]
    gpu_seconds: float
    because: str = ""


class Allowance(Struct, frozen=True, kw_only=True):
    """What is left. `again_s` is when there will be more, None while nothing is spent."""

    moves: int
    gpu_seconds: float
    again_s: float | None = None

    def refusal(self, moves: int, gpu_seconds: float) -> str:
        """Why so much may not be moved now, or ""."""
        if moves > self.moves:
            return f"{moves} pods would move, {self.moves} more may within the hour"
        if gpu_seconds > self.gpu_seconds:
            return f"{gpu_seconds:.0f} GPU-seconds would be lost, {self.gpu_seconds:.0f} more may be within the hour"
        return ""


def allowance(limits: Limits, spent: Iterable[Spent], now: float) -> Allowance:
    """What the hour before leaves."""
    recent = recent_of(spent, now)
    return Allowance(
        moves=max(0, limits.moves - sum(len(one.pods) for one in recent)),
        gpu_seconds=max(0.0, limits.gpu_seconds - sum(one.gpu_seconds for one in recent)),
        again_s=min((one.at + HOUR_S - now for one in recent), default=None),
    )


def recent_of(spent: Iterable[Spent], now: float) -> tuple[Spent, ...]:
    """Those that count."""
    return tuple(one for one in spent if now - one.at < HOUR_S)
