"""Fitting a document to a type: unknown fields are set aside, wrong types and missing fields are named by path.

This is Kubernetes' structural pruning. What a document says within known fields is kept to the letter; a null is the same as
not given, as everywhere in Kubernetes.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Union, get_args, get_origin

import msgspec

from penstock.kit.errors import Cause, InvalidInput, nearest
from penstock.kit.quantity import parse_quantity

INT64 = range(-(1 << 63), 1 << 63)
MAX_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Unknown:
    """A field that the type does not have, and the known ones that look like it."""

    path: str
    nearest: tuple[str, ...]

    def __str__(self) -> str:
        return f'unknown field "{self.path}"'

    @property
    def advice(self) -> str:
        """The same with the best guess of what was meant."""
        guess = f' (did you mean "{self.nearest[0]}"?)' if self.nearest else ""
        return f"{self}{guess}"


@dataclass(frozen=True, slots=True)
class Fitted:
    """The document without unknown fields and nulls; it converts to the type if there are no causes."""

    document: dict[str, Any]
    unknown: tuple[Unknown, ...]
    causes: tuple[Cause, ...]


def fit(document: Mapping[str, Any], type_: type[msgspec.Struct], *, secret: bool = False) -> Fitted:
    """Prune `document` to the fields of `type_` and check every value's type. Causes never show a `secret`'s values."""
    fitting = _Fitting([], [], secret)
    fitted = fitting.struct(document, _fields(type_), "")
    return Fitted(fitted, tuple(fitting.unknown), tuple(fitting.causes))


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a field may hold. `scalars` are Python types, `plain` those of which every value will do; `any` takes everything."""

    any: bool = False
    scalars: tuple[type, ...] = ()
    plain: frozenset[type] = frozenset()
    struct: type[msgspec.Struct] | None = None
    items: _Shape | None = None
    values: _Shape | None = None

    @property
    def is_quantity(self) -> bool:
        return set(self.scalars) == {str, int, float}

    @property
    def expected(self) -> str:
        if self.struct or self.values:
            return "an object"
        if self.items:
            return "a list"
        if self.is_quantity:
            return "a quantity such as 500m or 4Gi"
        names = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
        return " or ".join(names[scalar] for scalar in self.scalars)


@dataclass(frozen=True, slots=True)
class _Field:
    shape: _Shape
    required: bool


@cache
def _fields(type_: type[msgspec.Struct]) -> dict[str, _Field]:
    return {
        item.encode_name: _Field(_shape(item.type), item.required) for item in msgspec.structs.fields(type_)
    }


def _shape(annotation: Any) -> _Shape:
    if annotation is Any:
        return _Shape(any=True)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        members = [_shape(argument) for argument in arguments if argument is not type(None)]
        if len(members) == 1:
            return members[0]
        return _scalars(tuple(scalar for member in members for scalar in member.scalars))
    if origin is tuple:
        return _Shape(items=_shape(arguments[0]))
    if origin is dict:
        return _Shape(values=_shape(arguments[1]))
    if issubclass(annotation, msgspec.Struct):
        return _Shape(struct=annotation)
    return _scalars((annotation,))


def _scalars(types: tuple[type, ...]) -> _Shape:
    """Most values are plain, and need no path by which a mistake in them could be named."""
    plain = frozenset(types) & {str, bool}
    shape = _Shape(scalars=types)
    return shape if shape.is_quantity else replace(shape, plain=plain)


@dataclass(slots=True)
class _Fitting:
    unknown: list[Unknown]
    causes: list[Cause]
    secret: bool

    def struct(self, value: Mapping[str, Any], fields: dict[str, _Field], path: str) -> dict[str, Any]:
        result = {}
        for key, item in value.items():
            known = fields.get(key)
            if known is None:
                self.unknown.append(Unknown(_join(path, key), nearest(key, list(fields), limit=1)))
            elif item is not None:
                shape = known.shape
                plain = type(item) in shape.plain
                result[key] = item if plain else self.value(item, shape, _join(path, key))
        for key, known in fields.items():
            if known.required and key not in result:
                self.causes.append(Cause(_join(path, key), "Required value", "FieldValueRequired"))
        return result

    def value(self, value: Any, shape: _Shape, path: str) -> Any:
        if shape.any:
            return value
        if shape.struct is not None and isinstance(value, Mapping):
            return self.struct(value, _fields(shape.struct), path)
        if shape.values is not None and isinstance(value, Mapping):
            inner = shape.values
            empty = "" if inner.scalars == (str,) else None  # as Kubernetes reads `labels: {a: }`
            return {
                key: item
                if type(item) in inner.plain
                else self.value(empty if item is None else item, inner, f"{path}[{key}]")
                for key, item in value.items()
            }
        if shape.items is not None and isinstance(value, list | tuple):
            inner = shape.items
            return [
                item if type(item) in inner.plain else self.value(item, inner, f"{path}[{i}]")
                for i, item in enumerate(value)
            ]
        if type(value) in shape.scalars and (type(value) is not int or value in INT64):
            if shape.is_quantity:
                self.quantity(value, path)
            return value
        if isinstance(value, float) and int in shape.scalars and value.is_integer() and int(value) in INT64:
            return int(value)
        if type(value) is int and float in shape.scalars and value in INT64:
            return float(value)
        self.causes.append(_wrong_type(path, value, shape, self.secret))
        return value

    def quantity(self, value: str | int | float, path: str) -> None:
        try:
            parse_quantity(value)
        except InvalidInput as error:
            self.causes.append(
                Cause(path, f"Invalid value: {shown(value)}: {error.message}", "FieldValueInvalid")
            )


def _wrong_type(path: str, value: Any, shape: _Shape, secret: bool) -> Cause:
    found = "" if secret else f" {shown(value)}:"
    message = f"Invalid value:{found} found {kind_of_value(value)}, expected {shape.expected}"
    if shape.scalars == (str,) and isinstance(value, bool | int | float):
        message += "; quote it" if secret else f'; quote it: "{shown(value)}"'
    return Cause(path, message, "FieldValueTypeInvalid")


def shown(value: Any) -> str:
    """A value as it may stand in a message: JSON, cut short."""
    text = json.dumps(value, default=_wire, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _wire(value: Any) -> Any:
    return msgspec.to_builtins(value)


def kind_of_value(value: Any) -> str:
    """A value's JSON type in words."""
    if isinstance(value, Mapping):
        return "an object"
    names: dict[type, str] = {
        list: "a list",
        tuple: "a list",
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)
