"""Requests that share long beginnings: prompts of groups, and conversations that go on, as chains of blocks without words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

ENGINE_BLOCK_TOKENS = 16
ROUTED_BLOCKS = 4
"""Blocks of an engine that routing counts as one."""
MASK = (1 << 64) - 1


class Ask(NamedTuple):
    """One request: which chain its prompt and its answer go along, and how long they are; `then` is what is asked after the answer, how late."""

    chain: Sequence[int]
    prompt_tokens: int
    output_tokens: int
    then: tuple[float, Ask] | None = None


class Arrival(NamedTuple):
    """When a request comes from outside."""

    at: float
    ask: Ask


def chain(*parts: tuple[int, int]) -> list[int]:
    """Hashes of an engine's blocks: each part is a number that is its own, and how many tokens it goes on for."""
    hashes: list[int] = []
    before, end = 0x9E3779B97F4A7C15, 0
    for number, tokens in parts:
        end += tokens
        while (len(hashes) + 1) * ENGINE_BLOCK_TOKENS <= end:
            before = (before * 6364136223846793005 + number * 1442695040888963407 + 1) & MASK
            before ^= before >> 29
            hashes.append(before)
    return hashes


def shared_prefix(seed: int, rate: float, span_s: float, groups: int) -> list[Arrival]:
    """Groups with a prefix of 6,000 tokens and 5 prompts of 1,200 more, asked by chance; answers of 200 tokens."""
    chance, arrivals, at = random.Random(seed), [], 0.0
    chains = [
        [chain((1 + group, 6_000), (1_000_000 + group * 8 + own, 1_200)) for own in range(5)]
        for group in range(groups)
    ]
    while (at := at + chance.expovariate(rate)) < span_s:
        arrivals.append(Arrival(at, Ask(chance.choice(chance.choice(chains)), 7_200, 200)))
    return arrivals


def conversations(seed: int, rate: float, span_s: float, _: int) -> list[Arrival]:
    """Of 8 turns; a system prompt of 1,000 tokens that all share, 1,500 at first and 400 with each turn, answers of 200; 5 s to think.

    `rate` is of turns.
    """
    chance, arrivals, at, count = random.Random(seed), [], 0.0, 0
    while (at := at + chance.expovariate(rate / 8)) < span_s:
        count += 1
        own = 10_000 + count
        lengths = [2_500 + turn * 600 for turn in range(8)]
        whole = chain((7, 1_000), (own, lengths[-1] + 200 - 1_000))
        following: tuple[float, Ask] | None = None
        for length in reversed(lengths):
            ask = Ask(whole, length, 200, following)
            following = (chance.expovariate(1 / 5.0), ask)
        arrivals.append(Arrival(at, ask))
    return arrivals
