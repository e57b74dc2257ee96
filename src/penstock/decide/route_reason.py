"""Why did this endpoint get the request, in a word?

The word is for counters: few values, each of them something that an operator may want to see less or more of. Of several that are true the
first one counts, in the order of `RouteReason`.
"""

from __future__ import annotations

from typing import Literal

RouteReason = Literal["again", "set_aside", "only", "cold", "cache", "balance"]
"""again: it was sent elsewhere before. set_aside: the circuits of all endpoints were open. only: there was nothing to choose from. cold: no
endpoint was taken to hold any of the prompt. cache: none was taken to hold more of it. balance: one was, and had too much else to do."""

SLIGHT_TOKENS = 0.5
"""What one endpoint is expected to hold more than another by less than this is the same: expectations are not whole numbers."""


def route_reason(
    attempt: int, all_avoided: bool, considered: int, cached_tokens: float, most_cached_tokens: float
) -> RouteReason:
    """`attempt` counts from 1; `cached_tokens` are expected at the chosen endpoint, `most_cached_tokens` at the one that holds most."""
    if attempt > 1:
        return "again"
    if all_avoided:
        return "set_aside"
    if considered <= 1:
        return "only"
    if most_cached_tokens < SLIGHT_TOKENS:
        return "cold"
    return "balance" if most_cached_tokens - cached_tokens >= SLIGHT_TOKENS else "cache"
