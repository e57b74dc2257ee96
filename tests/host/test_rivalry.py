"""Autoscalers that come second, as the store admits them."""

import pytest

from penstock.host.objects import ObjectStore
from penstock.host.store import Store
from penstock.kit.errors import Invalid
from penstock.resources.scheme import find

HPA = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "hpa"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "maxReplicas": 3,
    },
}
VPA = {
    "apiVersion": "autoscaling.k8s.io/v1",
    "kind": "VerticalPodAutoscaler",
    "metadata": {"name": "vpa"},
    "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
}
CRON = {"timezone": "UTC", "start": "0 6 * * *", "end": "0 20 * * *", "desiredReplicas": "2"}
SCALED = {
    "apiVersion": "keda.sh/v1alpha1",
    "kind": "ScaledObject",
    "metadata": {"name": "scaled"},
    "spec": {"scaleTargetRef": {"name": "web"}, "triggers": [{"type": "cron", "metadata": CRON}]},
}


class Admission:
    def __init__(self) -> None:
        self.objects = ObjectStore(Store(":memory:"))

    def create(self, document, name=""):
        if name:
            document = {**document, "metadata": {"name": name}}
        return self.objects.create(find(document["apiVersion"], document["kind"]), "default", document)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (HPA, VPA, "HorizontalPodAutoscaler hpa already scales Deployment web by cpu"),
        (VPA, HPA, "VerticalPodAutoscaler vpa already sizes the pods of Deployment web by cpu"),
        (SCALED, HPA, "Deployment web is already scaled by ScaledObject scaled"),
    ],
)
def test_the_second_is_accepted_with_a_warning_that_names_the_first(first, second, says):
    store = Admission()
    assert not any("already" in warning for warning in store.create(first).warnings)
    assert any(says in warning for warning in store.create(second).warnings)


@pytest.mark.parametrize("first", [HPA, SCALED])
def test_a_scaled_object_is_refused_where_its_target_is_taken(first):
    store = Admission()
    store.create(first, "first")
    with pytest.raises(Invalid, match=r"is already scaled by .* first") as caught:
        store.create(SCALED)
    assert caught.value.causes[0].field == "spec.scaleTargetRef"


def test_a_scaled_object_and_a_vertical_one_get_on():
    store = Admission()
    store.create(SCALED)
    assert not any("already" in warning for warning in store.create(VPA).warnings)


def test_other_objects_have_no_rivals():
    store = Admission()
    store.create(HPA)
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}}
    assert store.create(config).warnings == ()


def test_who_names_a_component_is_a_rival_of_who_names_its_revision():
    store = Admission()
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "web"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}}}},
    }
    kind = find(service["apiVersion"], service["kind"])
    store.create(service)
    status = {"components": {"predictor": {"latestCreatedRevision": "web-predictor-00001"}}}
    store.objects.change(kind, "default", "web", lambda now: {**now, "status": status}, subresource="status")
    revision = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web-predictor-00001"}
    store.create({**HPA, "spec": {**HPA["spec"], "scaleTargetRef": revision}})
    with pytest.raises(Invalid, match="Deployment web-predictor-00001 is already scaled by"):
        store.create({**SCALED, "spec": {**SCALED["spec"], "scaleTargetRef": {"name": "web-predictor"}}})
