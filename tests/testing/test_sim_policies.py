from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import requests, world

from penstock.kit.errors import InvalidInput
from penstock.kit.windows import LinearWindow
from penstock.resources.autoscaler_config import DEFAULTS
from penstock.resources.autoscaler_settings import settings_of
from penstock.testing.sim.engine import Request
from penstock.testing.sim.policies.kpa import Averages
from penstock.testing.sim.policy import Observation, Second, Setup, policy_names, policy_of
from penstock.testing.sim.recorder import ANSWERED, Recorder
from penstock.testing.sim.world import World

SETUP = Setup(start_s=0.0, slo_ttft_s=2.0)
LAWS = ("kpa", "gpu", "hpa", "keda", "kpa:target=2", "hpa:target=2", "keda:target=2", "gpu:target=2", "kpa:metric=rps,target=1", "kpa:metric=in-flight-tokens", "kpa:metric-aggregation-algorithm=weighted-exponential")  # fmt: skip


def steady(per_s: float, until_s: float, output: int = 300) -> list[Request]:
    """Each takes some 3 s."""
    return [Request(n / per_s, 10, output) for n in range(int(until_s * per_s))]


def run(policy: str, played: list[Request], **settings: float) -> tuple[World, Recorder]:
    simulated = world(policy_of(policy), **settings)  # type: ignore[arg-type]
    return simulated, simulated.run(played)


def test_laws_are_found_by_the_names_of_their_files() -> None:
    assert {"fixed", "gpu", "hpa", "keda", "kpa"} <= set(policy_names())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("kpq", "found 'kpq', expected one of"),
        ("kpa:windw=3s", "found option 'windw'"),
        ("hpa:target=many", "target: found 'many'"),
        ("fixed", "expected a number of replicas, as in fixed:4"),
        ("fixed:0", "found '0'"),
        ("kpa:window=3s", "expected 6s <= 3s <= 1h"),
        ("kpa:metric=kv-cache-use", "do not report kv-cache-use"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_with_what_can(text: str, found: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        policy_of(text)(SETUP)
    assert found in caught.value.message


@pytest.mark.parametrize("policy", LAWS)
def test_every_law_answers_every_request(policy: str) -> None:
    _, seen = run(policy, steady(3.0, 120.0), end_s=600.0)
    assert seen.outcomes == {ANSWERED: 360}


@pytest.mark.parametrize("policy", ["kpa:target=2", "hpa:target=2", "keda:target=2", "gpu:target=2", "kpa:metric=rps,target=1"])  # fmt: skip
def test_a_law_grows_with_demand_and_shrinks_after_it(policy: str) -> None:
    played, seen = run(policy, steady(3.0, 120.0), end_s=3000.0)
    assert max(event.after for event in seen.scale_events) >= 3
    assert len(played.services[0].replicas) <= 1


def test_knatives_law_reaches_what_little_arithmetic_says() -> None:
    """About 10 in flight, 2 wanted per replica at 70 %: ceil(10 / 1.4) = 8, once starts and their backlog are over."""
    simulated = world(policy_of("kpa:target=2"), end_s=300.0)
    simulated.run(steady(3.0, 300.0))
    in_flight = 3.0 * (0.11 + 299 * 0.01)
    assert simulated.services[0].desired == pytest.approx(in_flight / 1.4, abs=1.0)


def test_knatives_law_sleeps_after_its_window_and_wakes_at_once() -> None:
    _, seen = run("kpa", [Request(1.0, 10, 10), Request(500.0, 10, 10)], end_s=800.0)
    asleep = next(event for event in seen.scale_events if event.after == 0)
    assert 60.0 < asleep.at < 60.0 + 30.0 + 10.0
    awake = next(event for event in seen.scale_events if event.before == 0)
    assert (awake.at, awake.after) == (500.0, 1)
    assert seen.held_s[1] == pytest.approx(10.0)


def test_knatives_law_keeps_its_lower_bound() -> None:
    played, _ = run("kpa:min-scale=2", [], end_s=600.0)
    assert len(played.services[0].replicas) == 2
    assert played.ticks < 100, "and sleeps there"


def test_the_gpu_profile_keeps_its_last_replica_for_half_an_hour() -> None:
    def slept_at(policy: str) -> float:
        _, seen = run(policy, requests(1.0), end_s=4000.0)  # type: ignore[arg-type]
        return next(event.at for event in seen.scale_events if event.after == 0)

    assert slept_at("kpa") < 200.0
    assert 1800.0 < slept_at("gpu") < 2300.0


def test_hpa_never_sleeps_and_grows_no_faster_than_its_policies() -> None:
    _, seen = run("hpa:target=1", steady(20.0, 60.0), end_s=900.0)
    assert min(event.after for event in seen.scale_events) >= 1
    ups = [event for event in seen.scale_events if event.after > event.before]
    assert all(event.after <= max(event.before + 4, 2 * event.before) for event in ups)
    downs = [event for event in seen.scale_events if event.after < event.before]
    assert downs[0].at - max(event.at for event in ups) >= 200.0, "five minutes of stabilisation"


def test_keda_wakes_at_its_poll_and_sleeps_after_its_cooldown() -> None:
    _, seen = run("keda", [Request(1000.0, 10, 10)], end_s=2000.0)
    changes = [(event.before, event.after) for event in seen.scale_events]
    assert changes == [(1, 0), (0, 1), (1, 0)]
    woken, slept = seen.scale_events[1].at, seen.scale_events[2].at
    assert 1000.0 <= woken <= 1030.0
    assert 300.0 <= slept - woken <= 400.0


bursts = st.lists(st.tuples(st.floats(0.0, 200.0), st.integers(1, 30)), min_size=1, max_size=6).map(sorted)


@settings(max_examples=15, deadline=None)
@given(bursts, st.sampled_from(["kpa:target=3", "hpa:target=3", "keda:target=3", "gpu:target=3"]))
def test_whatever_comes_is_answered_and_bounds_are_kept(load: list[tuple[float, int]], policy: str) -> None:
    played = [Request(at, 100, 50) for at, count in load for _ in range(count)]
    _, seen = run(
        f"{policy},{'max-scale' if policy[0] in 'kg' and 'keda' not in policy else 'max'}=4",
        played,
        end_s=400.0,
    )
    assert seen.outcomes == {ANSWERED: len(played)}
    assert all(event.after <= 4 for event in seen.scale_events)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 90), st.sampled_from([0.0, 0.0, 1.0, 2.5])), min_size=1, max_size=40)
)
def test_averages_are_those_of_windows_that_are_told_every_second(steps: list[tuple[int, float]]) -> None:
    told = settings_of({}, 0, DEFAULTS)
    averages, stable, panic = (
        Averages(told),
        LinearWindow(told.stable_window_s),
        LinearWindow(told.panic_window_s),
    )
    at = 1_700_000_000
    stable.record(at, 1.0)
    panic.record(at, 1.0)
    averages.record(seen_at(at, 1.0), "concurrency")
    for gap_s, value in steps:
        for silent in range(at + 1, at + gap_s):
            stable.record(silent, 0.0)
            panic.record(silent, 0.0)
        at += gap_s
        stable.record(at, value)
        panic.record(at, value)
        averages.record(seen_at(at, value), "concurrency")
        assert averages.stable.average(at) == stable.average(at)
        assert averages.panic.average(at) == panic.average(at)


def seen_at(at: int, in_flight: float) -> Observation:
    second = Second(at, in_flight, 0, 0, 0.0, 0.0, 0, 0)
    return Observation(now=at, seconds=(second,), replicas=1, ready=1, starting=0, draining=0, in_flight=0, waiting=0, streams=(), finished=(), cold_starts_s=())  # fmt: skip
