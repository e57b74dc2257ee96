from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.durations import UNITS_S, parse_duration_s
from penstock.kit.errors import InvalidInput


@given(st.integers(0, 999_999), st.sampled_from(list(UNITS_S)))
def test_a_number_with_a_unit_is_so_many_of_it(count: int, unit: str) -> None:
    assert parse_duration_s(f"{count}{unit}") == count * UNITS_S[unit]


def test_parts_add_up() -> None:
    assert parse_duration_s("1d2h3m4s") == 86_400 + 2 * 3600 + 3 * 60 + 4
    assert parse_duration_s("0") == 0


@pytest.mark.parametrize("text", ["", "5", "-1h", "1.5h", "1h ", "h", "1y", "1h30", "9999999999s", "١h"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="span of time"):
        parse_duration_s(text)
