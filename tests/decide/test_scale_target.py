"""A component's name, as KServe calls its Deployment, stands for the revision that leads."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import convert, structs

from penstock.decide.handover import ASLEEP_FOR
from penstock.decide.scale_target import aimed_at, leading_revision, name_by_labels, revision_meant
from penstock.decide.scaling_conflict import Autoscaler, target_of
from penstock.resources.autoscaling import HorizontalPodAutoscaler
from penstock.resources.keda import ScaledObject
from penstock.resources.serving import ComponentStatus, InferenceService
from penstock.resources.vpa import VerticalPodAutoscaler
from penstock.testing.factories import deployment, meta

MODEL = {"model": {"modelFormat": {"name": "sklearn"}}}


def shares(**percent: int) -> dict[str, Any]:
    """A component's status: shares by the revision's number, the greatest of which is the newest."""
    traffic = [{"revisionName": f"iris-predictor-{name}", "percent": p} for name, p in percent.items()]
    newest = f"iris-predictor-{max(percent, default='r1')}"
    return {"traffic": traffic, "latestCreatedRevision": newest}


def service(status: dict[str, Any] | None = None, *, name: str = "", **annotations: str) -> InferenceService:
    document = {
        "metadata": {
            "name": "iris",
            "namespace": "default",
            "annotations": {f"serving.kserve.io/{key}": value for key, value in annotations.items()},
        },
        "spec": {"predictor": {**MODEL, **({"name": name} if name else {})}},
        "status": {"components": {"predictor": status or shares(r1=100)}},
    }
    return convert(document, InferenceService)


@pytest.mark.parametrize(
    ("percent", "leads"),
    [
        ({"r1": 100}, "r1"),
        ({"r1": 90, "r2": 10}, "r1"),
        ({"r1": 10, "r2": 90}, "r2"),
        ({"r1": 0, "r2": 100}, "r2"),
        ({}, "r1"),
    ],
)
def test_the_revision_with_the_largest_share_leads_and_the_newest_before_there_is_any(
    percent: dict[str, int], leads: str
) -> None:
    status = convert(shares(**percent), ComponentStatus)
    assert leading_revision(status) == f"iris-predictor-{leads}"
    assert revision_meant("iris-predictor", [service(shares(**percent))], ()) == f"iris-predictor-{leads}"


def test_a_predictor_with_a_name_of_its_own_is_found_by_both() -> None:
    for name in ("iris-predictor", "iris-blue-predictor"):
        assert revision_meant(name, [service(name="blue")], ()) == "iris-predictor-r1"


@pytest.mark.parametrize("name", ["iris", "iris-transformer", "other-predictor", "iris-predictor-r1", ""])
def test_what_is_no_component_means_nothing(name: str) -> None:
    assert revision_meant(name, [service()], ()) == ""


def test_a_component_of_which_nothing_may_be_scaled_now_means_nothing() -> None:
    assert revision_meant("iris-predictor", [service(stop="true")], ()) == ""
    assert revision_meant("iris-predictor", [service({"traffic": []})], ()) == "", "it has no revision yet"
    marks = meta("iris-predictor-r1", annotations={ASLEEP_FOR: "iris-predictor-r2"})
    asleep = structs.replace(deployment("iris-predictor-r1"), metadata=marks)
    assert revision_meant("iris-predictor", [service()], [asleep]) == ""


def test_a_revisions_objects_tell_their_component_by_their_labels() -> None:
    labels = {"serving.kserve.io/inferenceservice": "iris", "component": "predictor"}
    assert name_by_labels(labels) == "iris-predictor"
    assert name_by_labels({"app": "web"}) == name_by_labels({"component": "predictor"}) == ""


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (HorizontalPodAutoscaler, "scaleTargetRef"),
        (ScaledObject, "scaleTargetRef"),
        (VerticalPodAutoscaler, "targetRef"),
    ],
)
def test_every_kind_of_autoscaler_can_be_aimed(kind: type[Autoscaler], field: str) -> None:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "iris-predictor"}
    spec = {field: reference, "maxReplicas": 3, "triggers": []}
    made: Autoscaler = convert({"metadata": {"name": "mine"}, "spec": spec}, kind)
    assert target_of(aimed_at(made, "r2")) == ("apps", "Deployment", "r2")
    assert target_of(made).name == "iris-predictor"
