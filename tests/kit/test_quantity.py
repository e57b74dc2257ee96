"""Kubernetes quantities."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.errors import InvalidInput
from penstock.kit.quantity import canonical, format_quantity, parse_quantity, to_bytes, to_cores


@pytest.mark.parametrize(
    ("text", "value", "canonical_text"),
    [
        ("0", "0", "0"), ("1", "1", "1"), ("-1", "-1", "-1"), ("+5", "5", "5"), ("500m", "0.5", "500m"), ("0.5", "0.5", "500m"),
        (".5", "0.5", "500m"), ("5.", "5", "5"), ("1000m", "1", "1"), ("1500m", "1.5", "1500m"), ("1k", "1000", "1k"), ("1000", "1000", "1k"),
        ("1M", "1e6", "1M"), ("100n", "1e-7", "100n"), ("3u", "3e-6", "3u"), ("1e3", "1000", "1e3"), ("1E3", "1000", "1e3"),
        ("12e6", "12e6", "12e6"), ("1.5e3", "1500", "1500"), ("1e-3", "0.001", "1e-3"), ("5e2", "500", "500"), ("1E", "1e18", "1E"),
        ("1Ki", "1024", "1Ki"), ("1024Ki", "1048576", "1Mi"), ("1.5Gi", "1610612736", "1536Mi"), ("0.5Ki", "512", "512"),
        ("1Ei", str(1 << 60), "1Ei"), ("100Mi", str(100 << 20), "100Mi"), ("0.3Ki", "307.2", "307200m"), ("0.1n", "1e-10", "1n"),
    ],
)  # fmt: skip
def test_quantities_are_exact_and_have_one_canonical_form(text, value, canonical_text):
    assert parse_quantity(text) == Decimal(value)
    assert canonical(text) == canonical_text
    assert canonical(canonical_text) == canonical_text


@pytest.mark.parametrize(
    ("given_value", "value"), [(2, 2), (1.5, Decimal("1.5")), (0.1, Decimal("0.1")), (1e-7, Decimal("1e-7"))]
)
def test_numbers_are_quantities(given_value, value):
    assert parse_quantity(given_value) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1x",
        "1 Gi",
        "Gi",
        "1gi",
        "1KI",
        "1ki",
        "1K",
        "--1",
        "1e",
        "1e3Ki",
        "1e31",
        "١",
        "1" * 41,
        ".",
        "1e1.5",
        "nan",
        "inf",
        "1\n",
    ],
)
def test_what_is_no_quantity_is_refused_with_an_example(text):
    with pytest.raises(InvalidInput) as caught:
        parse_quantity(text)
    assert "expected a quantity such as '500m'" in caught.value.message
    assert "Ki" in caught.value.hint


def test_sizes_round_up_to_whole_bytes_and_cores_are_floats():
    assert (to_bytes("1.5"), to_bytes("1Gi"), to_cores("250m"), to_cores(2)) == (2, 1 << 30, 0.25, 2.0)


WHOLE = st.integers(min_value=-(10**15), max_value=10**15)


@given(WHOLE)
def test_a_formatted_quantity_reads_back_as_its_value(number):
    assert parse_quantity(format_quantity(number)) == number
    assert parse_quantity(format_quantity(number, binary=True)) == number


@given(st.integers(min_value=0, max_value=10**12))
def test_billionths_survive(billionths):
    value = Decimal(billionths).scaleb(-9)
    assert parse_quantity(format_quantity(value)) == value


@given(st.decimals(min_value=0, max_value=1000, places=12))
def test_rounding_is_upward_so_that_no_request_shrinks(value):
    assert 0 <= parse_quantity(format_quantity(value)) - value < Decimal("1e-9")


@given(st.text(max_size=20))
def test_any_text_is_a_quantity_or_refused(text):
    try:
        value = parse_quantity(text)
    except InvalidInput:
        return
    assert value.is_finite()
