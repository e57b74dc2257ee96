"""What a vertical autoscaler says of itself, and what of it is written down."""

import math
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from penstock.decide.scaling_conflict import Conflict
from penstock.decide.vpa import Recommendation, recommend
from penstock.decide.vpa_checkpoint import checkpoint_name, checkpoint_of, history_of
from penstock.decide.vpa_history import DAY_S, History, Sample, Window, observe
from penstock.decide.vpa_status import refusal, vpa_status
from penstock.resources.admission import admit
from penstock.resources.autoscaling import (
    CrossVersionObjectReference,
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec,
)
from penstock.resources.meta import ObjectMeta
from penstock.resources.vpa import (
    PodUpdatePolicy,
    RecommendedPodResources,
    VerticalPodAutoscaler,
    VerticalPodAutoscalerSpec,
)

NOW = 20_000 * DAY_S
TARGET = CrossVersionObjectReference(api_version="apps/v1", kind="Deployment", name="web")
NOTHING = Recommendation(RecommendedPodResources(), reasons=("main: no use was seen yet",))


def autoscaler(mode=None):
    policy = PodUpdatePolicy(update_mode=mode) if mode else None
    return VerticalPodAutoscaler(
        metadata=ObjectMeta(name="sizer", namespace="default", uid="u", generation=3),
        spec=VerticalPodAutoscalerSpec(target_ref=TARGET, update_policy=policy),
    )


def used(*samples):
    history, window = History(), Window()
    for minute, (cores, used_bytes) in enumerate(samples):
        result = observe(history, window, Sample(NOW + 60 * minute, cores, used_bytes), 1.0)
        history, window = result.history, result.window
    return history


def told(vpa=None, recommendation=NOTHING, found=(), pods=1, target_problem="", now=NOW):
    vpa = vpa or autoscaler()
    return vpa_status(vpa, recommendation, found, pods=pods, target_problem=target_problem, now=now)


def conditions(status):
    return {c.type: c.status for c in status.conditions}


def test_without_a_recommendation_the_reason_is_told():
    status = told()
    (provided,) = status.conditions
    assert (provided.type, provided.status, provided.message) == (
        "RecommendationProvided",
        "False",
        "main: no use was seen yet",
    )
    assert (status.recommendation, status.observed_generation) == (None, 3)


def test_a_short_history_is_one_of_low_confidence():
    history = used((0.5, 1e9))
    young = told(recommendation=recommend(autoscaler(), {"main": history}))
    assert conditions(young) == {"RecommendationProvided": "True", "LowConfidence": "True"}
    old = History(history.cpu, history.memory, NOW, NOW + 2 * DAY_S, 2880)
    assert conditions(told(recommendation=recommend(autoscaler(), {"main": old}))) == {
        "RecommendationProvided": "True"
    }


def test_what_was_said_and_does_not_hold_any_more_is_taken_back():
    before = told(pods=0)
    again = told(structs.replace(autoscaler(), status=before), pods=1, now=NOW + 60)
    assert conditions(before)["NoPodsMatched"] == "True"
    assert conditions(again)["NoPodsMatched"] == "False"


def test_a_condition_keeps_the_time_of_its_last_change():
    before = told(now=NOW)
    same = told(structs.replace(autoscaler(), status=before), now=NOW + 3600)
    assert same.conditions[0].last_transition_time == before.conditions[0].last_transition_time
    assert same == before


def rival():
    spec = HorizontalPodAutoscalerSpec(scale_target_ref=TARGET, max_replicas=3)
    return HorizontalPodAutoscaler(metadata=ObjectMeta(name="web"), spec=spec)


@pytest.mark.parametrize(
    ("fields", "reason", "says"),
    [
        ({"target_problem": "Deployment default/web not found"}, "TargetNotFound", "Cannot read targetRef"),
        (
            {"found": (Conflict(rival(), frozenset(("cpu",)), "web was first"),)},
            "ConflictingAutoscaler",
            "cpu of its pods is left alone: web was first",
        ),
        ({"vpa": autoscaler("InPlaceOrRecreate")}, "InPlaceNotSupported", "acts as Recreate"),
        ({"vpa": autoscaler("InPlace")}, "InPlaceNotSupported", "acts as Initial"),
    ],
)
def test_what_keeps_it_from_working_as_written_is_told_with_its_reason(fields, reason, says):
    status = told(**fields)
    found = next(c for c in status.conditions if c.type == "ConfigUnsupported")
    assert (found.status, found.reason) == ("True", reason)
    assert says in refusal(status)


@pytest.mark.parametrize("mode", [None, "Off", "Initial", "Recreate", "Auto"])
def test_what_works_as_written_is_not_refused(mode):
    assert refusal(told(autoscaler(mode))) == ""


def test_auto_is_told_to_be_deprecated_where_it_is_written():
    assert conditions(told(autoscaler("Auto")))["ConfigDeprecated"] == "True"
    assert "ConfigDeprecated" not in conditions(told(autoscaler()))


# -- checkpoints ----------------------------------------------------------------------------------------------------

uses = st.lists(st.tuples(st.floats(0, 64), st.floats(0, 1e11)), min_size=1, max_size=30)


@given(uses)
def test_what_is_written_down_recommends_the_same_after_a_restart(samples):
    history = used(*samples)
    checkpoint = checkpoint_of(autoscaler(), "main", history, NOW)
    read = history_of(msgspec.json.decode(msgspec.json.encode(checkpoint), type=type(checkpoint)))
    assert read is not None
    assert read.samples == history.samples
    assert read.last_sample_s == pytest.approx(history.last_sample_s, abs=1)
    for share in (0.5, 0.9, 0.95):
        for name in ("cpu", "memory"):
            before, after = (getattr(one, name).percentile(share) for one in (history, read))
            # Rounding to ten-thousandths can move a share that lies on a bucket's edge to the next filled one.
            near = {getattr(history, name).percentile(share + shift) for shift in (-0.01, 0, 0.01)}
            assert after == before or any(after == pytest.approx(one) for one in near)


def test_a_checkpoint_is_admitted_and_belongs_to_its_autoscaler():
    checkpoint = checkpoint_of(autoscaler(), "main", used((1.0, 1e9)), NOW)
    assert checkpoint.metadata.name == "sizer-main"
    assert [(o.kind, o.uid) for o in checkpoint.metadata.owner_references] == [("VerticalPodAutoscaler", "u")]
    assert admit(msgspec.to_builtins(checkpoint)).warnings == ()


def test_long_names_are_cut_and_stay_different():
    long = "a" * 250
    one, two = checkpoint_name(long, "main"), checkpoint_name(long, "side")
    assert one != two
    assert max(len(one), len(two)) <= 253


@pytest.mark.parametrize(
    "broken",
    [
        {"version": "v1"},
        {"total_samples_count": -1},
        {"first_sample_start": "yesterday"},
        {"cpu_histogram": {"bucketWeights": {"x": 1}, "totalWeight": 1.0}},
        {"cpu_histogram": {"bucketWeights": {"0": -1}, "totalWeight": 1.0}},
        {"memory_histogram": {"bucketWeights": {"400": 1}, "totalWeight": 1.0}},
    ],
)
def test_a_checkpoint_that_we_cannot_have_written_says_nothing(broken):
    checkpoint = checkpoint_of(autoscaler(), "main", used((1.0, 1e9)), NOW)
    kinds = {name: type(getattr(checkpoint.status, name)) for name in broken}
    fields = {
        name: msgspec.convert(value, kinds[name]) if isinstance(value, dict) else value
        for name, value in broken.items()
    }
    assert (
        history_of(structs.replace(checkpoint, status=structs.replace(checkpoint.status, **fields))) is None
    )


def test_an_empty_history_survives_being_written():
    read = history_of(checkpoint_of(autoscaler(), "main", replace(History()), NOW))
    assert read is not None
    assert read.cpu.is_empty
    assert not math.isnan(read.confidence)
