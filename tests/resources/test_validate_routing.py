"""What a routing profile may say, and how it is told what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit
from penstock.resources.routing import RoutingProfile


def document(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "RoutingProfile",
        "metadata": {"name": "r", "namespace": "default"},
        "spec": spec,
    }


def test_a_profile_that_says_everything_is_taken_as_it_is() -> None:
    spec = {
        "default": True,
        "filters": [{"name": "healthy"}, {"name": "saturation", "parameters": {"maxKvUse": 0.8}}],
        "scorers": [{"name": "prefix", "weight": 2.5}, {"name": "session", "weight": 0}],
        "picker": {"name": "weighted-random"},
        "promptClasses": {"thresholdTokens": 0, "short": {"pool": {"tier": "s"}, "maxTokens": 1}},
        "kvIndex": {"blockTokens": 16, "events": False},
    }
    made = admit(document(spec)).object
    assert isinstance(made, RoutingProfile)
    assert made.spec.scorers[0].weight == 2.5
    assert made.spec.prompt_classes.threshold_tokens == 0
    assert admit(document({})).object.spec.filters is None


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        ({"filters": [{"name": "helthy"}]}, "spec.filters[0].name", "no such filter; did you mean healthy?"),
        ({"scorers": [{"name": "prefixes"}]}, "spec.scorers[0].name", "did you mean prefix?"),
        (
            {"picker": {"name": "zzz"}},
            "spec.picker.name",
            "known are max-score, power-of-two, weighted-random",
        ),
        ({"scorers": [{"name": "queue"}, {"name": "queue"}]}, "spec.scorers[1].name", "Duplicate value"),
        ({"scorers": [{"name": "queue", "weight": -1}]}, "spec.scorers[0].weight", "between 0 and 1000"),
        ({"scorers": [{"name": "queue", "weight": 0}]}, "spec.scorers", "at least one must have a weight"),
        (
            {"filters": [{"name": "saturation", "parameters": {"maxWaitng": 1}}]},
            "spec.filters[0].parameters.maxWaitng",
            "no such parameter; did you mean maxWaiting?",
        ),
        (
            {"filters": [{"name": "saturation", "parameters": {"maxKvUse": 2}}]},
            "spec.filters[0].parameters.maxKvUse",
            "must be between 0.01 and 1",
        ),
        (
            {"filters": [{"name": "saturation", "parameters": {"maxKvUse": "0.5"}}]},
            "spec.filters[0].parameters.maxKvUse",
            "must be a number",
        ),
        (
            {"picker": {"name": "max-score", "parameters": {"x": True}}},
            "spec.picker.parameters.x",
            "no such parameter; it has none",
        ),
        ({"scorers": [{"name": f"s{i}"} for i in range(17)]}, "spec.scorers", "at most 16"),
        (
            {"promptClasses": {"thresholdTokens": -1}},
            "spec.promptClasses.thresholdTokens",
            "must be between 0",
        ),
        ({"promptClasses": {"long": {"maxTokens": 0}}}, "spec.promptClasses.long.maxTokens", "between 1"),
        ({"promptClasses": {"long": {"pool": {"a b": "c"}}}}, "spec.promptClasses.long.pool", "name part"),
        ({"kvIndex": {"blockTokens": 0}}, "spec.kvIndex.blockTokens", "between 1 and 4096"),
        ({"flow": {"engineQueue": 0}}, "spec.flow.engineQueue", "between 1 and 100000"),
        ({"flow": {"maxKvUse": 1.5}}, "spec.flow.maxKvUse", "between 0.01 and 1"),
        ({"flow": {"ttlSeconds": float("nan")}}, "spec.flow.ttlSeconds", "between 0 and 3600"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_field(spec: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        admit(document(spec))
    causes = [cause for cause in caught.value.causes if cause.field == field]
    assert causes, caught.value.causes
    assert said in causes[0].message


def test_a_service_names_its_profile_by_a_name_that_one_can_have() -> None:
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "m",
            "namespace": "default",
            "annotations": {"penstock.dev/routing-profile": "A b"},
        },
        "spec": {"predictor": {"model": {"modelFormat": {"name": "huggingface"}, "storageUri": "hf://a/b"}}},
    }
    with pytest.raises(Invalid) as caught:
        admit(service)
    assert caught.value.causes[0].field == "metadata.annotations[penstock.dev/routing-profile]"
