"""A revision's last decisions, as its PodAutoscaler's status keeps them."""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec

from penstock.controlplane.autoscaling.laws import Pods
from penstock.controlplane.autoscaling.revision import KEPT_DECISIONS, MOST_INPUT_BYTES, Revision
from penstock.decide import forecast
from penstock.decide.replay import replay_scaling
from penstock.resources.autoscaler_config import DEFAULTS
from penstock.resources.autoscaling import CrossVersionObjectReference
from penstock.resources.pod_autoscaler import (
    PodAutoscaler,
    PodAutoscalerSpec,
    PodAutoscalerStatus,
    RecordedDecision,
)
from penstock.testing.factories import meta


def revision(*decisions: RecordedDecision, **annotations: str) -> Revision:
    given = {f"autoscaling.knative.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    target = CrossVersionObjectReference(api_version="apps/v1", kind="Deployment", name="web")
    scaler = PodAutoscaler(
        metadata=meta("web", annotations=given),
        spec=PodAutoscalerSpec(scale_target_ref=target),
        status=PodAutoscalerStatus(decisions=decisions),
    )
    return Revision(scaler, replace(DEFAULTS, allow_zero_initial_scale=True), 0.0, 0.0)


def decided(asked: Revision, times: int) -> None:
    for number in range(times):
        now = 100.0 * number
        asked.demand._record(100.0 * (number % 2), now)
        asked.tick(Pods(1), now, now)


def test_the_last_ones_are_told_and_come_out_the_same_again() -> None:
    asked = revision()
    decided(asked, 2 * KEPT_DECISIONS)
    told = asked.told()
    assert len(told) == KEPT_DECISIONS
    assert all(replay_scaling(one).same for one in told)
    stored = msgspec.json.decode(msgspec.json.encode(told), type=tuple[RecordedDecision, ...])
    assert told == stored, "so that a status that says the same is not written again"
    assert asked.told() == told


def test_what_old_ones_rest_on_goes_where_it_is_too_much() -> None:
    chance = random.Random(1)
    asked, state = revision(), forecast.State(recent=tuple(chance.random() for _ in range(2000)))
    decided(asked, KEPT_DECISIONS)
    asked.decisions = tuple(msgspec.structs.replace(one, input={"state": state}) for one in asked.decisions)
    told = asked.told()
    kept = [one.input is not None for one in told]
    assert kept == sorted(kept), "the newest keep it"
    assert 1 <= sum(kept) < KEPT_DECISIONS
    assert sum(len(msgspec.json.encode(one.input)) for one in told if one.input) <= MOST_INPUT_BYTES
    assert [one.desired for one in told] == [one.desired for one in asked.decisions]
    assert replay_scaling(told[0]).failure == "what it rested on is not kept any more"


def changes(asked: Revision, requests: float) -> list[tuple[int, int]]:
    """All that is told after a first decision."""
    asked.demand._record(requests, 0.0)
    asked.tick(Pods(1), 0.0, 0.0)
    return [(one.before, one.desired) for one in asked.told()]


def test_the_first_decision_is_told_from_what_the_revision_began_with() -> None:
    assert changes(revision(), 0.0) == [(1, 0)]
    assert changes(revision(), 150.0) == [(1, 3)]
    assert changes(revision(min_scale="3"), 300.0) == [(3, 5)]


def test_a_decision_that_changes_nothing_is_not_told_and_holds() -> None:
    for asked in (revision(initial_scale="0"), revision(min_scale="1")):
        assert changes(asked, 0.0) == []
        assert asked.desired == 0


def test_a_restart_that_comes_to_the_same_tells_nothing_anew() -> None:
    before = RecordedDecision(at="2026-01-01T00:00:00Z", law="kpa", desired=2, before=1)
    assert changes(revision(before), 150.0) == [(1, 2), (2, 3)]
    assert changes(revision(before), 100.0) == [(1, 2)]
