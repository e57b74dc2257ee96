"""Which class is this prompt: short, long or batch?

By the tokens that its best endpoint would still have to compute, not by its length: a long conversation that is in a cache is a short
prompt. What its caller calls a batch is one, whatever its length. A class may have a pool of endpoints, by their labels, and limits of
what is in flight of it; where no endpoint has the labels, the class may use all.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from penstock.contracts.exchange import Endpoint, PromptClassRoute, RoutingRoute
from penstock.contracts.scheduling import Prompt

PromptClass = Literal["short", "long", "batch"]
SHORT: PromptClass = "short"
LONG: PromptClass = "long"
BATCH: PromptClass = "batch"


def class_of(prompt: Prompt, cached_tokens: Collection[float], threshold_tokens: int) -> PromptClass:
    """`cached_tokens` are those that endpoints are expected to hold, one number for each that holds any."""
    if prompt.is_batch:
        return BATCH
    if prompt.tokens <= threshold_tokens:
        return SHORT
    return LONG if prompt.tokens - max(cached_tokens, default=0.0) > threshold_tokens else SHORT


def class_route(routing: RoutingRoute, prompt_class: PromptClass) -> PromptClassRoute:
    """What holds for a class."""
    return routing.short if prompt_class == SHORT else routing.long if prompt_class == LONG else routing.batch


def pool_of(held: PromptClassRoute, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """The endpoints that a class may use, in order; all where none has its labels."""
    if not held.pool:
        return endpoints
    wanted = frozenset(held.pool)
    return [one for one in endpoints if wanted.issubset(one.labels)] or endpoints


def lack_of_room(held: PromptClassRoute, requests: int, tokens: float, prompt_tokens: float) -> str:
    """Why a prompt of that many uncached tokens has to wait, "" where it need not.

    `requests` and `tokens` (uncached) are in flight of its class. A prompt that is larger than the limit by itself may run alone.
    """
    if held.max_requests and requests >= held.max_requests:
        return f"{requests} requests of its class are in flight, at most {held.max_requests} may be"
    if held.max_tokens and requests and tokens + prompt_tokens > held.max_tokens:
        return f"{tokens:.0f} uncached tokens of its class are in flight, at most {held.max_tokens} may be"
    return ""
