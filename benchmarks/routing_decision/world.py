"""A service's router with as many endpoints, and an index of as many blocks, as a case says; and what it is asked.

Endpoints hold prompts of 8k and of 32k tokens, those of one length with one system prompt, and 2 copies of the rest of each, one of them
in part, so that a match ends at many depths.
"""

from __future__ import annotations

import random
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.gateway.kv_subscription import SLICE_BLOCKS
from penstock.gateway.router import Router
from penstock.kit.hashing import chain_seed, token_blocks

BLOCK_TOKENS = 16
PROMPT_TOKENS = (8_192, 32_768)
COPIES = 2
SYSTEM_SHARE = 0.25
ROOM = 2.0
"""Caches are so much greater than what they would hold if all held as much: none has to give up any."""
NOTHING_HELD = 8
"""Every 8th question is about a prompt that nobody holds."""
KEPT_PROMPTS = 100
"""Of each length are asked about."""
MODEL = "m"
SEED = chain_seed(MODEL)
BUSY = 20
"""Requests under way at an endpoint at most, when it begins."""


class Case(NamedTuple):
    """What is varied. By `source` endpoints hold what was sent to them, where lookups may jump, or what their engines told."""

    source: str
    endpoints: int
    blocks: int


class World(NamedTuple):
    """`prompts` are token ids, by their number; `inserts_us` what single calls took, by about how many blocks they added."""

    router: Router
    prompts: dict[int, list[array[int]]]
    inserts_us: dict[int, list[float]]

    @property
    def kept_bytes(self) -> int:
        """Of the questions, not of the index."""
        return sum(len(tokens) * 4 for some in self.prompts.values() for tokens in some)


def build(case: Case, draws: random.Random, advance: Callable[[float], None]) -> World:
    """`case.blocks` counts those that differ; with copies, endpoints hold up to `COPIES` times as many. `advance` hears how far it is, 0 to 1."""
    names = [f"10.{n >> 8}.{n & 255}.1:8000" for n in range(case.endpoints)]
    router = Router(_service(names), open_profile)
    room = int(case.blocks * COPIES / case.endpoints * ROOM) + 2 * max(PROMPT_TOKENS) // BLOCK_TOKENS
    for load in router.loads.values():
        load.kv_tokens = room * BLOCK_TOKENS
        load.in_flight = load.own_in_flight = draws.randint(0, BUSY)
        load.prefill_s, load.prefill_token_s, load.decode_s, load.is_measured = 0.01, 5e-5, 0.01, True
        router.sized(load)
        if case.source == "told":
            router.index.restarted(load.endpoint.name)
    world = World(router, {length: [] for length in PROMPT_TOKENS}, defaultdict(list))
    added = 0
    for tokens, own in _prompts(draws):
        chain = token_blocks(tokens, BLOCK_TOKENS, SEED)
        for copy, name in enumerate(draws.sample(names, COPIES)):
            depth = len(chain) if copy == 0 else draws.randint(len(chain) - own, len(chain))
            if case.source == "told":
                _tell(world, name, tokens[: depth * BLOCK_TOKENS], chain)
            else:
                _time(world, len(chain), partial(router.index.sent, name, chain[:depth], 0.0))
        kept = world.prompts[len(tokens)]
        if len(kept) < KEPT_PROMPTS:
            kept.append(tokens)
        added += own
        advance(added / case.blocks)
        if added >= case.blocks:
            return world
    raise AssertionError("prompts never end")


def _service(names: Sequence[str]) -> ServiceRoute:
    pool = tuple(Endpoint(name=name, address=name.partition(":")[0], port=8000) for name in names)
    return ServiceRoute(
        namespace="n",
        name="s",
        uid="u",
        engine_model=MODEL,
        routing=RoutingRoute(block_tokens=BLOCK_TOKENS),
        revisions=(RevisionRoute(name="r", weight_percent=100, endpoints=pool),),
    )


def _prompts(draws: random.Random) -> Iterator[tuple[array[int], int]]:
    """Without end: token ids, and how many blocks of them are this prompt's alone. Of each length as many blocks."""
    systems = {length: random_tokens(draws, int(length * SYSTEM_SHARE)) for length in PROMPT_TOKENS}
    turns = [length for length in PROMPT_TOKENS for _ in range(max(PROMPT_TOKENS) // length)]
    while True:
        for length in turns:
            own = length - len(systems[length])
            yield systems[length] + random_tokens(draws, own), own // BLOCK_TOKENS


def random_tokens(draws: random.Random, count: int) -> array[int]:
    """Token ids as of no model."""
    return array("I", draws.randbytes(count * 4))


def _tell(world: World, name: str, tokens: array[int], chain: Sequence[int]) -> None:
    """As engines do, by names of their own, and as subscriptions pass it on."""
    names = [key ^ 0x5DEECE66D for key in chain[: len(tokens) // BLOCK_TOKENS]]
    parent: int | None = None
    for start in range(0, len(names), SLICE_BLOCKS):
        some = names[start : start + SLICE_BLOCKS]
        ids = tokens[start * BLOCK_TOKENS : (start + len(some)) * BLOCK_TOKENS]
        stored = world.router.index.stored
        _time(world, SLICE_BLOCKS, partial(stored, name, parent, some, ids, BLOCK_TOKENS))
        parent = some[-1]


def _time(world: World, blocks: int, call: Callable[[], object]) -> None:
    began = time.thread_time()
    call()
    world.inserts_us[blocks].append((time.thread_time() - began) * 1e6)
