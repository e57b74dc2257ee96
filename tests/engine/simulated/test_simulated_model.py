"""The engine that jumps against the one that walks, and what both must do."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_engine import NaiveEngine

from penstock.engine.simulated.model import Engine
from penstock.engine.simulated.profile import EngineProfile, StartTimes
from penstock.engine.simulated.request import NEVER, Removed, Request, Stored

MASK = (1 << 60) - 1
SAME = 1e-9
"""Relative: both compute the same sums, in different order."""


def profile(**changes: Any) -> EngineProfile:
    values: dict[str, Any] = {
        "name": "plain",
        "description": "round numbers",
        "gpus": 1,
        "gpu_hour_price": 3.6,
        "start": StartTimes(),
        "prefill_tokens_per_s": 1000.0,
        "step_base_s": 0.01,
        "step_per_sequence_s": 0.0,
        "overhead_s": 0.002,
        "max_batched_tokens": 16,
        "max_sequences": 5,
        "kv_tokens": 96,
        "sources": {},
        "block_tokens": 4,
        "step_per_context_token_s": 0.0001,
        "attention_pair_s": 0.00001,
        "adapter_slots": 2,
        "adapter_load_s": 0.05,
    }
    return EngineProfile(**{**values, **changes})


def request(
    prompt: int, output: int, group: int = 0, own: int = 0, shared: int = 0, adapter: str = "", size: int = 4
) -> Request:
    """`shared` leading blocks of its group's chain, then its own."""
    whole = (prompt + output) // size
    hashes = [
        hash((group, i)) & MASK if i < shared else hash((group, shared, own, i)) & MASK for i in range(whole)
    ]
    return Request(prompt, output, hashes[: prompt // size], hashes[prompt // size :], adapter=adapter)


def run(engine: Engine, arrivals: list[tuple[float, Request]]) -> None:
    for at, one in sorted(arrivals, key=lambda a: a[0]):
        while engine.next_at <= at:
            engine.step()
        engine.offer(one, at)
    finish(engine)


def finish(engine: Engine) -> None:
    for _ in range(100_000):
        if engine.next_at == NEVER:
            return
        engine.step()
    raise AssertionError("it does not come to an end")


def copy(one: Request) -> Request:
    return Request(one.prompt_tokens, one.output_tokens, one.hashes, one.answer_hashes, adapter=one.adapter)


requests = st.builds(
    request,
    prompt=st.integers(1, 50),
    output=st.integers(1, 30),
    group=st.integers(0, 2),
    own=st.integers(0, 5),
    shared=st.integers(0, 10),
    adapter=st.sampled_from(["", "", "a", "b", "c"]),
)
ARRIVALS = st.lists(
    st.tuples(st.integers(0, 600).map(lambda ms: ms / 1000 + 0.000_37), requests), max_size=14
)


@settings(max_examples=120, deadline=None)
@given(ARRIVALS, st.sampled_from([0, 1, 3]))
def test_it_jumps_to_where_the_naive_engine_walks(arrivals: list[tuple[float, Request]], stride: int) -> None:
    naive, engine = NaiveEngine(profile()), Engine(profile(), 0.0, stride=stride)
    copies = [(at, copy(one)) for at, one in arrivals]
    naive.run(arrivals)
    run(engine, copies)
    for (_, one), (_, other) in zip(arrivals, copies, strict=True):
        cached, first_at, ended_at = naive.answers[one]
        assert other.cached_tokens == cached
        assert other.first_at == pytest.approx(first_at, rel=SAME)
        assert other.ended_at == pytest.approx(ended_at, rel=SAME)
    assert engine.preemptions == naive.preemptions
    assert (engine.pool.used, engine.running, engine.waiting) == (0, 0, 0)


@settings(max_examples=80, deadline=None)
@given(ARRIVALS)
def test_what_is_told_of_blocks_adds_up_to_what_is_cached(arrivals: list[tuple[float, Request]]) -> None:
    engine, known = Engine(profile(), 0.0, records=True), set[int]()

    def watch() -> None:
        for event in engine.step().blocks:
            match event:
                case Stored(one, first, end):
                    known.update([*one.hashes, *one.answer_hashes][first:end])
                case Removed(hashes):
                    assert known >= set(hashes), "it was told before"
                    known.difference_update(hashes)

    for at, one in sorted(arrivals, key=lambda a: a[0]):
        while engine.next_at <= at:
            watch()
        engine.offer(one, at)
    while engine.next_at < NEVER:
        watch()
    assert known == engine.pool.cached


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    engine = Engine(profile(), 0.0)
    first, again = request(16, 1), request(16, 1)
    run(engine, [(0.0, first), (1.0, again)])
    assert (first.cached_tokens, again.cached_tokens) == (0, 12)


def test_heads_live_longest() -> None:
    engine = Engine(profile(kv_tokens=40), 0.0)
    other, again = request(24, 1, group=2), request(33, 1, own=1, shared=8)
    run(engine, [(0.0, request(32, 1, shared=8)), (1.0, other), (2.0, again)])
    assert again.cached_tokens == 16, "ten blocks of room: six went to the other, from the tail on"


def test_a_cancelled_request_gives_back_all_its_blocks_with_its_step() -> None:
    engine = Engine(profile(), 0.0, stride=1)
    waits, decodes, prefills = request(4, 20), request(8, 40, own=1), request(50, 5, own=2)
    engine.offer(decodes, 0.0)
    while decodes.first_at == NEVER:
        engine.step()
    engine.offer(prefills, engine.next_at)
    for _ in range(3):
        engine.step()
    now = engine.next_at - 0.001
    engine.offer(waits, now)
    for one in (decodes, prefills, waits):
        engine.cancel(one, now)
        engine.cancel(one, now)
    assert set(engine.step().ended) == {waits, decodes, prefills}
    assert (engine.pool.used, engine.running, engine.waiting, engine.next_at) == (0, 0, 0, NEVER)


def test_kept_blocks_stay_in_use_until_they_are_released() -> None:
    engine = Engine(profile(), 0.0)
    kept = Request(16, 1, (1, 2, 3, 4), is_kept=True)
    run(engine, [(0.0, kept)])
    assert engine.pool.used == 4
    engine.release(kept, 1.0)
    assert engine.pool.used == 0


def test_kv_from_another_engine_costs_its_transfer_and_no_prefill() -> None:
    engine = Engine(profile(transfer_token_s=0.001), 0.0)
    one = Request(40, 2, remote_tokens=40)
    run(engine, [(0.0, one)])
    assert one.started_at == pytest.approx(0.002 + 0.04)
    assert one.first_at - one.started_at == pytest.approx(0.01 + 0.001 + 39.5 * 0.00001)


def test_a_forgotten_cache_is_not_found() -> None:
    engine = Engine(profile(), 0.0)
    run(engine, [(0.0, request(16, 1))])
    engine.forget()
    again = request(16, 1)
    run(engine, [(1.0, again)])
    assert again.cached_tokens == 0
