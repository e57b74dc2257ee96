"""JSON Patch (RFC 6902): add, remove, replace, move, copy and test, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from penstock.kit.bounds import check_depth
from penstock.kit.errors import Invalid, InvalidInput, nearest

MAX_OPERATIONS = 10_000
_REQUIRED = {
    "add": "value",
    "replace": "value",
    "test": "value",
    "remove": "",
    "move": "from",
    "copy": "from",
}


def json_patch(document: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """`document` after all operations, or none of them.

    Raises InvalidInput for an operation that is none, Invalid for one that does not fit the document.
    """
    if len(operations) > MAX_OPERATIONS:
        raise InvalidInput(f"the patch has {len(operations)} operations, at most {MAX_OPERATIONS} are taken")
    check_depth(operations, "the patch")
    holder = {"": deepcopy(document)}
    for number, operation in enumerate(operations):
        _operate(holder, operation, f"operation {number}")
    return holder[""]


def _operate(holder: dict[str, Any], operation: Mapping[str, Any], where: str) -> None:
    name = operation.get("op") if isinstance(operation, Mapping) else None
    if not isinstance(name, str) or name not in _REQUIRED:
        near = nearest(str(name), tuple(_REQUIRED), limit=1)
        raise InvalidInput(
            f"{where}: op: found {name!r}, expected one of {', '.join(_REQUIRED)}",
            hint=f"did you mean {near[0]}?" if near else "",
        )
    for field in filter(None, ("path", _REQUIRED[name])):
        if field not in operation:
            raise InvalidInput(f"{where}: {name} needs {field!r}")
    path = _pointer(operation["path"], where)
    where = f"{where}: {name} {operation['path']!r}"
    if name in ("add", "replace"):
        (_add if name == "add" else _replace)(holder, path, deepcopy(operation["value"]), where)
    elif name == "remove":
        _remove(holder, path, where)
    elif name == "test":
        found = _read(holder, path, where)
        if not _same(found, operation["value"]):
            raise Invalid(
                f"{where}: found {found!r:.80}, expected {operation['value']!r:.80}", code="test_failed"
            )
    else:
        source = _pointer(operation["from"], where)
        if name == "move" and len(path) > len(source) and path[: len(source)] == source:
            raise Invalid(f"{where}: a value cannot be moved into itself")
        value = _read(holder, source, where)
        if name == "move":
            _remove(holder, source, where)
        _add(holder, path, deepcopy(value), where)


def _pointer(text: Any, where: str) -> list[str]:
    """A JSON pointer (RFC 6901) as steps from a holder whose only key is ""."""
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise InvalidInput(f"{where}: found the path {text!r}, expected one such as '/spec/replicas'")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")]


def _parent(holder: dict[str, Any], path: list[str], where: str) -> Any:
    value: Any = holder
    for step in path[:-1]:
        value = _step(value, step, where)
    return value


def _read(holder: dict[str, Any], path: list[str], where: str) -> Any:
    return _step(_parent(holder, path, where), path[-1], where)


def _step(value: Any, step: str, where: str) -> Any:
    if isinstance(value, dict):
        if step not in value:
            near = nearest(step, list(value), limit=1)
            raise Invalid(f"{where}: there is no {step!r}", hint=f"did you mean {near[0]!r}?" if near else "")
        return value[step]
    if isinstance(value, list):
        return value[_index(step, len(value), where)]
    raise Invalid(f"{where}: {step!r} leads into a value that is neither object nor list")


def _index(step: str, length: int, where: str) -> int:
    if not (step.isascii() and step.isdecimal()) or (len(step) > 1 and step[0] == "0") or len(step) > 9:
        raise Invalid(f"{where}: {step!r} is not a position of a list")
    if int(step) >= length:
        raise Invalid(f"{where}: there is no position {step}, the list has {length}")
    return int(step)


def _add(holder: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    parent = _parent(holder, path, where)
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif isinstance(parent, list):
        at = len(parent) if path[-1] == "-" else _index(path[-1], len(parent) + 1, where)
        parent.insert(at, value)
    else:
        raise Invalid(f"{where}: {path[-1]!r} leads into a value that is neither object nor list")


def _replace(holder: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    parent = _parent(holder, path, where)
    _step(parent, path[-1], where)
    parent[path[-1] if isinstance(parent, dict) else int(path[-1])] = value


def _remove(holder: dict[str, Any], path: list[str], where: str) -> None:
    if len(path) == 1:
        raise Invalid(f"{where}: the whole document cannot be removed")
    parent = _parent(holder, path, where)
    _step(parent, path[-1], where)
    del parent[path[-1] if isinstance(parent, dict) else int(path[-1])]


def _same(left: Any, right: Any) -> bool:
    """JSON equality: 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)
