"""How many replicas now? Knative's law, rule by rule; its numbers are those of the reference sheet."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.kpa import Decision, Observed, Spec, State, decide, first_excess, first_state, spec_of
from penstock.resources.autoscaler_config import DEFAULTS
from penstock.resources.autoscaler_settings import PROFILE, settings_of

SPEC = Spec(target=10.0, total=10.0, target_burst_capacity=0.0, max_scale_up_rate=10.0)
NOW = 10_000.0


def decided(
    stable: float,
    panic: float | None = None,
    *,
    ready: int = 1,
    spec: Spec = SPEC,
    state: State | None = None,
    now: float = NOW,
    **changes: object,
) -> Decision:
    seen = Observed(stable, stable if panic is None else panic, ready)
    state = State(None, ready) if state is None else state
    return decide(replace(spec, **changes), state, seen, now)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stable", "ready", "desired"),
    [
        (0, 1, 0),
        (0.01, 1, 1),
        (10, 1, 1),
        (10.01, 1, 2),
        (100, 10, 10),
        (40, 10, 5),  # no faster down than half
        (0, 10, 5),
        (0, 1, 0),  # floor(1 / 2) is 0
        (10_000, 10, 100),  # no faster up than tenfold
    ],
)
def test_the_stable_average_over_the_target_within_the_rates(stable: float, ready: int, desired: int) -> None:
    settled = State(None, ready)
    panicky = replace(SPEC, panic_threshold=1e9)
    assert decided(stable, ready=ready, spec=panicky, state=settled).desired == desired


def test_without_a_ready_pod_one_is_reckoned_with() -> None:
    assert decided(1000, 0, ready=0).desired == 10


def test_a_revision_that_is_not_reachable_may_fall_to_nothing_at_once() -> None:
    assert decided(0, ready=10, reachable=False).desired == 0


@pytest.mark.parametrize(
    ("stable", "panic", "scale", "desired"), [(0, 0, 5, 0), (1, 1, 5, 5), (90, 90, 5, 9), (0, 1, 5, 0)]
)
def test_the_activation_scale_is_the_least_once_there_is_any_demand(
    stable: float, panic: float, scale: int, desired: int
) -> None:
    assert (
        decided(
            stable, panic, ready=9, panic_threshold=1e9, max_scale_down_rate=1000, activation_scale=scale
        ).desired
        == desired
    )


def test_the_activation_scale_may_exceed_the_rate_upwards() -> None:
    assert decided(1, ready=1, max_scale_up_rate=2, activation_scale=50).desired == 50


def test_panic_begins_when_the_panic_window_wants_twice_the_ready_pods() -> None:
    assert decided(10, 19.9, ready=1).state.panic_since == NOW
    assert decided(10, 10, ready=1).state.panic_since is None
    assert decided(10, 30.1, ready=2).state.panic_since == NOW, "4 of 2 ready"
    assert decided(10, 30, ready=2).state.panic_since is None, "3 of 2 ready"


def test_panic_is_entered_by_what_is_wanted_before_the_rates_hold_it() -> None:
    decision = decided(10, 1000, ready=1, max_scale_up_rate=1.5)
    assert decision.state.panic_since == NOW
    assert decision.desired == 2


def test_in_panic_the_scale_never_falls_and_after_a_stable_window_it_may() -> None:
    state = decided(10, 80, ready=1).state
    assert state.max_panic_pods == 8
    later = decided(10, 10, ready=8, state=state, now=NOW + 60)
    assert later.desired == 8, "a stable window later it is still panic: more than that must have passed"
    after = decided(10, 10, ready=8, state=later.state, now=NOW + 60.5)
    assert (after.desired, after.state.panic_since, after.state.max_panic_pods) == (4, None, 0)


def test_panic_is_extended_by_every_tick_that_would_begin_it() -> None:
    state = decided(10, 80, ready=1).state
    extended = decided(10, 200, ready=8, state=state, now=NOW + 50).state
    assert extended.panic_since == NOW + 50
    assert extended.panic_began == NOW
    assert decided(10, 10, ready=8, state=extended, now=NOW + 100).desired == 20


def test_an_autoscaler_that_is_started_anew_begins_in_panic_so_that_no_scale_is_lost() -> None:
    state = first_state(SPEC, 7, NOW)
    assert decided(0, ready=7, state=state, now=NOW + 2).desired == 7
    assert first_state(SPEC, 1, NOW) == State(None, 1)
    assert first_state(SPEC, 0, NOW) == State(None, 0)


def test_nothing_follows_from_no_data_or_from_pods_that_could_not_be_counted() -> None:
    for seen in (Observed(None, None, 3), Observed(5, None, 3), Observed(5, 5, None)):
        decision = decide(SPEC, State(NOW, 3), seen, NOW)
        assert not decision.valid
        assert decision.state == State(NOW, 3)
        assert decision.reasons


def test_a_delay_holds_the_highest_wish_of_its_time() -> None:
    spec = replace(SPEC, scale_down_delay_s=10.0, max_scale_down_rate=1000.0)
    state, wishes = first_state(spec, 1, NOW), []
    for step, stable in enumerate([50, 40, 40, 0, 0, 0, 0, 0]):
        decision = decided(stable, 0, ready=5, spec=spec, state=state, now=NOW + 2 * step)
        state = decision.state
        wishes.append(decision.desired)
    assert wishes == [5, 5, 5, 5, 5, 4, 4, 0]


def test_a_delay_does_nothing_for_what_is_not_reachable() -> None:
    spec = replace(SPEC, scale_down_delay_s=10.0, reachable=False)
    state = decided(50, 0, ready=5, spec=replace(spec, reachable=True), state=first_state(spec, 1, NOW)).state
    assert decided(0, 0, ready=5, spec=spec, state=state).desired == 0


@pytest.mark.parametrize(
    ("burst", "ready", "panic", "excess"),
    [(0, 5, 100, 0), (-1, 5, 100, -1), (10, 5, 15, 25), (10, 5, 15.5, 24), (100, 0, 3, -103), (50, 5, 0, 0)],
)
def test_the_excess_burst_capacity_counts_the_ready_pods_as_they_are(
    burst: float, ready: int, panic: float, excess: int
) -> None:
    assert decided(0, panic, ready=ready, target_burst_capacity=burst).excess_burst_capacity == excess


@pytest.mark.parametrize(("burst", "scale", "excess"), [(0, 1, 0), (-1, 1, -1), (211, 1, -201), (5, 2, 15)])
def test_the_excess_before_the_first_tick(burst: float, scale: int, excess: int) -> None:
    assert first_excess(replace(SPEC, target_burst_capacity=burst, initial_scale=scale)) == excess


def test_a_start_that_outlasts_the_burst_is_not_asked_for() -> None:
    slow = replace(SPEC, cold_start_s=54.0, max_scale_up_rate=1000.0)
    at_once = decided(10, 1000, ready=1, spec=slow)
    assert at_once.desired == 1 + 10, "of 99 more a tenth, for the burst is 6 s old and a start takes 54"
    assert "likely to be ready only after the burst" in " ".join(at_once.reasons)
    later = decided(10, 1000, ready=1, spec=slow, state=at_once.state, now=NOW + 48)
    assert later.desired == 1 + 50, "a burst that has lasted as long as a start takes has even chances"


def test_a_quick_start_leaves_the_law_as_it_is() -> None:
    assert decided(10, 1000, ready=1, cold_start_s=6.0, max_scale_up_rate=1000.0).desired == 100


def test_the_gpu_profile_is_aware_of_starts_and_the_defaults_are_not() -> None:
    gpu = spec_of(settings_of({PROFILE: "gpu"}, 0, DEFAULTS), cold_start_s=60)
    assert (gpu.cold_start_s, gpu.tick_s, gpu.target) == (60, 15.0, 85.0)
    assert spec_of(settings_of({}, 0, DEFAULTS), cold_start_s=60).cold_start_s == 0


def test_every_decision_says_what_it_rests_on() -> None:
    decision = decided(95, 1000, ready=3)
    assert decision.reasons == (
        "stable average 95 over target 10 is 10",
        "panic average 1000 over target 10 is 100, held to 30 (no faster up)",
        "in panic since 0 s: never fewer than 30",
    )
    assert decision.runner_up == "10 by the stable window alone"


LOADS = st.floats(0, 1e5)
SPECS = st.builds(
    Spec,
    target=st.floats(0.01, 1000),
    total=st.floats(1, 1000),
    max_scale_up_rate=st.floats(1.01, 1000),
    max_scale_down_rate=st.floats(1.01, 100),
    panic_threshold=st.floats(1.1, 10),
    scale_down_delay_s=st.sampled_from([0.0, 10.0]),
    cold_start_s=st.sampled_from([0.0, 60.0]),
)


@given(SPECS, LOADS, LOADS, st.integers(0, 1000))
def test_no_tick_exceeds_the_rates(spec: Spec, stable: float, panic: float, ready: int) -> None:
    desired = decided(stable, panic, ready=ready, spec=spec, state=first_state(spec, 0, NOW)).desired
    pods = max(1, ready)
    assert pods // spec.max_scale_down_rate <= desired <= pods * spec.max_scale_up_rate + 1


@given(SPECS, st.lists(st.tuples(LOADS, LOADS, st.integers(0, 50)), max_size=20))
def test_while_it_is_in_panic_the_scale_never_falls(
    spec: Spec, ticks: list[tuple[float, float, int]]
) -> None:
    state, before = first_state(spec, 2, NOW), 0
    for step, (stable, panic, ready) in enumerate(ticks):
        decision = decided(stable, panic, ready=ready, spec=spec, state=state, now=NOW + 2 * step)
        if state.panic_since is not None and decision.state.panic_since is not None:
            assert decision.desired >= before
        state, before = decision.state, decision.desired


@given(SPECS, LOADS, LOADS, st.integers(0, 100))
def test_more_demand_never_means_fewer_pods(spec: Spec, stable: float, panic: float, ready: int) -> None:
    state = first_state(spec, 0, NOW)
    less = decided(stable, panic, ready=ready, spec=spec, state=state).desired
    assert decided(stable + 5, panic + 5, ready=ready, spec=spec, state=state).desired >= less


@given(SPECS, LOADS, LOADS, st.integers(0, 100))
def test_knowing_of_slow_starts_asks_for_no_more_than_the_law_and_no_less_than_its_stable_window(
    spec: Spec, stable: float, panic: float, ready: int
) -> None:
    state = first_state(spec, 0, NOW)
    law = decided(stable, panic, ready=ready, spec=spec, state=state, cold_start_s=0.0).desired
    ours = decided(stable, panic, ready=ready, spec=spec, state=state, cold_start_s=60.0).desired
    calm = decided(stable, 0, ready=ready, spec=spec, state=state, panic_threshold=1e9).desired
    assert calm <= ours <= law


@given(SPECS, LOADS, LOADS, st.integers(0, 100))
def test_the_same_input_gives_the_same_decision(spec: Spec, stable: float, panic: float, ready: int) -> None:
    state = first_state(spec, ready, NOW)
    assert decided(stable, panic, ready=ready, spec=spec, state=state) == decided(
        stable, panic, ready=ready, spec=spec, state=state
    )


class Sheet:
    """The law once more, line by line as the reference sheet has it: with state that changes, and no words."""

    def __init__(self, spec: Spec, ready: int, now: float) -> None:
        self.spec = spec
        self.panic_since = now if ready > 1 else None
        self.max_panic_pods = ready
        self.slots: dict[int, int] = {}

    def scale(self, stable: float, panic: float, ready0: int, now: float) -> tuple[int, int]:
        spec, r = self.spec, max(1, ready0)
        max_up = math.ceil(spec.max_scale_up_rate * r)
        max_down = math.floor(r / spec.max_scale_down_rate) if spec.reachable else 0
        ds, dp = math.ceil(stable / spec.target), math.ceil(panic / spec.target)
        s, p = min(max(ds, max_down), max_up), min(max(dp, max_down), max_up)
        if spec.activation_scale > 1:
            if ds > 0:
                s = max(s, spec.activation_scale)
            if dp > 0:
                p = max(p, spec.activation_scale)
        if dp / r >= spec.panic_threshold:
            self.panic_since = now
        elif self.panic_since is not None and self.panic_since + spec.stable_window_s < now:
            self.panic_since, self.max_panic_pods = None, 0
        d = s
        if self.panic_since is not None:
            self.max_panic_pods = max(self.max_panic_pods, s, p)
            d = self.max_panic_pods
        if spec.reachable and spec.scale_down_delay_s > 0:
            slot = int(now) // 2
            self.slots[slot] = max(d, self.slots.get(slot, 0))
            d = max(v for at, v in self.slots.items() if slot - at < math.ceil(spec.scale_down_delay_s / 2))
        tbc = spec.target_burst_capacity
        return d, int(tbc) if tbc in (0, -1) else math.floor(ready0 * spec.total - tbc - panic)


EXACT = st.builds(
    Spec,
    target=st.sampled_from([0.01, 0.7, 1.0, 7.0, 70.0]),
    total=st.sampled_from([1.0, 10.0, 100.0]),
    target_burst_capacity=st.sampled_from([-1.0, 0.0, 10.0, 211.0]),
    max_scale_up_rate=st.sampled_from([1.1, 2.0, 10.0, 1000.0]),
    max_scale_down_rate=st.sampled_from([1.1, 2.0, 10.0]),
    panic_threshold=st.sampled_from([1.1, 2.0, 10.0]),
    stable_window_s=st.sampled_from([6.0, 20.0, 60.0]),
    activation_scale=st.sampled_from([1, 2, 5]),
    scale_down_delay_s=st.sampled_from([0.0, 1.0, 5.0, 12.0]),
    reachable=st.booleans(),
)
TICKS = st.lists(
    st.tuples(st.sampled_from([0.5, 2.0, 7.0]), st.floats(0, 300), st.floats(0, 300), st.integers(0, 20)),
    max_size=40,
)


@given(EXACT, st.integers(0, 5), TICKS)
def test_tick_by_tick_the_law_is_what_the_sheet_says(
    spec: Spec, first: int, ticks: list[tuple[float, float, float, int]]
) -> None:
    now, sheet, state = NOW, Sheet(spec, first, NOW), first_state(spec, first, NOW)
    for passed_s, stable, panic, ready in ticks:
        now += passed_s
        decision = decide(spec, state, Observed(stable, panic, ready), now)
        state = decision.state
        assert (decision.desired, decision.excess_burst_capacity) == sheet.scale(stable, panic, ready, now)


def test_where_all_requests_go_through_the_gateway_no_data_is_silence() -> None:
    decision = decide(replace(SPEC, target_burst_capacity=-1), State(None, 1), Observed(None, None, 1), NOW)
    assert (decision.valid, decision.desired, decision.excess_burst_capacity) == (True, 0, -1)


@pytest.mark.parametrize("lie", [math.nan, math.inf, -math.inf])
def test_an_average_that_is_no_number_decides_nothing(lie: float) -> None:
    for seen in (Observed(lie, 1.0, 1), Observed(1.0, lie, 1)):
        assert decide(SPEC, State(NOW, 3), seen, NOW) == Decision(
            0, 0, False, State(NOW, 3), ("what was measured is not a number",)
        )


def test_pods_that_could_not_be_counted_at_first_are_taken_for_none() -> None:
    assert first_state(SPEC, None, NOW) == State(None, 0)
