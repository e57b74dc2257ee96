"""The routing simulator's world: loss, restarts, several gateways, and what is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from penstock.engine.simulated.profile import EngineProfile, load_profile
from penstock.kit.hashing import token_blocks
from penstock.testing.routing.ask import SEED, chained, tokens_of
from penstock.testing.routing.conversations import Conversations, Talk
from penstock.testing.routing.figures import Figures, Tally, percentile
from penstock.testing.routing.mooncake import Line, Recorded, Replay, read_trace, shared_moments
from penstock.testing.routing.policies.penstock import Penstock
from penstock.testing.routing.registry import policy_module
from penstock.testing.routing.shared_prefix import ClosedLoop, OpenLoop, Prompts, Shape
from penstock.testing.routing.world import ALL_WELL, Conditions, World

BLOCK = 64
TRACE = Path(__file__).parents[3] / "shared" / "traces" / "llm" / "mooncake_synthetic_lt600000ms.jsonl"


def engine() -> EngineProfile:
    return replace(load_profile("llama-8b-h100"), block_tokens=BLOCK, kv_tokens=120_000)


def talks(requests: int = 120, warming: int = 0) -> Conversations:
    talk = Talk(
        users=16,
        turns=4,
        requests=requests,
        system_tokens=512,
        turn_tokens=256,
        output_tokens=128,
        think_s=1.0,
        block_tokens=BLOCK,
        warming=warming,
    )
    return Conversations("talk", talk, 3)


def played(policy: str, conditions: Conditions = ALL_WELL, replicas: int = 3) -> tuple[World, Figures]:
    world = World(engine(), replicas, policy_module(policy).open_policy, seed=3, conditions=conditions)
    return world, world.run(talks())


def test_with_every_event_heard_hits_are_predicted_exactly() -> None:
    _, figures = played("penstock")
    assert figures.accuracy > 0.99


def test_lost_events_are_had_by_replay() -> None:
    world, figures = played("penstock", Conditions(loss=0.2))
    policy = world.policies[0]
    assert isinstance(policy, Penstock)
    assert figures.accuracy > 0.99
    known = [policy.router.index.knowledge(name) for name in policy.names]
    assert all(one is not None and one.is_precise for one in known)


def test_an_index_that_missed_events_for_good_is_distrusted() -> None:
    world, figures = played("penstock", Conditions(loss=0.2, replays=False))
    policy = world.policies[0]
    assert isinstance(policy, Penstock)
    known = [policy.router.index.knowledge(name) for name in policy.names]
    assert not any(one is not None and one.is_precise for one in known)
    assert (figures.requests, figures.errors) == (120, 0)


@pytest.mark.parametrize("policy", ["penstock", "penstock-approximate", "dynamo", "oracle", "llm-d-sticky"])
def test_a_restart_fails_what_was_being_answered_and_nothing_else(policy: str) -> None:
    world, figures = played(policy, Conditions(restarts=((0, 3.0),)))
    assert figures.requests == 120
    assert 0 < figures.errors <= 16
    assert world.policies[0].in_flight == [0, 0, 0]


def test_gateways_that_gossip_predict_better_than_such_that_do_not() -> None:
    alone = played("penstock-approximate", Conditions(gateways=4))[1]
    together = played("penstock-approximate", Conditions(gateways=4, gossip_s=0.025))[1]
    assert together.accuracy > alone.accuracy


def test_every_gateway_counts_its_own_requests_back_to_nothing() -> None:
    world, _ = played("penstock", Conditions(gateways=3, gossip_s=0.025))
    for policy in world.policies:
        assert isinstance(policy, Penstock)
        assert policy.in_flight == [0, 0, 0]


def test_a_prompt_that_fits_no_engine_is_an_error() -> None:
    shape = Shape(
        groups=1, prompts=1, shared_tokens=0, own_tokens=200_000, output_tokens=1, block_tokens=BLOCK
    )
    world = World(engine(), 2, policy_module("random").open_policy)
    figures = world.run(OpenLoop("huge", shape, [5.0], 1.0, 0))
    assert figures.errors == figures.requests > 0


def test_blocks_of_an_ask_are_hashed_as_the_gateway_hashes_their_tokens() -> None:
    ids = [5, 7, 1 << 31]
    assert chained(ids, BLOCK) == token_blocks(tokens_of(ids, BLOCK), BLOCK, SEED)


def test_prompts_of_a_group_begin_alike_and_end_apart() -> None:
    shape = Shape(groups=2, prompts=2, shared_tokens=256, own_tokens=128, output_tokens=8, block_tokens=BLOCK)
    prompts = Prompts(shape)
    first, second, other = (prompts.ask(number, 0.0) for number in (0, 1, 2))
    assert first.hashes[:4] == second.hashes[:4] != other.hashes[:4]
    assert not set(first.hashes[4:]) & set(second.hashes[4:])
    assert prompts.ask(1, 9.0).hashes == second.hashes


def test_the_next_turn_begins_with_the_last_prompt_and_its_answer() -> None:
    workload = talks()
    ask = next(iter(workload.arrivals()))
    follows = workload.after(ask, 10.0)
    assert follows is not None
    assert list(follows.hashes[: len(ask.ids)]) == [*ask.hashes, *ask.answer_hashes]
    assert follows.session == ask.session
    assert follows.at >= 10.0


def test_copies_of_a_trace_share_no_block() -> None:
    if not TRACE.is_file():
        pytest.skip("../shared is absent")
    replay = Replay(read_trace(TRACE), until_s=20.0, speed=1.0, copies=2, kept=1.0, seed=0)
    asks = list(replay.arrivals())
    assert [ask.at for ask in asks] == sorted(ask.at for ask in asks)
    by_copy = [
        {key for ask in asks if ask.ids and (ask.ids[0] >> 22) == copy for key in ask.hashes}
        for copy in (0, 1)
    ]
    assert by_copy[0]
    assert not by_copy[0] & by_copy[1]


def test_requests_of_one_recorded_moment_are_spread_to_the_next() -> None:
    lines = [Line(at, 512, 1, [0]) for at in (0.0, 0.0, 3000.0, 4000.0, 4000.0)]
    assert shared_moments(lines) == {0.0: 3000.0, 4000.0: 3000.0}


def test_percentiles_are_values_that_were_seen() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([], 0.5) == 0.0


def test_rates_are_over_the_time_from_the_first_request_to_the_last_answer() -> None:
    tally = Tally()
    tally.asked(10.0)
    tally.answered(0.5, 2.0, 100, 12.0)
    tally.answered(0.5, 10.0, 100, 20.0)
    figures = tally.figures()
    assert (figures.makespan_s, figures.request_rate, figures.output_rate) == (10.0, 0.2, 20.0)


def test_what_warms_up_is_answered_but_in_no_figure() -> None:
    whole = World(engine(), 3, policy_module("penstock").open_policy, seed=3).run(talks())
    warmed = World(engine(), 3, policy_module("penstock").open_policy, seed=3).run(talks(warming=80))
    assert (whole.requests, warmed.requests) == (120, 40)
    assert warmed.makespan_s < whole.makespan_s
    assert warmed.hit_tokens < whole.hit_tokens
    assert warmed.hit_share > whole.hit_share, "what was cold is behind them"


def test_a_warm_up_has_one_prompt_of_each_group_first() -> None:
    shape = Shape(groups=6, prompts=4, shared_tokens=256, own_tokens=64, output_tokens=8, block_tokens=BLOCK)
    loop = ClosedLoop("loop", shape, 24, 24, 0, warming=9)
    asks = list(loop.arrivals())
    assert len({ask.tenant for ask in asks[:6]}) == 6
    assert [ask.warms for ask in asks] == [True] * 9 + [False] * 15
    assert len({tuple(ask.hashes) for ask in asks}) == 24, "each prompt once, as ever"


def test_ramps_and_traces_warm_up_for_a_time() -> None:
    shape = Shape(groups=2, prompts=2, shared_tokens=256, own_tokens=64, output_tokens=8, block_tokens=BLOCK)
    asks = list(OpenLoop("ramp", shape, [10.0, 30.0], 5.0, 0, warming_s=20.0).arrivals())
    assert all(ask.warms == (ask.at < 20.0) for ask in asks)
    warming = sum(ask.warms for ask in asks)
    assert 300 < warming < 500, "at the mean of its rates"
    lines = tuple(Line(1000.0 * second, 512, 1, [second]) for second in range(10))
    replay = Replay(
        Recorded("trace", lines), until_s=10.0, speed=2.0, copies=1, kept=1.0, seed=0, warming_s=4.0
    )
    assert [ask.warms for ask in replay.arrivals()] == [True] * 4 + [False] * 6


def test_hits_of_a_request_that_a_restart_took_count_where_it_had_started() -> None:
    world, figures = played("penstock", Conditions(restarts=((0, 3.0),)))
    of_engines = sum(one.hit_tokens for one in world.engines)
    assert figures.hit_tokens > of_engines, "those of the first process are not lost"
