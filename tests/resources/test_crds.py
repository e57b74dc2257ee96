"""Our types and KServe's published schemas agree."""

import msgspec
import pytest
from jsonschema import Draft202012Validator
from kserve_files import closed, crd_schema, samples

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit
from penstock.resources.documents import documents
from penstock.resources.scheme import KINDS, Kind
from penstock.resources.structure import _fields, _shape

KSERVE = [
    (kind, kind.version)
    for kind in KINDS
    if kind.group == "serving.kserve.io" and kind.kind != "LLMInferenceServiceConfig"
]
IDS = [kind.kind for kind, _ in KSERVE]
# ObjectMeta is left open in a CRD, and an InferenceService's status keeps what it does not know.
OPEN = ("metadata",)


def disagreements(schema, shape, path):
    """Fields that the schema has and the type has not, that the type requires and the schema does not, and other types."""
    if shape.any:
        return
    kind = schema.get("type")
    if shape.struct is not None:
        if kind != "object":
            yield f"{path}: {kind} in the schema, an object here"
            return
        fields = _fields(shape.struct)
        for name, inner in schema.get("properties", {}).items():
            if name not in fields:
                yield f"{path}.{name}: unknown here"
            elif path or name not in OPEN:
                yield from disagreements(inner, fields[name].shape, f"{path}.{name}")
        for name, field in fields.items():
            if field.required and name not in schema.get("required", ()) and path:
                yield f"{path}.{name}: required here, optional in the schema"
    elif shape.items is not None:
        if kind != "array":
            yield f"{path}: {kind} in the schema, a list here"
        else:
            yield from disagreements(schema["items"], shape.items, f"{path}[]")
    elif shape.values is not None:
        if not isinstance(schema.get("additionalProperties"), dict):
            yield f"{path}: a map here"
        else:
            yield from disagreements(schema["additionalProperties"], shape.values, f"{path}[*]")
    else:
        kinds = {"integer": {int}, "string": {str}, "boolean": {bool}, "number": {float}}.get(
            kind, {int, str}
        )
        if not kinds <= set(shape.scalars):
            yield f"{path}: {kind} in the schema, {shape.scalars} here"


@pytest.mark.parametrize(("kind", "version"), KSERVE, ids=IDS)
def test_every_field_of_the_published_schema_is_known_with_its_type(kind: Kind, version: str):
    schema = crd_schema(kind.plural, version)
    found = list(disagreements(schema, _shape(kind.type), ""))
    assert found == []


def emitted():
    for path in samples():
        for document in documents(path.read_text()) if path.exists() else ():
            try:
                admitted = admit(document)
            except Invalid:
                continue
            if document["apiVersion"].startswith("serving.kserve.io"):
                yield pytest.param(admitted, id=f"{path.stem}-{document['metadata']['name']}")


@pytest.mark.parametrize("admitted", list(emitted()))
def test_what_is_stored_and_what_types_write_fit_the_published_schema(admitted):
    document = admitted.document
    kind = next(kind for kind in KINDS if kind.kind == document["kind"])
    schema = closed(crd_schema(kind.plural, kind.version))
    schema["properties"]["metadata"] = {"type": "object"}
    validator = Draft202012Validator(schema)
    for version in (document, msgspec.json.decode(msgspec.json.encode(admitted.object))):
        assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(version)] == []
