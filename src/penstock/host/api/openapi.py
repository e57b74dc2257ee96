"""`/openapi/v3`: schemas of our types, so that kubectl validates on the server and can explain every field.

Built on first use and cached: start-up pays nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import orjson

from penstock.host.api.discovery import SERVED, subresources_of
from penstock.host.api.patching import patch_types
from penstock.kit.errors import NotFound
from penstock.kit.hashing import stable_hash
from penstock.resources.scheme import Kind

Document = dict[str, Any]

TYPES = ("application/json", "application/yaml")
METHODS = {"get": "get", "update": "put", "patch": "patch", "create": "post"}
WRITE_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")


@cache
def index() -> Document:
    """Where the document of each group version is; the hash in its address changes when it does."""
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={stable_hash(document_of(path).decode())}"}
            for path in sorted(_paths())
        }
    }


@cache
def document_of(path: str) -> bytes:
    """The OpenAPI 3.0 document of `api/v1` or `apis/GROUP/VERSION`, as JSON. Raises NotFound."""
    kinds = _paths().get(path)
    if kinds is None:
        raise NotFound("the server could not find the requested resource")
    document = {
        "openapi": "3.0.0",
        "info": {"title": "Penstock", "version": path.rpartition("/")[2]},
        "paths": {route: item for kind in kinds for route, item in _routes(path, kind)},
        "components": {"schemas": _schemas(kinds)},
    }
    return orjson.dumps(document)


PROTOBUF_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
EMPTY_V2 = b"\x0a\x032.0"
"""The same without content, as the protobuf message that kubectl insists on: field 1, `swagger`, is "2.0"."""


@cache
def document_v2() -> bytes:
    """`/openapi/v2` for clients that know no other: paths without schemas."""
    document = {
        "swagger": "2.0",
        "info": {"title": "Penstock", "version": "v1"},
        "paths": {},
        "definitions": {},
    }
    return orjson.dumps(document)


@cache
def _paths() -> dict[str, tuple[Kind, ...]]:
    found: dict[str, list[Kind]] = {}
    for kind in SERVED:
        path = f"apis/{kind.api_version}" if "/" in kind.api_version else f"api/{kind.api_version}"
        found.setdefault(path, []).append(kind)
    return {path: tuple(kinds) for path, kinds in found.items()}


def _schemas(kinds: tuple[Kind, ...]) -> Document:
    _, components = msgspec.json.schema_components(
        [kind.type for kind in kinds], ref_template="#/components/schemas/{name}"
    )
    schemas: Document = {name: _plain(schema) for name, schema in components.items()}
    for kind in kinds:
        schemas[kind.type.__name__]["x-kubernetes-group-version-kind"] = [_gvk(kind)]
    return schemas


def _plain(schema: Any) -> Any:
    """JSON Schema 2020 as OpenAPI 3.0 has it: no `null` type, one type per field, integers that may be texts named as such."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    choices = schema.get("anyOf")
    if choices is not None:
        choices = [choice for choice in choices if choice.get("type") != "null"]
        kinds = {choice.get("type") for choice in choices}
        if kinds <= {"integer", "string", "number"} and len(kinds) > 1:
            return {"type": "string", "x-kubernetes-int-or-string": True}
        if len(choices) == 1:
            only = choices[0]
            return {"allOf": [only]} if "$ref" in only else _plain(only)
    result = {key: _plain(value) for key, value in schema.items() if key not in ("title", "default", "anyOf")}
    if choices is not None:
        result["anyOf"] = [_plain(choice) for choice in choices]
    if not result:
        return {"x-kubernetes-preserve-unknown-fields": True}
    return result


def _routes(path: str, kind: Kind) -> list[tuple[str, Document]]:
    scope = "/namespaces/{namespace}" if kind.namespaced else ""
    base = f"/{path}{scope}/{kind.plural}"
    schema = {"$ref": f"#/components/schemas/{kind.type.__name__}"}
    gvk = _gvk(kind)
    scope_parameters = [_parameter("namespace", "path")] if kind.namespaced else []

    def item(operations: dict[str, str], parameters: list[Document], gvk: Document) -> Document:
        done: Document = {
            method: _operation(method, action, schema, gvk, patch_types(kind) if method == "patch" else TYPES)
            for method, action in operations.items()
        }
        return {**done, "parameters": parameters}

    one = [*scope_parameters, _parameter("name", "path")]
    single = {"get": "get", "put": "put", "patch": "patch", "delete": "delete"}
    routes = [
        (base, item({"get": "list", "post": "post", "delete": "deletecollection"}, scope_parameters, gvk)),
        (f"{base}/{{name}}", item(single, one, gvk)),
    ]
    for name, group, version, answered, verbs in subresources_of(kind):
        methods = {METHODS[verb]: METHODS[verb] for verb in verbs}
        own = {"group": group, "version": version, "kind": answered}
        routes.append((f"{base}/{{name}}/{name}", item(methods, one, own)))
    return routes


def _operation(method: str, action: str, schema: Document, gvk: Document, types: tuple[str, ...]) -> Document:
    operation: Document = {
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk,
        "responses": {"200": {"description": "OK", "content": {TYPES[0]: {"schema": schema}}}},
    }
    if method in ("post", "put", "patch"):
        operation["parameters"] = [_parameter(name, "query") for name in WRITE_PARAMETERS]
        body = {"type": "object"} if method == "patch" else schema
        operation["requestBody"] = {"content": {type: {"schema": body} for type in types}, "required": True}
    return operation


def _parameter(name: str, where: str) -> Document:
    return {"name": name, "in": where, "required": where == "path", "schema": {"type": "string"}}


def _gvk(kind: Kind) -> Document:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}
