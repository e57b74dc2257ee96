"""What a refused caller is told of when to come again."""

from __future__ import annotations

import pytest

from penstock.decide.admission import DROPPED
from penstock.gateway.activator import LATE
from penstock.gateway.errors import DROPPED_REASON, JSON, draining, error_headers
from penstock.kit.errors import Exhausted, NotFound, PlatformError, Unauthorized, Unavailable


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NotFound("no such model"), {}),
        (
            Unavailable("full", retry_after_s=0.25),
            {b"retry-after": b"1", b"retry-after-ms": b"250", b"x-should-retry": b"true"},
        ),
        (
            Exhausted("full", code="queue_full", retry_after_s=7.2),
            {
                b"x-llm-d-request-dropped-reason": b"rejected-saturated",
                b"retry-after": b"8",
                b"retry-after-ms": b"7200",
                b"x-should-retry": b"true",
            },
        ),
        (
            Unavailable("a long time", retry_after_s=1e6),
            {b"retry-after": b"120", b"retry-after-ms": b"120000", b"x-should-retry": b"true"},
        ),
        (
            Exhausted("it took too long", code="waited_too_long", retry_after_s=1.0),
            {
                b"x-llm-d-request-dropped-reason": b"rejected-ttl-expired",
                b"retry-after": b"1",
                b"retry-after-ms": b"1000",
                b"x-should-retry": b"true",
            },
        ),
        (
            Exhausted("the budget is spent", code="insufficient_quota", retry_after_s=3.0),
            {b"x-should-retry": b"false"},
        ),
        (Unauthorized("who are you"), {b"www-authenticate": b'Bearer realm="penstock"'}),
    ],
)
def test_a_caller_is_told_whether_and_when_to_come_again(
    error: PlatformError, told: dict[bytes, bytes]
) -> None:
    first, *rest = error_headers(error)
    assert first == JSON
    assert dict(rest) == told


def test_whoever_waited_in_vain_for_an_endpoint_is_told_so_in_llm_ds_words_too() -> None:
    assert {DROPPED[code] for code in LATE.values()} == {"rejected-no-endpoints"}
    assert dict(error_headers(draining()))[DROPPED_REASON] == b"rejected-shutting-down"
