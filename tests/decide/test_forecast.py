"""The forecast class: what it asks for, what it refuses, and what it says."""

from __future__ import annotations

from bisect import bisect_left
from math import ceil, inf, nan

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.contracts.exchange import LATENCY_BOUNDS_S
from penstock.decide.forecast import STEP_S, Decision, Seen, Spec, State, decide

SPEC = Spec(ttft_s=5.0, min_replicas=1)
START = 1_700_000_000.0
TOKENS = 1000.0


def ttft(times_s: list[float]) -> tuple[int, ...]:
    counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
    for time_s in times_s:
        counts[bisect_left(LATENCY_BOUNDS_S, time_s)] += 1
    return tuple(counts)


def step(requests: int, *, ready: int = 4, time_s: float = 0.25, cold_start_s: float = 90.0) -> Seen:
    """A step in which all that came was answered."""
    return Seen(
        window_s=STEP_S,
        requests=requests,
        in_flight=requests * 0.5,
        prompt_tokens=requests * TOKENS,
        ready=ready,
        starting=0,
        ttft=ttft([time_s] * requests),
        cold_start_s=cold_start_s,
    )


def play(spec: Spec, seen: list[Seen], state: State | None = None, start: float = START) -> list[Decision]:
    state, decisions = state or State(), []
    for number, one in enumerate(seen):
        decision = decide(spec, state, one, start + number * STEP_S)
        state = decision.state
        decisions.append(decision)
    return decisions


def settled(requests: int = 30, steps: int = 240) -> State:
    return play(SPEC, [step(requests)] * steps)[-1].state


SETTLED = settled()


@given(st.lists(st.integers(0, 400), min_size=30, max_size=60))
@settings(max_examples=20, deadline=None)
def test_it_never_asks_for_less_than_the_present_load_needs(requests: list[int]) -> None:
    decisions = play(SPEC, [step(one) for one in requests], SETTLED, START + 240 * STEP_S)
    for decision in decisions:
        state = decision.state
        bears = state.capacity.per_replica * state.load
        lately = sum(state.recent) / len(state.recent)
        slack_s = SPEC.ttft_s
        # What came over the last minute has to be borne, but for what may be late by the promise.
        assert decision.desired >= ceil(lately * 60.0 / (60.0 + slack_s) / bears - 0.06)


@given(st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=40, deadline=None)
def test_more_demand_never_asks_for_fewer_replicas_in_the_same_state(one: int, other: int) -> None:
    less, more = sorted((one, other))
    now = START + 240 * STEP_S
    # Only what arrives differs: answers tell of capacity, not of demand.
    base = replace(step(0), in_flight=10.0)
    few = decide(SPEC, SETTLED, replace(base, requests=less, prompt_tokens=less * TOKENS), now)
    many = decide(SPEC, SETTLED, replace(base, requests=more, prompt_tokens=more * TOKENS), now)
    assert few.desired <= many.desired


@pytest.mark.parametrize(
    "field", ["window_s", "in_flight", "prompt_tokens", "cold_start_s", "requests", "ready"]
)
@pytest.mark.parametrize("value", [nan, inf, -1.0])
def test_input_that_cannot_be_changes_nothing_and_is_named(field: str, value: float) -> None:
    seen = replace(step(30), **{field: value})
    decision = decide(SPEC, SETTLED, seen, START + 240 * STEP_S)
    assert decision.state is SETTLED
    assert decision.desired == SETTLED.desired
    assert decision.reasons[0].startswith(f"{field} is {value}")


def test_negative_counts_of_times_are_refused() -> None:
    decision = decide(SPEC, SETTLED, replace(step(30), ttft=(-1,)), START + 240 * STEP_S)
    assert decision.state is SETTLED


@pytest.mark.parametrize("jump_s", [-86400.0, -10.0, 3600.0, 1e9])
def test_a_clock_that_jumps_changes_nothing(jump_s: float) -> None:
    before = SETTLED.desired
    now = START + 240 * STEP_S + jump_s
    decisions = play(replace(SPEC, min_replicas=0), [step(30)] * 6, SETTLED, now)
    assert [decision.desired for decision in decisions] == [before] * 6


def test_an_idle_service_is_not_put_to_sleep_by_a_clock_that_jumps() -> None:
    spec = replace(SPEC, min_replicas=0)
    decision = decide(spec, SETTLED, step(0), START + 240 * STEP_S + 3600.0)
    after = decide(spec, decision.state, step(0), START + 241 * STEP_S + 3600.0)
    assert (decision.desired, after.desired) == (SETTLED.desired, SETTLED.desired)


def test_the_same_input_gives_the_same_answer_and_survives_being_written_down() -> None:
    seen, now = step(40), START + 240 * STEP_S
    written = msgspec.convert(msgspec.json.decode(msgspec.json.encode(SETTLED)), State)
    assert written == SETTLED
    assert decide(SPEC, written, seen, now) == decide(SPEC, SETTLED, seen, now)


def test_a_calm_service_is_covered_closely() -> None:
    # 6 requests a second of 1,000 tokens, 0.25 s each: a replica bears a bit more than 4,000 tokens a second.
    assert play(SPEC, [step(30)] * 240)[-1].desired == 2


def test_bursts_that_come_again_are_covered_between_them() -> None:
    bursts = ([step(200, ready=12)] * 6 + [step(0, ready=12)] * 24) * 8
    decisions = play(SPEC, bursts)
    quiet = decisions[-1].desired
    bears = decisions[-1].state.capacity.per_replica
    assert quiet >= 200 * TOKENS / STEP_S * 30.0 / 35.0 / bears


def test_a_dip_that_is_shorter_than_a_cold_start_takes_nothing_away() -> None:
    before = SETTLED.desired
    decisions = play(SPEC, [step(0)] * int(90 / STEP_S - 2), SETTLED, START + 240 * STEP_S)
    assert all(decision.desired >= before for decision in decisions)


def test_demand_that_stays_away_lets_replicas_go() -> None:
    busy = play(SPEC, [step(300, ready=20)] * 240)[-1]
    calm = play(SPEC, [step(15, ready=20)] * 1500, busy.state, START + 240 * STEP_S)
    assert calm[-1].desired < busy.desired / 4


def test_a_ramp_is_led_by_a_cold_start() -> None:
    ramp = [step(20 + number // 2, ready=20) for number in range(480)]
    final = play(SPEC, ramp)[-1]
    bears = final.state.capacity.per_replica * final.state.load
    ahead = (20 + (480 + 90 / STEP_S) / 2) * TOKENS / STEP_S
    assert final.desired * bears >= ahead * 60.0 / 65.0


def test_misses_within_the_plan_lower_the_load_of_a_replica() -> None:
    kept = play(SPEC, [step(30)] * 240)[-1].state
    missed = play(SPEC, [step(30, time_s=6.0 if n % 20 == 0 else 0.25) for n in range(240)])[-1].state
    assert missed.load < kept.load


def test_nothing_known_means_the_target_of_requests_in_flight() -> None:
    seen = Seen(window_s=STEP_S, requests=100, in_flight=210.0, ready=1, starting=0)
    assert decide(SPEC, State(), seen, START).desired == 3


def test_an_idle_service_sleeps_only_where_it_may_and_wakes_at_once() -> None:
    idle = [step(0)] * int(3 * 90 / STEP_S + 2)
    start = START + 240 * STEP_S
    assert play(SPEC, idle, SETTLED, start)[-1].desired == 1
    asleep = play(replace(SPEC, min_replicas=0), idle, SETTLED, start)
    assert asleep[-1].desired == 0
    assert "idle for" in asleep[-1].reasons[0]
    woken = decide(
        replace(SPEC, min_replicas=0), asleep[-1].state, step(1, ready=0), start + len(idle) * STEP_S + 0.2
    )
    assert woken.desired == 1


@given(st.integers(1, 5), st.integers(0, 5), st.lists(st.integers(0, 500), min_size=1, max_size=20))
@settings(max_examples=20, deadline=None)
def test_bounds_hold(least: int, more: int, requests: list[int]) -> None:
    spec = replace(SPEC, min_replicas=least, max_replicas=least + more)
    for decision in play(spec, [step(one) for one in requests], SETTLED, START + 240 * STEP_S):
        assert least <= decision.desired <= least + more


def test_between_steps_the_last_answer_holds_and_nothing_is_lost() -> None:
    whole = decide(SPEC, SETTLED, step(30), START + 240 * STEP_S)
    half = replace(step(15), window_s=STEP_S / 2)
    first = decide(SPEC, SETTLED, half, START + 239.5 * STEP_S)
    second = decide(SPEC, first.state, half, START + 240 * STEP_S)
    assert first.desired == SETTLED.desired
    assert second.state.recent[-1] == pytest.approx(whole.state.recent[-1])


def test_the_memory_is_bounded() -> None:
    long = play(SPEC, [step(30 + n % 7) for n in range(2500)])
    sizes = [len(msgspec.json.encode(long[n].state)) for n in (1500, 2499)]
    assert sizes[1] <= sizes[0] * 1.05


def test_it_says_why_with_figures_and_what_else_was_close() -> None:
    decision = decide(SPEC, SETTLED, step(30), START + 240 * STEP_S)
    assert "prompt tokens a second may come within" in decision.reasons[0]
    assert "a replica bears" in decision.reasons[1]
    assert decision.runner_up.endswith("replicas")
