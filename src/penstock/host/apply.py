"""Server-side apply: an object as one manager wishes it, merged with what is there, and who wished what remembered.

What a manager applied is kept in `metadata.managedFields` in Kubernetes' FieldsV1 notation. A field that a manager applied before
and no longer does is removed, unless another applied it too; a field that another manager applied with a different value is
a conflict. Only applies are remembered: what an update or patch writes belongs to nobody, and an apply overrides it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from penstock.host.metadata import Document, resource_of
from penstock.kit.errors import Cause, Conflict, InvalidInput
from penstock.kit.patch import MERGE_KEYS, strategic_merge
from penstock.resources.scheme import Kind

Fields = dict[str, Any]
"""FieldsV1: `f:NAME` a field, `k:{…}` an item of a list that is merged by key, `.` the item itself, {} a leaf."""

IDENTITY = ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")


def applied(
    kind: Kind, current: Document, wanted: Document, *, manager: str, force: bool, now: str
) -> Document:
    """`current` ({} for a new object) after `manager` applied `wanted`. Raises Conflict naming every field in dispute."""
    if (wanted.get("metadata") or {}).get("managedFields"):
        raise InvalidInput("metadata.managedFields must be nil")
    entries = list((current.get("metadata") or {}).get("managedFields") or ())
    own = next((entry for entry in entries if _is_by(entry, manager)), None)
    others = [entry for entry in entries if entry is not own]
    wish = _wish(kind, wanted)
    fields = _fields(wish)
    disputed = [_disputed(entry.get("fieldsV1") or {}, wish, current) for entry in others]
    if any(disputed) and not force:
        raise _conflict(kind, wanted["metadata"].get("name", ""), others, disputed)
    if any(disputed):
        left = [
            _minus(entry.get("fieldsV1") or {}, lost) for entry, lost in zip(others, disputed, strict=True)
        ]
        others = [{**entry, "fieldsV1": rest} for entry, rest in zip(others, left, strict=True) if rest]
    gone = _minus((own or {}).get("fieldsV1") or {}, fields)
    for entry in others:
        gone = _minus(gone, entry.get("fieldsV1") or {})
    merged: Document = _without(strategic_merge(current, wanted), gone)
    entry = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": kind.api_version,
        "time": now,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    if own is not None and own.get("fieldsV1") == fields and not any(disputed) and merged == current:
        return current
    merged["metadata"] = {**merged["metadata"], "managedFields": [*others, entry]}
    return merged


def _is_by(entry: Mapping[str, Any], manager: str) -> bool:
    return entry.get("manager") == manager and entry.get("operation") == "Apply"


def _wish(kind: Kind, wanted: Document) -> Document:
    """What of a document can be owned: neither its identity nor a status that has its own door."""
    hidden = ("apiVersion", "kind", *(("status",) if "status" in kind.subresources else ()))
    wish = {field: value for field, value in wanted.items() if field not in hidden}
    wish["metadata"] = {
        field: value for field, value in (wanted.get("metadata") or {}).items() if field not in IDENTITY
    }
    return {field: value for field, value in wish.items() if value not in ({}, None)}


def _fields(value: Any, field: str = "") -> Fields:
    if isinstance(value, Mapping):
        return {f"f:{name}": _fields(part, name) for name, part in value.items()}
    items = _items(value, field)
    return {key: {".": {}, **_fields(item)} for key, item in items.items()}


def _items(value: Any, field: str) -> dict[str, Any]:
    """The items of a list that is merged by key, under their FieldsV1 keys; {} for every other value."""
    key = MERGE_KEYS.get(field)
    if key is None or not isinstance(value, list):
        return {}
    if not all(isinstance(item, Mapping) and key in item for item in value):
        return {}
    return {f"k:{orjson.dumps({key: item[key]}).decode()}": item for item in value}


def _minus(fields: Fields, others: Fields) -> Fields:
    """The fields that are not among the others. A leaf of the others covers everything below it."""
    result: Fields = {}
    for key, below in fields.items():
        if key not in others:
            result[key] = below
        elif below and others[key] and (rest := _minus(below, others[key])):
            result[key] = rest
    return result


def _disputed(owned: Fields, wish: Any, current: Any, field: str = "") -> Fields:
    """The owned leaves for which the wish differs from the present value."""
    result: Fields = {}
    wished_items, present_items = _items(wish, field), _items(current, field)
    for key, below in owned.items():
        name = key[2:]
        if key.startswith("f:") and isinstance(wish, Mapping) and name in wish:
            wished, present = wish[name], current.get(name) if isinstance(current, Mapping) else None
        elif key in wished_items:
            wished, present = wished_items[key], present_items.get(key)
        else:
            continue
        if not below and wished != present:
            result[key] = {}
        elif below and (found := _disputed(below, wished, present, name)):
            result[key] = found
    return result


def _paths(fields: Fields, path: str = "") -> Iterator[str]:
    """The leaves as Kubernetes writes them: `.spec.containers[name="main"].image`."""
    for key, below in fields.items():
        if key.startswith("k:"):
            ((name, value),) = orjson.loads(key[2:]).items()
            here = f"{path}[{name}={orjson.dumps(value).decode()}]"
        else:
            here = f"{path}.{key[2:]}"
        if below:
            yield from _paths(below, here)
        else:
            yield here


def _without(value: Any, gone: Fields, field: str = "") -> Any:
    """The value without the fields; what becomes empty goes with them."""
    if isinstance(value, Mapping):
        result = dict(value)
        for key, below in gone.items():
            name = key[2:]
            if not key.startswith("f:") or name not in result:
                continue
            rest = _without(result[name], below, name) if below else None
            if rest in (None, {}, []):
                del result[name]
            else:
                result[name] = rest
        return result
    items = _items(value, field)
    kept = [_without(item, gone.get(key, {})) for key, item in items.items() if "." not in gone.get(key, {})]
    return kept if items else value


def _conflict(kind: Kind, name: str, others: list[Document], disputed: list[Fields]) -> Conflict:
    found = [
        (f'conflict with "{entry["manager"]}"', path)
        for entry, fields in zip(others, disputed, strict=True)
        for path in _paths(fields)
    ]
    listed = ", ".join(f"{text}: {path}" for text, path in found)
    return Conflict(
        f"Apply failed with {len(found)} conflict{'s' if len(found) > 1 else ''}: {listed}",
        code="field_manager_conflict",
        hint=f"agree with the other manager on {resource_of(kind)} {name!r}, or apply with force",
        causes=tuple(Cause(path, text, "FieldManagerConflict") for text, path in found),
    )
