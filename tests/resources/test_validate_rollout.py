"""Policies that can be followed, and those that cannot."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit
from penstock.resources.validate_rollout import annotated_policy

GOOD_GATES: list[dict[str, Any]] = [
    {"signal": "errorRate", "maxRate": 0.01},
    {"signal": "errorRate", "maxRatio": 1.5, "maxIncrease": 0.005},
    {"signal": "ttft", "maxRatio": 1.25, "quantile": 0.95},
    {"signal": "interTokenTime", "maxSeconds": 0.2},
    {"signal": "embedding-distance", "maxIncrease": 0.05},
]


def policy(**spec: Any) -> Any:
    return admit(
        {
            "apiVersion": "penstock.dev/v1alpha1",
            "kind": "RolloutPolicy",
            "metadata": {"name": "careful", "namespace": "default"},
            "spec": spec,
        }
    ).object


def service(**annotations: str) -> Any:
    return admit(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": "iris",
                "namespace": "default",
                "annotations": {
                    f"penstock.dev/rollout-{k.replace('_', '-')}": v for k, v in annotations.items()
                },
            },
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://a/b"}}},
        }
    ).object


def test_a_policy_with_steps_and_gates_is_taken() -> None:
    steps = [{"weight": 5, "wait": "2m", "minRequests": 100}, {"weight": 50, "wait": "1h30m"}]
    taken = policy(steps=steps, gates=GOOD_GATES, falseAlarmRate=0.01, onFailure="Pause")
    assert [step.weight for step in taken.spec.steps] == [5, 50]


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"steps": [{"weight": 101}]}, "spec.steps[0].weight", "between 0 and 100"),
        (
            {"steps": [{"weight": 20}, {"weight": 20}]},
            "spec.steps[1].weight",
            "more than that of the step before",
        ),
        ({"steps": [{"weight": 5, "wait": "soon"}]}, "spec.steps[0].wait", "span of time"),
        ({"steps": [{"weight": 5, "minRequests": -1}]}, "spec.steps[0].minRequests", ""),
        ({"steps": [{"weight": 0, "minRequests": 5}]}, "spec.steps[0].minRequests", "no requests"),
        ({"falseAlarmRate": 0}, "spec.falseAlarmRate", "more than 0"),
        ({"falseAlarmRate": float("nan")}, "spec.falseAlarmRate", "more than 0"),
        ({"onFailure": "Explode"}, "spec.onFailure", "RollBack"),
        ({"gates": [{"signal": "errorRate"}]}, "spec.gates[0]", "maxRatio"),
        ({"gates": [{"signal": "errorRate", "maxRatio": 0.5}]}, "spec.gates[0].maxRatio", "between 1"),
        ({"gates": [{"signal": "errorRate", "maxRate": 0.1, "maxRatio": 2}]}, "spec.gates[0]", "two gates"),
        ({"gates": [{"signal": "ttft", "maxRate": 0.1}]}, "spec.gates[0].maxRate", "maxSeconds"),
        ({"gates": [{"signal": "errorRate", "maxRate": 0.1, "quantile": 0.9}]}, "spec.gates[0]", "ttft"),
        ({"gates": [{"signal": "ttft", "maxSeconds": float("inf")}]}, "spec.gates[0].maxSeconds", "700"),
        ({"gates": [GOOD_GATES[0]] * 2}, "spec.gates[1]", "Duplicate"),
        ({"gates": [GOOD_GATES[0]] * 17}, "spec.gates", "at most 16"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused_by_the_field(
    spec: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(Invalid) as refused:
        policy(**spec)
    assert any(cause.field == field and words in cause.message for cause in refused.value.causes), (
        refused.value
    )


def test_annotations_spell_a_simple_policy_out() -> None:
    taken = service(
        steps="5, 25,50", wait="90s", min_requests="20", max_error_rate="0.02", max_ttft_seconds="1.5"
    )
    spec = annotated_policy(taken.metadata.annotations)
    assert spec is not None
    assert [(s.weight, s.wait, s.min_requests) for s in spec.steps] == [(w, "90s", 20) for w in (5, 25, 50)]
    assert [(g.signal, g.max_rate, g.max_seconds) for g in spec.gates] == [
        ("errorRate", 0.02, None),
        ("ttft", None, 1.5),
    ]
    assert annotated_policy({}) is None


def test_a_handover_is_automatic_or_never() -> None:
    def wish(value: str) -> Any:
        wished = msgspec.to_builtins(service())
        wished["metadata"]["annotations"] = {"penstock.dev/handover": value}
        return admit(wished)

    assert wish("Never").object
    with pytest.raises(Invalid):
        wish("maybe")


@pytest.mark.parametrize(
    "annotations",
    [
        {"steps": "5,x"},
        {"steps": ""},
        {"steps": "50,5"},
        {"steps": "5", "wait": "soon"},
        {"steps": "5", "min_requests": "many"},
        {"steps": "5", "max_error_rate": "2"},
        {"steps": "5", "false_alarm_rate": "0"},
        {"steps": "5", "policy": "careful"},
        {"policy": "No Name"},
    ],
)
def test_annotations_that_cannot_be_followed_are_refused(annotations: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        service(**annotations)
