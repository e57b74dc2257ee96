"""Admission as a whole."""

import copy

import pytest
from generated_manifests import manifests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from written_manifests import STANDARD, service

from penstock.kit.errors import Invalid, InvalidInput
from penstock.resources.admission import admit
from penstock.resources.parse import parse
from penstock.resources.scheme import KINDS

ANY_KIND = st.sampled_from(KINDS).flatmap(manifests)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANY_KIND)
def test_any_manifest_is_admitted_or_refused_with_causes_and_never_changed(document):
    before = copy.deepcopy(document)
    try:
        admitted = admit(document)
    except (Invalid, InvalidInput) as error:
        assert error.causes
        assert error.message
    else:
        assert admit(admitted.document, admitted.object).document == admitted.document
    assert document == before


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANY_KIND.filter(lambda document: "spec" in document), st.data())
def test_what_was_stored_may_always_change_its_status(document, data):
    """Even where rules have become stricter since; otherwise nothing could be finished or deleted."""
    kind = next(kind for kind in KINDS if kind.kind == document["kind"])
    if "status" not in kind.subresources:
        return
    stored = parse(document)
    status = data.draw(manifests(kind)).get("status", {})
    admit({**stored.document, "status": status}, stored.object)


def test_a_refusal_names_what_was_pruned_before_it():
    with pytest.raises(Invalid) as caught:
        admit(service({"model": None, "modle": {}}))
    assert 'unknown field "spec.predictor.modle" (did you mean "model"?)' in caught.value.hint


def test_strict_admission_refuses_unknown_fields():
    with pytest.raises(InvalidInput, match=r'strict decoding error: unknown field "spec\.predictor\.modle"'):
        admit(service({"modle": {}}), strict=True)


def test_kinds_that_are_only_stored_say_so():
    document = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "TrainedModel",
        "metadata": {"name": "a"},
        "spec": {
            "inferenceService": "b",
            "model": {"framework": "x", "storageUri": "gs://a/b", "memory": "1Gi"},
        },
    }
    assert admit(document).warnings == ("TrainedModel is accepted and stored, but not yet acted upon",)


def test_the_admitted_object_is_its_document():
    admitted = admit(service(annotations=STANDARD))
    assert admitted.object.metadata.annotations == admitted.document["metadata"]["annotations"]
    assert admitted.document["metadata"]["annotations"]["modelFormat"] == "sklearn"
