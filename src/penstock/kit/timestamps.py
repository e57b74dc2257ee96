"""RFC 3339 timestamps, in UTC and to the second, as Kubernetes writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

from penstock.kit.errors import InvalidInput

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?([Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


def rfc3339(epoch_s: float) -> str:
    """`2026-01-31T12:00:00Z` for seconds since the epoch; the fraction is dropped."""
    return datetime.fromtimestamp(int(epoch_s // 1), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(epoch_s: float) -> str:
    """`2026-01-31T12:00:00.000001Z`: Kubernetes' MicroTime, as events and leases carry it."""
    return (datetime.fromtimestamp(0, UTC) + timedelta(microseconds=round(epoch_s * 1e6))).strftime(
        "%Y-%m-%dT%H:%M:%S.%fZ"
    )


@lru_cache(maxsize=4096)
def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch, for any offset and fraction. Raises InvalidInput."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise _bad(text)
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    offset = timedelta(hours=int(match[10] or 0), minutes=int(match[11] or 0))
    try:
        zone = timezone(-offset if match[9] == "-" else offset)
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone)
    except ValueError:
        raise _bad(text) from None
    return moment.timestamp() + (second - min(second, 59)) + float(match[7] or 0)


def _bad(text: str) -> InvalidInput:
    return InvalidInput(
        f"found {text[:40]!r}, expected a time such as '2026-01-31T12:00:00Z' (RFC 3339)",
        code="invalid_time",
    )
