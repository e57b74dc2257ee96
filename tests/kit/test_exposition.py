"""Reading single metrics out of Prometheus' text format."""

import math

import pytest

from penstock.kit.errors import InvalidInput
from penstock.kit.exposition import MAX_LINES, lines_of, series_of

TEXT = """# HELP vllm:kv_cache_usage_perc Share in use
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{model_name="a b",engine="0"} 0.25
vllm:kv_cache_usage_perc{model_name="c",engine="1"} NaN
# TYPE requests counter
requests_total{code="200"} 7
# TYPE wait histogram
wait_bucket{le="1"} 1
wait_bucket{le="+Inf"} 2
wait_sum 3
wait_count 2
bare 5
"""


def test_every_series_of_a_name_is_found_with_its_labels() -> None:
    found = series_of(TEXT, "vllm:kv_cache_usage_perc")
    assert [dict(series.labels) for series in found] == [
        {"model_name": "a b", "engine": "0"},
        {"model_name": "c", "engine": "1"},
    ]
    assert found[0].value == 0.25
    assert math.isnan(found[1].value)


@pytest.mark.parametrize(
    ("name", "value"), [("requests_total", 7), ("wait_sum", 3), ("wait_count", 2), ("bare", 5)]
)
def test_a_name_is_that_of_the_line(name: str, value: float) -> None:
    assert [series.value for series in series_of(TEXT, name)] == [value]


def test_part_of_a_name_is_no_name() -> None:
    assert series_of(TEXT, "requests") == ()
    assert series_of(TEXT, "absent") == ()


def test_what_is_no_metrics_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no metrics"):
        series_of('metric{ x="1" y 5', "metric")


@pytest.mark.parametrize(
    "name", ["vllm:kv_cache_usage_perc", "requests_total", "wait_bucket", "bare", "requests", "wait"]
)
def test_a_metrics_own_lines_say_what_the_whole_text_says(name: str) -> None:
    quick, whole = tuple(lines_of(TEXT, name)), series_of(TEXT, name)
    assert [dict(series.labels) for series in quick] == [dict(series.labels) for series in whole]
    assert [f"{one.value:g}" for one in quick] == [f"{one.value:g}" for one in whole]


def test_lines_that_are_none_are_not_a_number_and_there_are_not_endlessly_many() -> None:
    assert [str(one.value) for one in lines_of('a{x="1"\na many\na{x="}"} 3 99\nab 1\na 4', "a")] == [
        "nan",
        "nan",
        "3.0",
        "4.0",
    ]
    assert len(tuple(lines_of("a 1\n" * (MAX_LINES + 9), "a"))) == MAX_LINES
