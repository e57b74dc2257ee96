from __future__ import annotations

from pathlib import Path

import pytest

from penstock.app.prices import load_prices, parse_prices
from penstock.kit.errors import InvalidInput

ROW = "{gpu: h100, usdPerHour: 2.5, date: 2026-01-02, source: our contract}"


def test_what_is_shipped_is_dated_and_says_where_it_is_from(tmp_path: Path) -> None:
    shipped = load_prices(tmp_path / "absent.yaml")
    assert all(row.date and row.source and row.usd_micros > 0 for row in shipped)
    h100 = [row for row in shipped if row.gpu == "h100-80gb"]
    assert [(row.count, row.usd_micros, row.spot_usd_micros) for row in h100] == [
        (1, 2_950_000, 1_250_000),
        (8, 23_600_000, 10_000_000),
    ]


def test_ones_own_prices_replace_those_of_the_same_gpu_and_provider(tmp_path: Path) -> None:
    own = tmp_path / "prices.yaml"
    own.write_text(f"prices:\n- {ROW[:-1]}, provider: nebius}}\n- {ROW}\n")
    found = [(row.provider, row.count, row.usd_micros) for row in load_prices(own) if row.gpu == "h100-80gb"]
    assert found == [("nebius", 1, 2_500_000), ("", 1, 2_500_000)]
    assert {row.gpu for row in load_prices(own)} > {"h200-141gb", "b200-180gb"}


def test_amounts_are_taken_to_the_last_digit_that_is_written() -> None:
    (row,) = parse_prices("prices: [" + ROW.replace("2.5", "0.000001") + "]", "f")
    assert row.usd_micros == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prices: 3", "prices: found no list"),
        ("prise: []", "prices: found no list"),
        ("{prices: [], price: 1}", "there is no field 'price'"),
        ("a: [", "is not YAML"),
        ("prices: [3]", r"prices\[0\]: found 3, expected a mapping"),
        (f"prices: [{ROW}, {ROW}]", r"prices\[1\]: found the same .* prices\[0\]"),
        ("prices: [" + ROW.replace("usdPerHour", "usdPerHuor") + "]", r"prices\[0\]: .* 'usdPerHuor'"),
        ("prices: [" + ROW.replace("gpu: h100", "gpu: h101") + "]", r"prices\[0\].gpu: .* 'h101'"),
        ("prices: [" + ROW.replace("gpu: h100", "count: 1") + "]", "neither gpu nor instance"),
        ("prices: [" + ROW.replace("2.5", "0") + "]", r"prices\[0\].usdPerHour: found 0"),
        ("prices: [" + ROW.replace("2.5", ".nan") + "]", r"usdPerHour: found nan"),
        ("prices: [" + ROW.replace("2.5", "2.5€") + "]", r"usdPerHour: found '2.5€'"),
        ("prices: [" + ROW.replace("2.5", "0.0000001") + "]", "at most six decimals"),
        ("prices: [" + ROW.replace("2.5", "2950000") + "]", "up to 100000"),
        ("prices: [" + ROW.replace("2026-01-02", "yesterday") + "]", r"prices\[0\].date: "),
        ("prices: [{gpu: h100, usdPerHour: 1, source: x}]", r"prices\[0\]: .*`date`"),
        ("prices: [" + ROW.replace("{", "{count: 0, ") + "]", r"prices\[0\].count: found 0"),
    ],
)
def test_a_mistake_is_told_with_its_row_and_field(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse_prices(text, "f.yaml")


def test_a_field_that_is_nearly_right_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_prices("prices: [" + ROW.replace("usdPerHour", "usdPerHuor") + "]", "f.yaml")
    assert "usdPerHour" in caught.value.hint


def test_a_file_that_cannot_be_read_is_an_error_and_not_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_prices(tmp_path)
