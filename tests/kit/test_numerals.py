"""Numbers are read as Go reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.numerals import parse_integer, parse_number, shown


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1_000", "1.0", "0x10", "1e3", "٣", "--1", "9" * 20, "1\n"])
def test_what_go_does_not_take_for_an_integer_is_none(text: str) -> None:
    assert parse_integer(text) is None


@pytest.mark.parametrize(("text", "value"), [("7", 7), ("+7", 7), ("-7", -7), ("007", 7), ("0", 0)])
def test_decimal_integers_are_read(text: str, value: int) -> None:
    assert parse_integer(text) == value


@pytest.mark.parametrize(
    "text", ["", ".", " 1", "1_0", "nan", "NaN", "inf", "-Infinity", "1e999", "٣.٥", "1e", "1,5"]
)
def test_what_is_no_finite_decimal_number_is_none(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), ("1.", 1.0), (".5", 0.5), ("-0.25", -0.25), ("+3e2", 300.0), ("1E-2", 0.01)],
)
def test_decimal_numbers_are_read(text: str, value: float) -> None:
    assert parse_number(text) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_is_shown_is_read_as_itself(value: float) -> None:
    assert parse_number(shown(value)) == value
