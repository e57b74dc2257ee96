"""Takes secrets out of what is logged or shown: by the name they go under, and by their own look."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "[redacted]"
MAX_DEPTH = 50

_SECRET_NAME = re.compile(
    r"(?:^|[-_.])(?:pass(?:word|wd|phrase)?|secret|tokens?|auth(?:orization)?|credentials?|cookie|api[-_]?key"
    r"|access[-_]?key|private[-_]?key|signature|connection[-_]?string)(?:$|[-_.])",
    re.IGNORECASE,
)
_HARMLESS_NAME = re.compile(
    r"(?:max|min|num|total|prompt|completion|input|output|count|per|limit|secret[-_.]?name|token[-_.]?(?:count|type))",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_PATTERNS = (
    re.compile(r"(?P<keep>\b(?:Bearer|Basic|Token)\s+)[A-Za-z0-9+/=._~-]{6,}", re.IGNORECASE),
    re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@/]+(?=@)", re.IGNORECASE),
    re.compile(r"(?P<keep>)\b(?:psk|sk|pk|rk)-[A-Za-z0-9_-]{16,}"),
    re.compile(r"(?P<keep>)\bhf_[A-Za-z0-9]{16,}"),
    re.compile(r"(?P<keep>)\bgh[pousr]_[A-Za-z0-9]{20,}"),
    re.compile(r"(?P<keep>)\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"(?P<keep>)\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    re.compile(
        r"(?P<keep>)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
    ),
)


_ASSIGNMENT = re.compile(
    r"(?P<keep>(?P<name>\b[\w.-]+)[\"']?\s*[=:]\s*[\"']?)(?![\w.-]+=[^=\s])(?P<value>[^\s\"'&,;}\[]+)"
)
"""A value that is an assignment itself is left for the next match: `error: password=…`."""


def redact_text(text: str) -> str:
    """`text` without bearer tokens, passwords in URLs, `password=…`, well-known key formats and private keys."""
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<keep>{MASK}", text)
    return _ASSIGNMENT.sub(_masked, text)


def _masked(match: re.Match[str]) -> str:
    return f"{match['keep']}{MASK}" if is_secret_name(match["name"]) else match[0]


def redact(value: Any) -> Any:
    """A copy of JSON-like data without secrets: values under secret names, a Secret's data, secret-looking texts."""
    return _redact(value, 0)


def is_secret_name(name: str) -> bool:
    """Whether a header, variable or field of this name holds a secret: `AWS_SECRET_ACCESS_KEY`, `hfToken`, `Cookie`."""
    words = _CAMEL.sub("_", name)
    return bool(_SECRET_NAME.search(words)) and not _HARMLESS_NAME.search(words)


def _redact(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if depth > MAX_DEPTH:
        return MASK
    if isinstance(value, Mapping):
        if value.get("kind") == "Secret":
            return _without_data(value, depth)
        if is_secret_name(str(value.get("name", ""))) and "value" in value:
            return {**{key: _redact(item, depth + 1) for key, item in value.items()}, "value": MASK}
        return {key: _field(str(key), item, depth) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redact(item, depth + 1) for item in value]
    return value


def _field(name: str, value: Any, depth: int) -> Any:
    if isinstance(value, str | bytes | int | float) and not isinstance(value, bool) and is_secret_name(name):
        return MASK
    return _redact(value, depth + 1)


def _without_data(secret: Mapping[str, Any], depth: int) -> dict[str, Any]:
    return {
        key: dict.fromkeys(item, MASK)
        if key in ("data", "stringData") and isinstance(item, Mapping)
        else _redact(item, depth + 1)
        for key, item in secret.items()
    }
