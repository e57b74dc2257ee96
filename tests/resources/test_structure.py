"""Pruning and type checks of documents."""

import copy

import msgspec
import pytest
from generated_manifests import TEXTS, manifests
from hypothesis import given, settings
from hypothesis import strategies as st
from kserve_files import without_empty

from penstock.kit.errors import Invalid, InvalidInput
from penstock.resources.parse import parse
from penstock.resources.scheme import KINDS, kind_of
from penstock.resources.serving import InferenceService
from penstock.resources.structure import _fields, _Shape, shown


def service(**predictor):
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}}, **predictor}},
    }


def defaults_count_as_absent(value, shape):
    """A number or flag equal to its type's default, as `count: 0`, is the same as none: Go's `omitempty`."""
    if shape.struct is not None and isinstance(value, dict):
        fields = {item.encode_name: item for item in msgspec.structs.fields(shape.struct)}
        known = _fields(shape.struct)
        return {
            key: defaults_count_as_absent(item, known[key].shape)
            for key, item in value.items()
            if item != fields[key].default
        }
    if shape.items is not None and isinstance(value, list | tuple):
        return [defaults_count_as_absent(item, shape.items) for item in value]
    if shape.values is not None and isinstance(value, dict):
        return {key: defaults_count_as_absent(item, shape.values) for key, item in value.items()}
    return value


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), manifests(kind))))
def test_nothing_of_a_manifest_is_lost_on_the_way_to_types_and_back(case):
    kind, document = case
    given_document = copy.deepcopy(document)
    parsed = parse(document, strict=True)
    assert parsed.document == given_document == document
    assert parsed.warnings == ()
    written = msgspec.json.decode(msgspec.json.encode(parsed.object))
    shape = _Shape(struct=kind.type)
    assert without_empty(defaults_count_as_absent(written, shape)) == without_empty(
        defaults_count_as_absent(document, shape)
    )


@settings(max_examples=60, deadline=None)
@given(manifests(kind_of(InferenceService)), st.data())
def test_an_unknown_field_anywhere_is_removed_named_and_harms_nothing_else(document, data):
    path, target = data.draw(st.sampled_from(list(structs(document))))
    name = data.draw(TEXTS.map(lambda text: f"x-{text}"))
    before = copy.deepcopy(document)
    target[name] = {"deep": [1]}
    parsed = parse(document)
    full = f"{path}.{name}" if path else name
    assert parsed.document == before
    assert [warning.startswith(f'unknown field "{full}"') for warning in parsed.warnings] == [True]
    with pytest.raises(InvalidInput) as caught:
        parse(document, strict=True)
    assert f'unknown field "{full}"' in caught.value.message


def structs(document, type_=InferenceService, path=""):
    """Every typed object in a document, with its path."""
    yield path, document
    for key, value in document.items():
        shape, where = _fields(type_)[key].shape, f"{path}.{key}" if path else key
        if shape.struct is not None:
            yield from structs(value, shape.struct, where)
        elif shape.items is not None and shape.items.struct is not None:
            for i, item in enumerate(value):
                yield from structs(item, shape.items.struct, f"{where}[{i}]")


def test_an_unknown_field_is_named_with_the_field_that_was_probably_meant():
    document = service(modle={"x": 1})
    assert parse(document).warnings == ('unknown field "spec.predictor.modle" (did you mean "model"?)',)
    with pytest.raises(InvalidInput) as caught:
        parse(document, strict=True)
    assert caught.value.message == (
        'InferenceService in version "v1beta1" cannot be handled as a InferenceService: strict decoding error:'
        ' unknown field "spec.predictor.modle"'
    )
    assert [cause.field for cause in caught.value.causes] == ["spec.predictor.modle"]


@pytest.mark.parametrize(
    ("predictor", "field", "message"),
    [
        ({"minReplicas": "1"}, "minReplicas", 'Invalid value: "1": found a string, expected an integer'),
        ({"minReplicas": True}, "minReplicas", "Invalid value: true: found a boolean, expected an integer"),
        ({"minReplicas": 1.5}, "minReplicas", "Invalid value: 1.5: found a number, expected an integer"),
        (
            {"minReplicas": 1 << 63},
            "minReplicas",
            f"Invalid value: {1 << 63}: found an integer, expected an integer",
        ),
        ({"nodeName": 7}, "nodeName", 'Invalid value: 7: found an integer, expected a string; quote it: "7"'),
        (
            {"labels": {"a": True}},
            "labels[a]",
            'Invalid value: true: found a boolean, expected a string; quote it: "true"',
        ),
        ({"containers": {}}, "containers", "Invalid value: {}: found an object, expected a list"),
        ({"logger": []}, "logger", "Invalid value: []: found a list, expected an object"),
        (
            {"hostNetwork": "yes"},
            "hostNetwork",
            'Invalid value: "yes": found a string, expected true or false',
        ),
        (
            {"deploymentStrategy": {"rollingUpdate": {"maxSurge": []}}},
            "deploymentStrategy.rollingUpdate.maxSurge",
            "Invalid value: []: found a list, expected an integer or a string",
        ),
        (
            {"overhead": {"cpu": "lots"}},
            "overhead[cpu]",
            "Invalid value: \"lots\": found 'lots', expected a quantity such as '500m', '2' or '4Gi'",
        ),
        (
            {"overhead": {"cpu": None}},
            "overhead[cpu]",
            "Invalid value: null: found null, expected a quantity such as 500m or 4Gi",
        ),
        (
            {"canaryTrafficPercent": []},
            "canaryTrafficPercent",
            "Invalid value: []: found a list, expected an integer",
        ),
    ],
)
def test_a_wrong_type_is_named_with_its_path_what_was_found_and_what_was_expected(predictor, field, message):
    with pytest.raises(Invalid) as caught:
        parse(service(**predictor))
    cause = caught.value.causes[0]
    assert (cause.field, cause.message) == (f"spec.predictor.{field}", message)
    assert caught.value.message.startswith(
        'InferenceService.serving.kserve.io "iris" is invalid: spec.predictor.'
    )


def test_missing_fields_and_all_wrong_types_are_reported_together():
    document = service(storageUris=[{"mountPath": "/x"}], minReplicas="x")
    with pytest.raises(Invalid) as caught:
        parse(document)
    assert {(cause.field, cause.reason) for cause in caught.value.causes} == {
        ("spec.predictor.storageUris[0].uri", "FieldValueRequired"),
        ("spec.predictor.minReplicas", "FieldValueTypeInvalid"),
    }
    assert "is invalid: [" in caught.value.message


def test_a_null_is_the_same_as_not_given():
    assert "minReplicas" not in parse(service(minReplicas=None)).document["spec"]["predictor"]


def test_a_null_in_a_map_of_texts_is_an_empty_text():
    assert parse(service(labels={"a": None})).document["spec"]["predictor"]["labels"] == {"a": ""}


def test_a_whole_number_written_with_a_fraction_is_an_integer():
    assert parse(service(minReplicas=2.0)).document["spec"]["predictor"]["minReplicas"] == 2


def test_a_secret_of_a_wrong_type_is_not_shown():
    with pytest.raises(Invalid) as caught:
        parse({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"pin": 4711}})
    assert "4711" not in caught.value.message
    assert caught.value.causes[0].message == "Invalid value: found an integer, expected a string; quote it"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "apiVersion: found nothing, expected a string"),
        ({"apiVersion": 1, "kind": "Pod"}, "apiVersion: found 1, expected a string"),
        ({"apiVersion": "v1"}, "kind: found nothing, expected a string"),
    ],
)
def test_a_document_that_says_no_kind_is_malformed(document, message):
    with pytest.raises(InvalidInput) as caught:
        parse(document)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("api_version", "kind", "hint"),
    [
        ("serving.kserve.io/v1beta1", "InferenceServce", "did you mean InferenceService"),
        ("v1", "Deployment", "the version of Deployment that is served is apps/v1"),
        ("v1", "pod", "write kind: Pod, apiVersion: v1"),
        ("x/v1", "Zzqqj", "lists the known kinds"),
    ],
)
def test_an_unknown_kind_is_answered_with_the_nearest_ones(api_version, kind, hint):
    with pytest.raises(Invalid) as caught:
        parse({"apiVersion": api_version, "kind": kind})
    assert caught.value.message == f'no matches for kind "{kind}" in version "{api_version}"'
    assert hint in caught.value.hint


def test_an_older_version_of_a_kind_is_read_as_the_present_one():
    parsed = parse(
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "LLMInferenceService",
            "metadata": {"name": "a"},
            "spec": {"model": {"uri": "hf://a/b"}},
        }
    )
    assert parsed.object.api_version == parsed.document["apiVersion"] == "serving.kserve.io/v1alpha2"
    assert parsed.warnings == (
        "serving.kserve.io/v1alpha1 LLMInferenceService is read as serving.kserve.io/v1alpha2",
    )


def test_a_bottomless_object_is_refused():
    nest: dict = {}
    for _ in range(5000):
        nest = {"a": nest}
    with pytest.raises(InvalidInput, match="nested deeper than 100"):
        parse(service(affinity=nest))


def test_a_long_value_is_cut_in_messages():
    assert shown("x" * 500) == '"' + "x" * 59 + "…"
