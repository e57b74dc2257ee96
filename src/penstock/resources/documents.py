"""Text to documents: YAML and JSON, several in one text, bounded in size, depth and alias expansion.

Scalars are read as Kubernetes reads them: YAML 1.1 booleans (`yes`, `off`), octal `0644`, but no timestamps and no
base-60 numbers, because JSON has neither. Keys are texts, as they were written. A key given twice is an error, because one of the two would be lost.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from penstock.kit.errors import InvalidInput, TooLarge

MAX_TEXT_CHARS = 3 << 20
MAX_VALUES = 200_000
MAX_DEPTH = 100
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(f(w) for w in ("true", "yes", "on") for f in (str.lower, str.title, str.upper))
_FALSE = frozenset(f(w) for w in ("false", "no", "off") for f in (str.lower, str.title, str.upper))
_INTEGER = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?", re.ASCII)
_NOT_JSON = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAGS = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}


def documents(text: str) -> tuple[dict[str, Any], ...]:
    """The objects in a YAML stream or JSON text, in order. Empty documents are skipped, a `List` is unfolded.

    Raises InvalidInput with the line, or TooLarge.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise TooLarge(
            f"the text has {len(text)} characters, at most {MAX_TEXT_CHARS} are read",
            hint="split it into several files",
        )
    values = _json(text) if text.lstrip()[:1] == "{" else None
    found: list[dict[str, Any]] = []
    for number, value in enumerate(_yaml(text) if values is None else values, start=1):
        if value is None:
            continue
        if not isinstance(value, dict):
            raise InvalidInput(
                f"document {number} is {_article(value)}, expected an object with apiVersion and kind"
            )
        found += _unfolded(value)
    return tuple(found)


def _unfolded(document: dict[str, Any]) -> list[dict[str, Any]]:
    if document.get("kind") != "List" or document.get("apiVersion") != "v1":
        return [document]
    items = document.get("items") or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidInput("items: expected a list of objects")
    return items


def _json(text: str) -> list[Any] | None:
    """The value of a JSON text; None when it is not JSON, then it may still be YAML."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InvalidInput(f"key {twice!r} is given twice", code="duplicate_key")
        return result

    def constant(name: str) -> NoReturn:
        raise InvalidInput(f"found {name}, which is not a JSON number")

    try:
        return [json.loads(text, object_pairs_hook=unique, parse_constant=constant)]
    except json.JSONDecodeError:
        return None
    except RecursionError:
        raise TooLarge(f"the text is nested deeper than {MAX_DEPTH} levels") from None


def _yaml(text: str) -> list[Any]:
    try:
        return list(_Builder().build(yaml.parse(text, Loader=LOADER)))
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InvalidInput(
            f"{where}{error.problem or error.context}", code="bad_yaml", hint="indent with spaces, never tabs"
        ) from None
    except yaml.YAMLError as error:
        raise InvalidInput(f"the text is not YAML: {error}".splitlines()[0], code="bad_yaml") from None


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come yet."""

    value: dict[str, Any] | list[Any]
    line: int
    anchor: str | None
    first_count: int
    key: str | None = None
    merged: list[Any] = field(default_factory=list)
    is_merge: bool = False


class _Builder:
    """Builds values from events, without recursion, so that neither depth nor aliases can exhaust anything."""

    def __init__(self) -> None:
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int] | None] = {}
        self.count = 0
        self.root: Any = None

    def build(self, events: Iterator[Any]) -> Iterator[Any]:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors, self.root = {}, None
            elif isinstance(event, yaml.DocumentEndEvent):
                yield self.root
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._start(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end()
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, yaml.ScalarEvent):
                self._counted(1)
                value = _scalar(event)
                if event.anchor:
                    self.anchors[event.anchor] = (value, 1)
                self._add(value, event)

    def _start(self, event: Any) -> None:
        if len(self.open) >= MAX_DEPTH:
            raise TooLarge(f"line {_line(event)}: nested deeper than {MAX_DEPTH} levels")
        self._counted(1)
        if self._expects_key():
            raise InvalidInput(f"line {_line(event)}: a key must be a word, found a list or a mapping")
        if event.anchor:
            self.anchors[event.anchor] = None
        empty: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.open.append(_Open(empty, _line(event), event.anchor, self.count))

    def _end(self) -> None:
        done = self.open.pop()
        if isinstance(done.value, dict):
            for source in done.merged:
                done.value |= {key: value for key, value in source.items() if key not in done.value}
        if done.anchor:
            self.anchors[done.anchor] = (done.value, self.count - done.first_count + 1)
        self._put(done.value, done.line)

    def _alias(self, event: Any) -> None:
        known = self.anchors.get(event.anchor)
        if known is None:
            why = "refers to itself" if event.anchor in self.anchors else "was never defined"
            raise InvalidInput(f"line {_line(event)}: alias *{event.anchor} {why}")
        value, size = known
        self._counted(size)
        self._add(value, event)

    def _counted(self, values: int) -> None:
        self.count += values
        if self.count > MAX_VALUES:
            raise TooLarge(
                f"the text holds more than {MAX_VALUES} values, aliases expanded",
                hint="split it into several files",
            )

    def _expects_key(self) -> bool:
        top = self.open[-1] if self.open else None
        return top is not None and isinstance(top.value, dict) and top.key is None and not top.is_merge

    def _add(self, value: Any, event: Any) -> None:
        if not self._expects_key():
            self._put(value, _line(event))
            return
        top = self.open[-1]
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value == "<<":
            top.is_merge = True
            return
        if isinstance(value, dict | list):
            raise InvalidInput(f"line {_line(event)}: a key must be a word, found a list or a mapping")
        key = event.value if isinstance(event, yaml.ScalarEvent) else str(value)
        if key in top.value:
            raise InvalidInput(
                f"line {_line(event)}: key {key!r} is given twice",
                code="duplicate_key",
                hint="remove one of the two",
            )
        top.key = key

    def _put(self, value: Any, line: int) -> None:
        if not self.open:
            self.root = value
            return
        top = self.open[-1]
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.is_merge:
            sources = value if isinstance(value, list) else [value]
            if not all(isinstance(source, dict) for source in sources):
                raise InvalidInput(f"line {line}: << merges mappings, found {_article(value)}")
            top.merged += sources
            top.is_merge = False
        else:
            assert top.key is not None, "a value in a mapping follows its key"
            top.value[top.key] = value
            top.key = None


def _scalar(event: Any) -> Any:
    text: str = event.value
    if event.tag == "!":
        return text
    if event.tag:
        return _tagged(event.tag.removeprefix("tag:yaml.org,2002:"), text, _line(event))
    if not event.implicit[0]:
        return text
    return _plain(text, _line(event))


def _tagged(tag: str, text: str, line: int) -> Any:
    value = text if tag == "str" else _plain(text, line)
    if tag == "float" and type(value) is int:
        value = float(value)
    if type(value) is not _TAGS.get(tag):
        raise InvalidInput(f"line {line}: {text[:40]!r} cannot be read as !!{tag}")
    return value


def _plain(text: str, line: int) -> Any:
    """What an unquoted word means."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text[0] in "+-.0123456789":
        if _INTEGER.fullmatch(text):
            return _integer(text.replace("_", ""), line)
        if _FLOAT.fullmatch(text):
            value = float(text.replace("_", ""))
            if math.isinf(value):
                raise InvalidInput(f"line {line}: the number {text[:40]} is too large")
            return value
        if _NOT_JSON.fullmatch(text):
            raise InvalidInput(f"line {line}: found {text}, which is not a JSON number", hint="quote it")
    return text


def _integer(text: str, line: int) -> int:
    if len(text) > 80:
        raise InvalidInput(f"line {line}: the number {text[:40]}… is too large")
    digits = text.lstrip("+-")
    if digits[:1] == "0" and digits[1:2].isdigit():
        return int(digits, 8) * (-1 if text[0] == "-" else 1)
    return int(text, 0)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _article(value: Hashable) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
