"""How many tokens that no cache holds may be taken in, before they drive out prefixes that keep coming back?

Engines evict what was used longest ago. By Che's approximation (Che, Tung and Wang, 2002) a prefix that is asked for `rate` times a second is
still held with probability 1 - exp(-rate T), where T is the time in which as much is taken in as the caches have room for. So prompts that
nobody holds shorten T for everybody, and past a point the prefixes that were evicted must be computed again and evict others: the pool works
at what it has held before, its queue grows, and the hit rate falls with every new group (from 98 to 5 percent, in the worst case reported).

The rule: cold prompts get what the working set leaves. `horizon_s` is the least T that keeps 95 percent of the hits; within it, what is cold may
fill the part of the caches that the working set does not. More than that is held back, yet only where it pays: if the engines could compute
all of it, hits included, a miss costs one caller some time, and holding costs another one more. A tenth of what engines can compute is left
to the cold whatever the working set, or new groups would never become warm.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log
from typing import NamedTuple

KEPT = 0.95
"""The share of hits that is to be kept."""
LEAST_SHARE = 0.1
LEAST_TOKENS = 1024.0
"""What evicts less than this is not worth holding back."""
STEPS = 24
"""Halvings of the horizon's logarithm: to within a millionth of the span it lies in."""


class Prefix(NamedTuple):
    """A beginning of prompts that is held: its size, and how many requests a second begin with it."""

    tokens: float
    rate: float


class Budget(NamedTuple):
    """`tokens_per_s` that nobody holds may be taken in, `tokens` of them at once; why, in words. Endless where nothing is held back."""

    tokens_per_s: float = inf
    tokens: float = inf
    reason: str = ""


def is_cold(prompt_tokens: float, uncached_tokens: float) -> bool:
    """Whether a prompt brings more into a cache than it finds there."""
    return uncached_tokens >= LEAST_TOKENS and uncached_tokens > prompt_tokens / 2


def cold_budget(
    prefixes: Sequence[Prefix], capacity_tokens: float, compute_per_s: float, cold_per_s: float
) -> Budget:
    """`prefixes` are those asked for most; `capacity_tokens` is what all caches hold, `compute_per_s` how many tokens of prompts all engines
    compute in a second (0: unknown), `cold_per_s` how many of cold prompts come.
    """
    hits_per_s = sum(one.tokens * one.rate for one in prefixes)
    if not hits_per_s or not capacity_tokens:
        return Budget(reason="nothing is known of a working set")
    if not compute_per_s:
        return Budget(reason="how fast prompts are computed is not known")
    if hits_per_s + cold_per_s <= compute_per_s:
        return Budget(reason="the engines can compute all prompts, also without a cache")
    horizon_s = _horizon_s(prefixes, hits_per_s)
    working_set = sum(one.tokens * (1.0 - exp(-one.rate * horizon_s)) for one in prefixes)
    left = max(0.0, capacity_tokens - working_set)
    tokens_per_s = max(left / horizon_s, LEAST_SHARE * compute_per_s)
    reason = (
        f"prefixes that come back within {horizon_s:.0f} s take {working_set:.0f} of {capacity_tokens:.0f} tokens of cache: "
        f"{tokens_per_s:.0f} tokens a second are left for prompts that nobody holds"
    )
    return Budget(tokens_per_s, max(left, tokens_per_s), reason)


def _horizon_s(prefixes: Sequence[Prefix], hits_per_s: float) -> float:
    """The least time for which prefixes must be held for so many of their hits to be kept."""
    rates = [one.rate for one in prefixes if one.rate > 0.0]
    enough = -log(1.0 - KEPT)
    low, high = enough / max(rates), enough / min(rates)
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        lost = sum(one.tokens * one.rate * exp(-one.rate * middle) for one in prefixes)
        low, high = (low, middle) if lost <= (1.0 - KEPT) * hits_per_s else (middle, high)
    return high
