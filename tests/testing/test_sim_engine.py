from __future__ import annotations

from random import Random
from statistics import fmean

from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import profile

from penstock.engine.simulated.profile import EngineProfile
from penstock.testing.sim.engine import NEVER, Engine, Request

Loads = list[tuple[float, int, int]]
loads = st.lists(
    st.tuples(st.floats(0.0, 30.0), st.integers(1, 3000), st.integers(1, 300)),
    min_size=1,
    max_size=40,
).map(sorted)


def play(engine: EngineProfile, load: Loads) -> list[tuple[float, Request]]:
    """Every request as it ends, with when."""
    running, ended = Engine(engine, 0.0), []
    waiting = [Request(*one) for one in load]
    while waiting or running.next_at < NEVER:
        if waiting and waiting[0].arrived_at <= running.next_at:
            request = waiting.pop(0)
            running.offer(request, request.arrived_at)
        else:
            at = running.next_at
            if (request := running.step()) is not None:
                ended.append((at, request))
    return ended


def test_one_request_takes_its_prefill_and_then_a_step_for_each_further_token() -> None:
    [(at, request)] = play(profile(), [(5.0, 200, 11)])
    # 100 tokens fit into a step of 10 ms + 100 ms.
    assert abs(request.first_at - (5.0 + 2 * 0.11)) < 1e-9
    assert abs(at - (request.first_at + 10 * 0.01)) < 1e-9


def test_an_answer_of_one_token_ends_with_its_prompt() -> None:
    [(at, request)] = play(profile(), [(0.0, 100, 1)])
    assert at == request.first_at
    assert abs(at - 0.11) < 1e-9


def test_overhead_comes_before_the_prompt() -> None:
    [(_, request)] = play(profile(overhead_s=0.5), [(1.0, 100, 1)])
    assert abs(request.first_at - 1.61) < 1e-9


def test_decoding_sequences_share_steps_and_slow_each_other_as_the_profile_says() -> None:
    engine = profile(step_per_sequence_s=0.01, prefill_tokens_per_s=1e12)
    alone = play(engine, [(0.0, 1, 101)])[0][0]
    together = play(engine, [(0.0, 1, 101), (0.0, 1, 101)])[-1][0]
    assert abs(alone - 100 * 0.02) < 0.05
    assert abs(together - 100 * 0.03) < 0.05


def test_prompts_take_turns_first_come_first_served_and_slow_what_decodes() -> None:
    ended = play(profile(), [(0.0, 1, 50), (0.1, 1000, 1), (0.1, 10, 1)])
    by_prompt = {request.prompt_tokens: (at, request) for at, request in ended}
    assert by_prompt[1000][1].first_at < by_prompt[10][1].first_at
    assert by_prompt[1][0] > 0.5, "50 steps of 10 ms alone"


def test_a_full_batch_makes_others_wait() -> None:
    ended = play(profile(max_sequences=1), [(0.0, 100, 11), (0.0, 100, 11)])
    assert ended[1][1].first_at > ended[0][0]


def test_what_does_not_fit_into_memory_waits_until_enough_is_free() -> None:
    engine = profile(kv_tokens=1000)
    ended = play(engine, [(0.0, 600, 101), (0.0, 600, 101), (0.0, 100, 10)])
    first, second, third = sorted(ended, key=lambda one: one[1].first_at)
    assert second[1].first_at > first[0]
    assert third[1].prompt_tokens == 100, "it waits behind the second, which does not fit"


@settings(max_examples=60, deadline=None)
@given(loads, st.integers(1, 20), st.floats(0.0, 0.2), st.sampled_from([0.0, 0.0005]))
def test_every_request_ends_once_and_no_token_comes_before_its_request(
    load: Loads, sequences: int, overhead_s: float, slowdown_s: float
) -> None:
    engine = profile(
        max_sequences=sequences, overhead_s=overhead_s, kv_tokens=4000, step_per_sequence_s=slowdown_s
    )
    ended = play(engine, load)
    assert len({id(request) for _, request in ended}) == len(ended) == len(load)
    for at, request in ended:
        least_s = overhead_s + request.prompt_tokens / engine.prefill_tokens_per_s
        assert request.first_at >= request.arrived_at + least_s - 1e-6
        assert at >= request.first_at + (request.output_tokens - 1) * engine.step_base_s - 1e-6
    assert [at for at, _ in ended] == sorted(at for at, _ in ended)


@settings(max_examples=40, deadline=None)
@given(loads)
def test_the_engine_never_does_more_work_than_its_rates_allow(load: Loads) -> None:
    engine = profile()
    ended = play(engine, load)
    span_s = max(at for at, _ in ended) - min(request.arrived_at for _, request in ended)
    assert span_s >= sum(r.prompt_tokens for _, r in ended) / engine.prefill_tokens_per_s - 1e-6


@settings(max_examples=40, deadline=None)
@given(loads)
def test_more_memory_and_faster_prefill_never_make_the_last_answer_later(load: Loads) -> None:
    slow = play(profile(kv_tokens=4000), load)[-1][0]
    fast = play(profile(kv_tokens=4000, prefill_tokens_per_s=4000.0), load)[-1][0]
    assert fast <= slow + 1e-6


def test_tokens_generated_so_far_are_known_at_any_time() -> None:
    engine = Engine(profile(), 0.0)
    engine.offer(Request(0.0, 100, 101), 0.0)
    engine.step()
    engine.step()
    assert abs(engine.generated_tokens(0.11) - 1.0) < 1e-6
    assert abs(engine.generated_tokens(0.11 + 0.5) - 51.0) < 1e-6


def stepped(engine: EngineProfile, load: Loads) -> list[tuple[float, float]]:
    """Times to first token and of whole answers by counting every step, in order of arrival; prompts may share a step."""
    now, waiting = 0.0, sorted(load)
    prompts: list[list[float]] = []  # place, tokens left
    decoding: dict[int, int] = {}
    first, last = [0.0] * len(load), [0.0] * len(load)
    arrived = 0
    while arrived < len(waiting) or prompts or decoding:
        if not prompts and not decoding:
            now = max(now, waiting[arrived][0])
        while arrived < len(waiting) and waiting[arrived][0] <= now:
            prompts.append([arrived, waiting[arrived][1]])
            arrived += 1
        left = float(engine.max_batched_tokens - len(decoding))
        step_s = engine.step_base_s + engine.step_per_sequence_s * len(decoding)
        done = []
        while prompts and left > 0:
            part = min(left, prompts[0][1])
            prompts[0][1] -= part
            left -= part
            step_s += part / engine.prefill_tokens_per_s
            if prompts[0][1] > 0:
                break
            done.append(int(prompts.pop(0)[0]))
        now += step_s
        for place in [*decoding]:
            decoding[place] -= 1
            if not decoding[place]:
                del decoding[place]
                last[place] = now
        for place in done:
            first[place] = now
            if waiting[place][2] > 1:
                decoding[place] = waiting[place][2] - 1
            else:
                last[place] = now
    return [(first[n] - at, last[n] - at) for n, (at, _, _) in enumerate(waiting)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.6, 0.85, 1.2]))
def test_the_fluid_agrees_with_counting_steps_one_by_one(seed: int, share: float) -> None:
    """Averages within 2 % and one full step, which a prompt may have to wait for in reality; up to and beyond overload."""
    chance = Random(seed)
    engine = profile(prefill_tokens_per_s=16_000.0, max_batched_tokens=2048, step_per_sequence_s=0.0001, max_sequences=10_000, kv_tokens=10**9)  # fmt: skip
    full_step_s = engine.step_base_s + engine.max_batched_tokens / engine.prefill_tokens_per_s
    at, load = 0.0, []
    for _ in range(150):
        at += chance.expovariate(share * 16_000.0 / 1000.0)
        load.append((at, 1 + int(chance.expovariate(1 / 1000.0)), 1 + int(chance.expovariate(1 / 100.0))))
    exact = stepped(engine, load)
    ended = sorted(play(engine, load), key=lambda one: one[1].arrived_at)
    fluid = [(request.first_at - request.arrived_at, end - request.arrived_at) for end, request in ended]
    for column in (0, 1):
        expected, got = fmean(row[column] for row in exact), fmean(row[column] for row in fluid)
        assert abs(got - expected) <= 0.02 * expected + full_step_s
