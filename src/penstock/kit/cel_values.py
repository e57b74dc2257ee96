"""What values of the Common Expression Language can do: members, comparison, and the functions that conditions on devices use.

Types are strict as in CEL: a text is never equal to a number, it is a mistake to compare them. Quantities and versions are Kubernetes' own
extensions (`quantity('40Gi')`, `semver('9.0.0')`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from msgspec import Struct

from penstock.kit.errors import InvalidInput, nearest
from penstock.kit.quantity import parse_quantity

MAX_PATTERN = 256
MAX_REPEATS = 3
"""Unbounded repeats in a pattern: with more, matching a text could take very long."""


class CelError(Exception):
    """A condition that is none, or has no value. `at` is the character at which the fault lies, -1 while that is not known."""

    def __init__(self, message: str, at: int = -1) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


class Quantity(Struct, frozen=True, order=True):
    """An amount."""

    amount: Decimal


class Version(Struct, frozen=True, order=True):
    """A semantic version; parts after the third number are not compared."""

    parts: tuple[int, int, int]


def quantity(text: object) -> Quantity:
    """Of `40Gi`."""
    try:
        return Quantity(parse_quantity(_text(text)))
    except InvalidInput as error:
        raise CelError(error.message) from None


def semver(text: object) -> Version:
    """Of `9.0.0`."""
    found = re.fullmatch(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})([-+].*)?", _text(text))
    if found is None:
        raise CelError(f"{text!r} is no semantic version such as 9.0.0")
    return Version((int(found[1]), int(found[2]), int(found[3])))


def member(value: object, name: str) -> Any:
    """A member of a map."""
    if not isinstance(value, Mapping):
        raise CelError(f"{_type(value)} has no member {name!r}")
    if name not in value:
        raise CelError(f"no such key: {name}")
    return value[name]


def index(value: object, key: object) -> Any:
    """An entry of a map or list."""
    if isinstance(value, list):
        if type(key) is not int or not 0 <= key < len(value):
            raise CelError(f"no such entry: {key!r}")
        return value[key]
    return member(value, _text(key))


def is_in(item: object, where: object) -> bool:
    """Membership in a list, or a key of a map."""
    if isinstance(where, Mapping | list):
        return item in where
    raise CelError(f"found {_type(where)} after `in`, expected a list or a map")


def compare(operator: str, left: Any, right: Any) -> bool:
    """A comparison of two values of one type."""
    if type(left) is not type(right):
        raise CelError(f"cannot compare {_type(left)} and {_type(right)}")
    if operator in ("==", "!="):
        return (left == right) is (operator == "==")
    if isinstance(left, Mapping | list):
        raise CelError(f"{_type(left)} has no order")
    if operator in ("<", ">="):
        return bool(left < right) is (operator == "<")
    return bool(left > right) is (operator == ">")


def check_function(name: str) -> None:
    """Raises CelError if there is no such function."""
    if name not in _FUNCTIONS:
        raise CelError(_unknown("function", name, [*_FUNCTIONS, "has", "cel.bind"]))


def check_method(name: str) -> None:
    """Raises CelError if no value has such a method."""
    known = {**_TEXT, **_ORDERED, **_SIZED}
    if name not in known:
        raise CelError(_unknown("method", name, [*known]))


def call(name: str, arguments: list[Any]) -> Any:
    """A function of one argument."""
    if len(arguments) != 1:
        raise CelError(f"{name} takes 1 argument")
    return _FUNCTIONS[name](arguments[0])


def call_method(receiver: Any, name: str, arguments: list[Any]) -> Any:
    """A method of a value."""
    is_ordered = isinstance(receiver, Quantity | Version)
    methods = _ORDERED if is_ordered else _TEXT if isinstance(receiver, str) else _SIZED
    if name not in methods:
        raise CelError(f"{_type(receiver)}: {_unknown('method', name, [*methods])}")
    wanted, method = methods[name]
    if len(arguments) != wanted:
        raise CelError(f"{name} takes {wanted} argument{'s' * (wanted != 1)}")
    return method(receiver, *arguments)


def _compare_to(left: Any, right: Any) -> int:
    return int(compare(">", left, right)) - int(compare("<", left, right))


def _matches(text: str, pattern: object) -> bool:
    return _compiled(_text(pattern)).search(text) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """RE2's patterns as far as Python's mean the same and take no more than a short time."""
    if len(pattern) > MAX_PATTERN:
        raise CelError(f"the pattern has {len(pattern)} characters, at most {MAX_PATTERN} are taken")
    plain = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "x", pattern)
    if re.search(r"\)[*+{]", plain) or re.search(r"\(\?(?![:i])", plain) or re.search(r"\\[1-9]", pattern):
        raise CelError("repeated groups, lookarounds and back-references are not taken in patterns")
    if len(re.findall(r"[*+{]", plain)) > MAX_REPEATS:
        raise CelError(f"a pattern may have at most {MAX_REPEATS} of * + {{")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise CelError(f"the pattern {pattern!r} is none: {error}") from None


def _size(value: object) -> int:
    if isinstance(value, str | list | Mapping):
        return len(value)
    raise CelError(f"{_type(value)} has no size")


_FUNCTIONS: Mapping[str, Callable[[object], Any]] = {"quantity": quantity, "semver": semver, "size": _size}
_TEXT: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "contains": (1, lambda text, part: _text(part) in text),
    "startsWith": (1, lambda text, part: text.startswith(_text(part))),
    "endsWith": (1, lambda text, part: text.endswith(_text(part))),
    "matches": (1, _matches),
    "lowerAscii": (0, str.lower),
    "upperAscii": (0, str.upper),
    "size": (0, len),
}
_ORDERED: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "compareTo": (1, _compare_to),
    "isGreaterThan": (1, lambda left, right: compare(">", left, right)),
    "isLessThan": (1, lambda left, right: compare("<", left, right)),
}
_SIZED: Mapping[str, tuple[int, Callable[..., Any]]] = {"size": (0, _size)}


def _unknown(what: str, name: str, known: list[str]) -> str:
    close = nearest(name, known, 1)
    return f"{what} {name} is not known here" + (
        f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise CelError(f"found {_type(value)}, expected a text")
    return value


def _type(value: object) -> str:
    names: dict[type, str] = {
        str: "a text",
        int: "a number",
        bool: "true or false",
        list: "a list",
        type(None): "nothing",
    }
    return names.get(
        type(value), "a map" if isinstance(value, Mapping) else f"a {type(value).__name__.lower()}"
    )
