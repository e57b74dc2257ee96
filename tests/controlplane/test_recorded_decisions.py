"""A revision's last decisions, as its PodAutoscaler's status keeps them."""

from __future__ import annotations

import random

import msgspec

from penstock.controlplane.autoscaling.laws import Pods
from penstock.controlplane.autoscaling.revision import KEPT_DECISIONS, MOST_INPUT_BYTES, Revision
from penstock.decide import forecast
from penstock.decide.replay import replay_scaling
from penstock.resources.autoscaler_config import DEFAULTS
from penstock.resources.autoscaling import CrossVersionObjectReference
from penstock.resources.pod_autoscaler import PodAutoscaler, PodAutoscalerSpec, RecordedDecision
from penstock.testing.factories import meta


def revision(**annotations: str) -> Revision:
    given = {f"autoscaling.knative.dev/{key}": value for key, value in annotations.items()}
    target = CrossVersionObjectReference(api_version="apps/v1", kind="Deployment", name="web")
    scaler = PodAutoscaler(
        metadata=meta("web", annotations=given), spec=PodAutoscalerSpec(scale_target_ref=target)
    )
    return Revision(scaler, DEFAULTS, 0.0, 0.0)


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
