"""Which beginnings of prompts should a new endpoint compute before it takes requests?

The hottest: of what can be computed in the time given, those by which most requests will be spared. A beginning of a beginning is computed
with it; so a longer one costs only what is new in it, and spares also the requests that go on differently after the shorter one. More than
half of the cache is never filled, so that what is to come has room. Where nobody else takes requests and some wait, nothing is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

LEAST_TOKENS = 256
"""A shorter beginning costs an engine less than a request of its own."""
CACHE_SHARE = 0.5
MOST_CONSIDERED = 64
"""Beginnings that are compared with each other."""


class Beginning(Struct, frozen=True, gc=False):
    """The blocks that `rate` requests a second of late began with; `hashes` are chained, so the last one stands for all."""

    hashes: Sequence[int]
    rate: float


class Spare(Struct, frozen=True, kw_only=True):
    """What may be spent on one endpoint: `prefixes` of beginnings within `seconds`.

    `prefill_token_s` is what a token of a prompt is known to take, `kv_tokens` what the cache holds; 0 where that is unknown.
    """

    prefixes: int
    seconds: float
    prefill_token_s: float = 0.0
    kv_tokens: int = 0


class Warming(Struct, frozen=True):
    """The places of what to compute, in this order, and why it is that."""

    places: tuple[int, ...] = ()
    tokens: float = 0.0
    reason: str = ""


def plan_prewarm(
    beginnings: Sequence[Beginning], block_tokens: float, spare: Spare, *, others: int, waiting: int
) -> Warming:
    """`others` take requests meanwhile; `waiting` are those that wait for a first endpoint."""
    if not spare.prefixes or spare.seconds <= 0:
        return Warming(reason="the profile does not ask for it")
    if not others and waiting:
        return Warming(reason=f"{waiting} requests wait, and nobody else takes them")
    known = [place for place, one in enumerate(beginnings) if len(one.hashes) * block_tokens >= LEAST_TOKENS]
    if not known:
        return Warming(reason="no beginning is known that is worth it")
    known = sorted(known, key=lambda place: -beginnings[place].rate)[:MOST_CONSIDERED]
    return _greedy(beginnings, known, block_tokens, spare, _room(spare))


def _room(spare: Spare) -> float:
    """Tokens that may be computed."""
    room = spare.seconds / spare.prefill_token_s if spare.prefill_token_s else float("inf")
    return min(room, CACHE_SHARE * spare.kv_tokens) if spare.kv_tokens else room


def _greedy(
    beginnings: Sequence[Beginning], known: list[int], block_tokens: float, spare: Spare, room: float
) -> Warming:
    """By the rate of requests that begin with it: each token is worth that, since each costs the same."""
    rates = {place: _rate(beginnings, known, place) for place in known}
    chosen: list[int] = []
    computed: set[int] = set()
    tokens = 0.0
    for place in sorted(known, key=lambda place: (-rates[place], -len(beginnings[place].hashes))):
        hashes = beginnings[place].hashes
        if hashes[-1] in computed:
            continue
        cost = block_tokens * sum(key not in computed for key in hashes)
        if tokens + cost > room:
            continue
        within = [at for at, one in enumerate(chosen) if _begins(beginnings[one].hashes, hashes)]
        if within:
            chosen[within[0]] = place
            chosen = [one for at, one in enumerate(chosen) if at not in within[1:]]
        elif len(chosen) == spare.prefixes:
            continue
        else:
            chosen.append(place)
        computed.update(hashes)
        tokens += cost
    if not chosen:
        return Warming(reason=f"no beginning is short enough: {room:.0f} tokens may be computed")
    rate = sum(beginnings[place].rate for place in known if beginnings[place].hashes[-1] in computed)
    return Warming(
        tuple(chosen),
        tokens,
        f"{tokens:.0f} tokens, by which {rate:.2f} requests a second were spared of late",
    )


def _rate(beginnings: Sequence[Beginning], known: Sequence[int], place: int) -> float:
    """Of all requests that begin so, also of those that share more."""
    hashes = beginnings[place].hashes
    return sum(beginnings[other].rate for other in known if _begins(hashes, beginnings[other].hashes))


def _begins(short: Sequence[int], long: Sequence[int]) -> bool:
    return len(short) <= len(long) and long[len(short) - 1] == short[-1]
