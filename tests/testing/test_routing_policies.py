"""Every policy of the routing simulator: it routes, it counts to zero, and the same seed gives the same run."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from penstock.engine.simulated.model import Engine
from penstock.engine.simulated.profile import EngineProfile, load_profile
from penstock.kit.errors import InvalidInput
from penstock.testing.routing.conversations import Conversations, Talk
from penstock.testing.routing.policy import Setup
from penstock.testing.routing.prefixes import Prefixes
from penstock.testing.routing.registry import policy_module, policy_names
from penstock.testing.routing.ring import Ring
from penstock.testing.routing.shared_prefix import ClosedLoop, Prompts, Shape
from penstock.testing.routing.world import World

BLOCK = 64


def engine(kv_tokens: int = 60_000) -> EngineProfile:
    return replace(load_profile("llama-8b-h100"), block_tokens=BLOCK, kv_tokens=kv_tokens)


def talks(seed: int) -> Conversations:
    talk = Talk(
        users=12,
        turns=3,
        requests=60,
        system_tokens=256,
        turn_tokens=256,
        output_tokens=128,
        think_s=1.0,
        block_tokens=BLOCK,
    )
    return Conversations("talk", talk, seed)


def shared(groups: int = 12) -> Shape:
    return Shape(
        groups=groups, prompts=8, shared_tokens=4096, own_tokens=64, output_tokens=32, block_tokens=BLOCK
    )


@pytest.mark.parametrize("name", policy_names())
def test_every_policy_answers_all_and_counts_back_to_nothing(name: str) -> None:
    world = World(engine(), 3, policy_module(name).open_policy, seed=1)
    figures = world.run(talks(1))
    assert (figures.requests, figures.errors) == (60, 0)
    assert world.policies[0].in_flight == [0, 0, 0]
    assert all(engine.running == engine.waiting == 0 for engine in world.engines)


@pytest.mark.parametrize("name", policy_names())
def test_the_same_seed_gives_the_same_run(name: str) -> None:
    runs = [World(engine(), 3, policy_module(name).open_policy, seed=7).run(talks(7)) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", policy_names())
def test_every_policy_says_whose_rule_it_is(name: str) -> None:
    assert (policy_module(name).__doc__ or "").split("\n")[0].endswith((".", ":"))


def test_a_policy_that_is_not_there_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InvalidInput, match="expected one of") as caught:
        policy_module("lest-request")
    assert "least-request" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["penstock", "penstock-approximate", "oracle", "dynamo", "llm-d-default", "kthena-kv-aware"]
)
def test_who_knows_of_caches_hits_more_than_chance(name: str) -> None:
    shape = shared()
    hits = {}
    for policy in (name, "random"):
        world = World(engine(40_000), 4, policy_module(policy).open_policy)
        hits[policy] = world.run(ClosedLoop("shared", shape, 8, 96, 0)).hit_share
    assert hits[name] > hits["random"] + 0.1


def test_a_full_replica_is_left_for_others_by_least_request() -> None:
    policy = policy_module("least-request").open_policy(Setup(engine(), [Engine(engine(), 0.0)] * 2, 0))
    ask = Prompts(shared()).ask(0, 0.0)
    policy.in_flight = [3, 1]
    assert policy.choose(ask, 0.0) == 1


def test_a_ring_moves_no_more_keys_than_go_to_a_new_replica() -> None:
    keys = [draw << 54 for draw in range(1000)]
    before = [next(Ring(8).walk(key)) for key in keys]
    after = [next(Ring(9).walk(key)) for key in keys]
    assert all(new in (old, 8) for old, new in zip(before, after, strict=True))


def test_prefixes_tell_leading_blocks_only() -> None:
    known = Prefixes(3)
    known.use(0, [1, 2, 3])
    known.use(1, [1, 2])
    known.use(2, [2, 3])
    assert known.leading([1, 2, 3, 4]) == {0: 3, 1: 2}
    known.drop(0, [2])
    assert known.leading([1, 2, 3]) == {0: 1, 1: 2}
    assert known.leading([]) == {}


def test_prefixes_give_up_tails_before_heads() -> None:
    known = Prefixes(1, capacity=3)
    known.use(0, [1, 2, 3])
    known.use(0, [9])
    assert known.leading([1, 2, 3]) == {0: 2}
    known.clear(0)
    assert known.sizes()[0] == 0
