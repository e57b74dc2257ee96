"""RFC 3339."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.errors import InvalidInput
from penstock.kit.timestamps import parse_rfc3339, rfc3339, rfc3339_micro

YEAR_9999 = 253_402_300_799


@pytest.mark.parametrize(
    ("epoch_s", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1.999, "1970-01-01T00:00:01Z"),
        (-0.5, "1969-12-31T23:59:59Z"),
        (1769860800, "2026-01-31T12:00:00Z"),
    ],
)
def test_times_are_written_to_the_second(epoch_s, text):
    assert rfc3339(epoch_s) == text


@pytest.mark.parametrize(
    ("text", "epoch_s"),
    [
        ("2026-01-31T12:00:00Z", 1769860800),
        ("2026-01-31T13:30:00+01:30", 1769860800),
        ("2026-01-31T11:00:00-01:00", 1769860800),
        ("2026-01-31t12:00:00z", 1769860800),
        ("1970-01-01T00:00:00.25Z", 0.25),
        ("2016-12-31T23:59:60Z", 1483228800),
    ],
)
def test_times_are_read_with_any_offset_fraction_and_leap_second(text, epoch_s):
    assert parse_rfc3339(text) == epoch_s


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-02-30T12:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:00:00+99:00",
        "x" * 99,
    ],
)
def test_what_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(InvalidInput, match="expected a time such as"):
        parse_rfc3339(text)


@given(st.integers(min_value=0, max_value=YEAR_9999))
def test_a_written_time_reads_back(epoch_s):
    assert parse_rfc3339(rfc3339(epoch_s)) == epoch_s


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000))
def test_a_written_microsecond_reads_back(microseconds):
    assert round(parse_rfc3339(rfc3339_micro(microseconds / 1e6)) * 1e6) == microseconds
