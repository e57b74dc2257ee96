"""How full is this pool, and how much more may be sent there now?

An endpoint is full while as many requests wait in its engine as keep it busy, its KV cache is about to overflow, its slots are taken, or the
prompts that it has yet to compute take longer than `prefill_s`. What is sent there then is answered no sooner, but can be ordered no more. A
pool is saturated when none of its endpoints has room: by the mean of all, as llm-d's detector takes it, one long queue would hold requests
that its idle neighbours could answer.

How many requests an engine answers at once shows when some wait in it. Its queue is then what is under way beyond that, at any time, and not only
when it is asked; but no more than the requests without a first token: of a burst that has begun to be answered nothing is left waiting. An engine
in which nobody waits might answer more, so twice as many are tried. One with nothing under way has room for a request, however large and
whatever its engine says of itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from msgspec import Struct

from penstock.contracts.exchange import FlowRoute
from penstock.contracts.scheduling import UNKNOWN, Load

PROBED = 2.0
UNMEASURED_TOKENS_PER_S = 20_480.0
"""What llm-d's limit of stickiness (286,720 tokens for 14 s) takes an endpoint to compute, where its rate is not known."""


class Space(Struct, frozen=True, gc=False):
    """How many more requests and uncached tokens endpoints take, and how full they are on average, from 0 to 1.

    A pool is saturated when it takes no whole request, or no token. A prompt that is larger than the space may still have it all.
    """

    requests: float = inf
    tokens: float = inf
    fullness: float = 0.0


def space_of(loads: Iterable[Load], flow: FlowRoute) -> Space:
    """Without limits where there is no endpoint: somebody else decides whether requests wait for the first one."""
    requests = tokens = full = 0.0
    count = 0
    for load in loads:
        count += 1
        more, more_tokens, fullness = _space(load, flow)
        full += fullness
        if more >= 1.0 and more_tokens > 0.0:
            requests += more
            tokens += more_tokens
    return Space(requests, tokens, full / count) if count else Space()


def seen_capacity(load: Load) -> float:
    """How many requests an engine answers at once that has just said how it is; UNKNOWN until some have waited in it."""
    running = load.running if load.running >= 0.0 else load.in_flight - load.waiting
    if load.waiting > 0.0:
        return max(0.0, running)
    return max(load.capacity, PROBED * running) if load.capacity >= 0.0 else UNKNOWN


def _space(load: Load, flow: FlowRoute) -> tuple[float, float, float]:
    """Further requests and tokens, and fullness, of one endpoint."""
    token_s = load.prefill_token_s if load.is_measured and load.prefill_token_s > 0.0 else 0.0
    most_tokens = flow.prefill_s / token_s if token_s else flow.prefill_s * UNMEASURED_TOKENS_PER_S
    slots = load.endpoint.slots
    if not load.in_flight:
        return slots or inf, most_tokens, 0.0
    fullness = min(load.kv_use / flow.kv_use, 1.0)
    requests, tokens = (0.0 if fullness >= 1.0 else inf), most_tokens
    if load.capacity >= 0.0:
        others = max(0.0, load.waiting + load.running - load.told_in_flight)
        waiting = max(0.0, min(load.in_flight + others - load.capacity, load.prefilling))
        requests = min(requests, flow.waiting - waiting)
        fullness = max(fullness, waiting / flow.waiting)
    if slots:
        requests = min(requests, slots - load.in_flight)
        fullness = max(fullness, load.in_flight / slots)
    if load.prefilling > 1:
        tokens -= load.uncached_tokens
        fullness = max(fullness, load.uncached_tokens / most_tokens)
    return max(requests, 0.0), max(tokens, 0.0), max(0.0, min(fullness, 1.0))
