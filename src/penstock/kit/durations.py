"""Spans of time as people write them: `30d`, `24h`, `1h30m`, `90s`."""

from __future__ import annotations

import re

from penstock.kit.errors import InvalidInput

UNITS_S = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_PART = re.compile(r"(\d{1,9})([wdhms])", re.ASCII)
_WHOLE = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_GO_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_GO_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})(ms|us|µs|ns|h|m|s)")
_GO_WHOLE = re.compile(rf"(?:{_GO_PART.pattern})+")


def parse_duration_s(text: str) -> int:
    """Seconds; `0` needs no unit. Raises InvalidInput."""
    if text == "0":
        return 0
    if not _WHOLE.fullmatch(text):
        raise InvalidInput(
            f"found {text[:40]!r}, expected a span of time such as '30d', '24h' or '1h30m'",
            code="invalid_duration",
        )
    return sum(int(count) * UNITS_S[unit] for count, unit in _PART.findall(text))


def parse_go_duration_s(text: str) -> float:
    """Seconds of what Go's time.ParseDuration takes: `90s`, `1.5m`, `1h30m`, `250ms`, `-1s`, `0`. Raises InvalidInput."""
    sign, body = (-1.0, text[1:]) if text[:1] == "-" else (1.0, text.removeprefix("+"))
    if body == "0":
        return 0.0
    if not _GO_WHOLE.fullmatch(body):
        raise InvalidInput(
            f"found {text[:40]!r}, expected a span of time such as '90s', '1h30m' or '250ms'",
            code="invalid_duration",
        )
    return sign * sum(float(count) * _GO_UNITS_S[unit] for count, unit in _GO_PART.findall(body))


def go_duration(seconds: float) -> str:
    """As Go prints a duration of milliseconds or more: `6s`, `1h0m0s`, `1m30s`, `1.5s`, `-1s`, `250ms`."""
    if seconds < 0:
        return f"-{go_duration(-seconds)}"
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{round(rest, 9):g}s"
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}" if minutes else text
