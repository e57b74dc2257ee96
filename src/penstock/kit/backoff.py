"""How long to wait before trying again."""

from __future__ import annotations

from collections.abc import Iterator


def delay_s(attempt: int, *, base_s: float, cap_s: float, factor: float = 2.0) -> float:
    """The wait before the attempt after `attempt` failures (1, 2, …): base, base·factor, …, at most `cap_s`."""
    if attempt < 1:
        return 0.0
    try:
        return min(cap_s, base_s * factor ** (attempt - 1))
    except OverflowError:
        return cap_s


def delays_s(*, base_s: float, cap_s: float, factor: float = 2.0) -> Iterator[float]:
    """The waits after the first, second, … failure, for ever."""
    wait_s = min(base_s, cap_s)
    while True:
        yield wait_s
        wait_s = min(cap_s, wait_s * factor)


def spread_s(wait_s: float, fraction: float, chance: float) -> float:
    """The wait made longer by up to `fraction` of itself; `chance` in [0, 1) is the caller's random number."""
    return wait_s * (1.0 + fraction * chance)
