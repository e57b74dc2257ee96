"""When should a refused caller come again?

After the queue before it has drained at the rate measured lately. The answer lies in [0.1 s, 120 s]: OpenAI's client does not
come again at all beyond 120 s. Callers refused together are spread by a hash of their request ids, or they would return together.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, expm1

from penstock.kit.hashing import DRAWS, draw

LEAST_S = 0.1
MOST_S = 120.0
SPREAD = 0.25
"""How much longer the latest of callers refused together waits."""
MEMORY_S = 10.0
"""Over how long the drain rate is averaged."""
UNKNOWN_S = 1.0
"""Where nothing has been completed lately."""
LATE_S = 5.0
"""Where nobody knows when a start ends."""
NEVER = frozenset({"insufficient_quota", "budget_spent", "rate_limit_unreachable"})
"""Codes of refusals that time alone does not lift."""


def retry_after_s(queue: int, drain_per_s: float, request_id: str, unknown_s: float = UNKNOWN_S) -> float:
    """`queue` requests are before the caller's; `drain_per_s` is what `drained` says.

    Where nothing drains, the rate says nothing: then `unknown_s` is the wait, before it is spread.
    """
    return spread_s((queue + 1) / drain_per_s if drain_per_s > 0.01 else unknown_s, request_id)


def spread_s(wait_s: float, request_id: str) -> float:
    """A wait within the bounds, by up to a quarter longer, always the same for the same request."""
    bounded = min(max(wait_s, LEAST_S), MOST_S / (1.0 + SPREAD))
    return bounded * (1.0 + SPREAD * draw(request_id) / DRAWS)


def start_left_s(expected_s: float, passed_s: float) -> float:
    """For a caller who came while a service starts, which takes `expected_s` (0: unknown) and began `passed_s` ago.

    A start that is late by now, or of which nothing is known, is looked for again in a while.
    """
    return max(expected_s - passed_s, LATE_S)


def should_retry(code: str) -> bool:
    """`x-should-retry` for a refusal that carries a Retry-After; it overrides what OpenAI's clients do by themselves."""
    return code not in NEVER


def drained(rate_per_s: float, completed: int, elapsed_s: float) -> float:
    """Completions per second, averaged exponentially: older ones fade with a time constant of 10 s."""
    if elapsed_s < 1e-6:
        return rate_per_s + completed / MEMORY_S
    return rate_per_s * exp(-elapsed_s / MEMORY_S) - completed / elapsed_s * expm1(-elapsed_s / MEMORY_S)


def measured(rate_per_s: float, age_s: float) -> float:
    """The average made good for a meter that is younger than its memory, which has begun at 0."""
    return rate_per_s / (1.0 - exp(-max(age_s, 1.0) / MEMORY_S))


def asked_s(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """What an upstream's own Retry-After says, in seconds; 0 where it says none, or a date. Names are lower-case."""
    wait_s = 0.0
    for name, value in headers:
        if name == b"retry-after-ms" and value.isdigit():
            return int(value) / 1000
        if name == b"retry-after" and value.isdigit():
            wait_s = float(int(value))
    return wait_s
