"""Label and field selectors, as kubectl writes them: `app=x,tier in (a,b),!old`, `metadata.name=x`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from penstock.kit.errors import InvalidInput
from penstock.resources.meta import LabelSelector

LabelOperator = Literal["=", "!=", "in", "notin", "exists", "!exists", ">", "<"]


class LabelTerm(NamedTuple):
    """One requirement on one label."""

    key: str
    operator: LabelOperator
    values: tuple[str, ...] = ()


class FieldTerm(NamedTuple):
    """One requirement on one field."""

    path: str
    operator: Literal["=", "!="]
    value: str


_KEY = r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
_EQUALITY = re.compile(rf"({_KEY})\s*(==|=|!=|>|<)\s*({_VALUE})")
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")
_ONE_VALUE = re.compile(_VALUE)
_TOP_LEVEL_COMMA = re.compile(r",(?![^()]*\))")


@lru_cache(maxsize=1024)
def parse_labels(text: str) -> tuple[LabelTerm, ...]:
    """The terms of a label selector; all must hold, none matches everything. Raises InvalidInput."""
    if not text.strip():
        return ()
    return tuple(_label_term(part.strip(), text) for part in _TOP_LEVEL_COMMA.split(text))


def _label_term(part: str, text: str) -> LabelTerm:
    if match := _EQUALITY.fullmatch(part):
        key, sign, value = match.groups()
        operator: LabelOperator = "=" if sign in ("=", "==") else sign  # type: ignore[assignment]
        if operator in (">", "<") and not value.isdecimal():
            raise _bad(text, f"{part!r} compares with {value!r}, expected an integer")
        return LabelTerm(key, operator, (value,))
    if match := _SET.fullmatch(part):
        values = tuple(value.strip() for value in match[3].split(","))
        if all(_ONE_VALUE.fullmatch(value) for value in values):
            return LabelTerm(match[1], "in" if match[2] == "in" else "notin", values)
    if match := _EXISTS.fullmatch(part):
        return LabelTerm(match[2], "!exists" if match[1] else "exists")
    raise _bad(text, f"{part!r} is not a requirement")


def matches(terms: tuple[LabelTerm, ...], labels: Mapping[str, str]) -> bool:
    """Whether the labels fulfil every term."""
    return all(_holds(term, labels.get(term.key)) for term in terms)


def _holds(term: LabelTerm, value: str | None) -> bool:
    match term.operator:
        case "=" | "in":
            return value in term.values if value is not None else False
        case "!=" | "notin":
            return value is None or value not in term.values
        case "exists":
            return value is not None
        case "!exists":
            return value is None
    if value is None or not value.removeprefix("-").isdecimal():
        return False
    return int(value) > int(term.values[0]) if term.operator == ">" else int(value) < int(term.values[0])


def matches_label_selector(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether the labels fulfil a LabelSelector; an empty one matches everything."""
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    operators: dict[str, LabelOperator] = {
        "In": "in",
        "NotIn": "notin",
        "Exists": "exists",
        "DoesNotExist": "!exists",
    }
    return all(
        _holds(LabelTerm(want.key, operators[want.operator], want.values), labels.get(want.key))
        for want in selector.match_expressions
    )


@lru_cache(maxsize=1024)
def parse_fields(text: str) -> tuple[FieldTerm, ...]:
    """The terms of a field selector. `\\` escapes a comma, an equals sign or itself. Raises InvalidInput."""
    terms = []
    for part in re.findall(r"(?:[^\\,]|\\.)+", text):
        path, sign, value = re.fullmatch(r"([^=!]*)(!=|==|=|)(.*)", part, re.DOTALL).groups()  # type: ignore[union-attr]
        if not sign or not path.strip():
            raise InvalidInput(
                f"field selector {text!r}: {part!r} is not a requirement",
                code="invalid_selector",
                hint="write metadata.name=x or status.phase!=Running",
            )
        operator: Literal["=", "!="] = "!=" if sign == "!=" else "="
        terms.append(FieldTerm(path.strip(), operator, re.sub(r"\\(.)", r"\1", value.strip())))
    return tuple(terms)


def _bad(text: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"label selector {text!r}: {why}",
        code="invalid_selector",
        hint="write app=web, app!=web, app in (web,api), app, or !app, separated by commas",
    )
