"""Recorded decisions come out the same again, and what does not is told."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide import forecast, kpa
from penstock.decide.replay import replay_scaling
from penstock.resources.autoscaler_settings import FORECAST_CLASS, KPA_CLASS
from penstock.resources.pod_autoscaler import RecordedDecision


def recorded(law: str, desired: int, reasons: tuple[str, ...], given: dict[str, Any]) -> RecordedDecision:
    """As it comes back from the store."""
    record = RecordedDecision(
        at="2026-01-01T00:00:00Z", law=law, desired=desired, reasons=reasons, input=msgspec.to_builtins(given)
    )
    return msgspec.json.decode(msgspec.json.encode(record), type=RecordedDecision)


@given(
    st.floats(0, 1000),
    st.floats(0, 1000),
    st.integers(0, 30),
    st.sampled_from([0.0, 30.0]),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 50)), max_size=3),
)
def test_every_decision_of_knatives_law_comes_out_the_same(
    stable: float, panic: float, ready: int, delay_s: float, delayed: list[tuple[int, int]]
) -> None:
    spec = kpa.Spec(target=7.0, total=10.0, scale_down_delay_s=delay_s, cold_start_s=40.0)
    state = kpa.State(990.5, 4, tuple(delayed) if delay_s else None, 980.25)
    seen = kpa.Observed(stable, panic, ready)
    said = kpa.decide(spec, state, seen, 1000.125)
    given = {"spec": spec, "state": state, "seen": seen, "now": 1000.125}
    again = replay_scaling(recorded(KPA_CLASS, said.desired, said.reasons, given))
    assert again.failure == ""
    assert (again.outcome, again.reasons, again.same) == (f"{said.desired} replicas", said.reasons, True)


def test_every_decision_of_the_forecast_comes_out_the_same() -> None:
    spec, state, now = forecast.Spec(ttft_s=2.0), forecast.State(), 1000.0
    for step in range(30):
        seen = forecast.Seen(
            window_s=5.0,
            requests=20 + step,
            in_flight=4.0,
            ready=2,
            starting=0,
            prompt_tokens=900.0,
            ttft=(0,) * 12 + (20 + step,),
        )
        said = forecast.decide(spec, state, seen, now)
        given = {"spec": spec, "state": state, "seen": seen, "now": now}
        assert replay_scaling(recorded(FORECAST_CLASS, said.desired, said.reasons, given)).same
        state, now = said.state, now + 5.0


def test_a_decision_that_comes_out_differently_is_a_finding() -> None:
    spec, state, seen = kpa.Spec(target=7.0, total=10.0), kpa.State(), kpa.Observed(35.0, 35.0, 5)
    given = {"spec": spec, "state": state, "seen": seen, "now": 1.0}
    again = replay_scaling(recorded(KPA_CLASS, 4, ("somebody else's reason",), given))
    assert not again.same
    assert again.outcome == "5 replicas"


def test_an_input_that_this_version_does_not_know_is_no_crash() -> None:
    again = replay_scaling(recorded(KPA_CLASS, 4, (), {"spec": {"target": "many"}}))
    assert not again.same
    assert "its input is not such as this version records" in again.failure
