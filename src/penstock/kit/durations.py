"""Spans of time as people write them: `30d`, `24h`, `1h30m`, `90s`."""

from __future__ import annotations

import re

from penstock.kit.errors import InvalidInput

UNITS_S = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_PART = re.compile(r"(\d{1,9})([wdhms])", re.ASCII)
_WHOLE = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


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
