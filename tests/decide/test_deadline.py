"""How long a request may take, and what the engine is told of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.deadline import deadline


@pytest.mark.parametrize(
    ("headers", "timeout_s", "header"),
    [
        ([], 600.0, b""),
        ([(b"x-request-timeout-ms", b"1500")], 1.5, b"x-request-timeout-ms"),
        ([(b"x-envoy-expected-rq-timeout-ms", b"200")], 0.2, b"x-envoy-expected-rq-timeout-ms"),
        ([(b"grpc-timeout", b"2S")], 2.0, b"grpc-timeout"),
        ([(b"grpc-timeout", b"90M")], 600.0, b"grpc-timeout"),
        ([(b"grpc-timeout", b"1H"), (b"x-request-timeout-ms", b"10")], 0.01, b"x-request-timeout-ms"),
        ([(b"x-request-timeout-ms", b"soon"), (b"grpc-timeout", b"250m")], 0.25, b"grpc-timeout"),
        ([(b"x-request-timeout-ms", b"0")], 600.0, b""),
        ([(b"x-request-timeout-ms", b"-5")], 600.0, b""),
        ([(b"grpc-timeout", b"123456789S")], 600.0, b""),
        ([(b"grpc-timeout", b"5")], 600.0, b""),
        ([(b"x-request-timeout-ms", b"10"), (b"x-request-timeout-ms", b"99")], 0.01, b"x-request-timeout-ms"),
        ([(b"x-stainless-read-timeout", b"5")], 600.0, b""),
    ],
)
def test_the_shorter_of_the_callers_limit_and_the_services_holds(
    headers: list[tuple[bytes, bytes]], timeout_s: float, header: bytes
) -> None:
    found = deadline(headers, 600.0)
    assert found.timeout_s == pytest.approx(timeout_s)
    assert found.header == header
    assert found.is_callers == (timeout_s < 600.0)


def test_the_engine_is_told_what_is_left_in_the_callers_own_header_and_nothing_where_there_was_none() -> None:
    assert deadline([(b"x-request-timeout-ms", b"1500")], 600.0).told(0.5) == (
        b"x-request-timeout-ms",
        b"1000",
    )
    assert deadline([(b"grpc-timeout", b"3S")], 600.0).told(1.0) == (b"grpc-timeout", b"2000m")
    assert deadline([(b"x-request-timeout-ms", b"1500")], 1.0).told(9.0) == (b"x-request-timeout-ms", b"0")
    assert deadline([], 600.0).told(1.0) is None


@given(st.binary(max_size=12), st.sampled_from([b"x-request-timeout-ms", b"grpc-timeout"]), st.floats(0, 1e5))
def test_whatever_the_header_says_the_limit_holds_and_what_is_left_never_grows(
    value: bytes, name: bytes, elapsed_s: float
) -> None:
    found = deadline([(name, value)], 600.0)
    assert 0 < found.timeout_s <= 600.0
    assert 0 <= found.remaining_s(elapsed_s) <= found.timeout_s
    told = found.told(elapsed_s)
    assert told is None or deadline([told], 600.0).timeout_s <= found.timeout_s or told[1] in (b"0", b"0m")
