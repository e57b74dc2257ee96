"""One decision, step by step, as the gateway makes it."""

from __future__ import annotations

import random
import time
from array import array
from collections import deque
from typing import NamedTuple

from benchmarks.routing_decision.world import BLOCK_TOKENS, NOTHING_HELD, SEED, World, random_tokens

from penstock.contracts.scheduling import Prompt
from penstock.decide.routing import route
from penstock.gateway.router import Trip
from penstock.kit.hashing import draw, token_blocks

STEPS = ("hash", "match", "choose", "count", "decision", "insert", "all", "least requests")
"""`hash`: the prompt's blocks, from its token ids. `match`: who holds how much of them, in the index, and how far that is believed. `choose`:
view, filters, scorers, picker. `count`: what the request adds to its endpoint. `decision`: these four, which a request waits for. `insert`: its
blocks into the index, once it is on its way. `all`: everything. Beside them the choice by fewest requests in flight."""
UNDER_WAY = 4
"""Requests for each endpoint that are under way at a time."""
BETWEEN_S = 0.005
ANSWER_TOKENS = 200


class Figures(NamedTuple):
    """Of single decisions, in processor time."""

    p50_us: float
    p99_us: float
    most_us: float


def figures(times: list[float]) -> Figures:
    """Of times in us."""
    ranked = sorted(times)
    return Figures(
        ranked[len(ranked) // 2], ranked[min(int(len(ranked) * 0.99), len(ranked) - 1)], ranked[-1]
    )


def measure(world: World, length: int, asked: int, draws: random.Random) -> dict[str, Figures]:
    """By step, for prompts of `length` tokens, one after another while others are under way."""
    taken: dict[str, list[float]] = {step: [] for step in STEPS}
    trips: deque[tuple[Trip, float]] = deque()
    router, now = world.router, 1_000.0
    for number in range(asked):
        now += BETWEEN_S
        known = draws.choice(world.prompts[length])
        tokens = known if number % NOTHING_HELD else random_tokens(draws, length)
        trips.append((_decide(world, f"request-{number}", tokens, now, taken), now))
        if len(trips) > UNDER_WAY * len(router.loads):
            trip, sent_at = trips.popleft()
            router.began(trip, sent_at + 0.1)
            router.ended(trip, now, length, -1, ANSWER_TOKENS)
    return {step: figures(times) for step, times in taken.items()}


def _decide(
    world: World, request: str, tokens: array[int], now: float, taken: dict[str, list[float]]
) -> Trip:
    router, clock = world.router, time.thread_time
    service = router.service
    t0 = clock()
    hashes = token_blocks(tokens, BLOCK_TOKENS, SEED)
    prompt = Prompt(draw=draw(request), tokens=len(tokens), hashes=hashes, block_tokens=BLOCK_TOKENS)
    t1 = clock()
    held = router.held(prompt, now)
    t2 = clock()
    chosen = router.route(service, prompt, held, now)
    t3 = clock()
    assert chosen is not None, "all endpoints are well"
    trip = router.sent(chosen.endpoint.name, prompt, held, now)
    t4 = clock()
    assert trip is not None, "it is there"
    router.kept(trip, now)
    t5 = clock()
    in_flight = {name: load.in_flight for name, load in router.loads.items()}
    t6 = clock()
    route(service, request, in_flight)
    t7 = clock()
    ends = (t1 - t0, t2 - t1, t3 - t2, t4 - t3, t4 - t0, t5 - t4, t5 - t0, t7 - t6)
    for step, seconds in zip(STEPS, ends, strict=True):
        taken[step].append(seconds * 1e6)
    return trip
