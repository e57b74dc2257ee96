"""The Prometheus text format, as far as reading single metrics goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from penstock.kit.errors import InvalidInput


class Series(NamedTuple):
    """One value of a metric; it may be NaN or infinite, as programs write it."""

    labels: Mapping[str, str]
    value: float


def series_of(text: str, metric: str) -> tuple[Series, ...]:
    """All series of the metric of exactly this name, in the text's order. Raises InvalidInput for what is no such text.

    Source: Prometheus' text exposition format, version 0.0.4.
    """
    if metric not in text:
        return ()
    try:
        return tuple(
            Series(sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == metric
        )
    except (ValueError, KeyError, IndexError) as error:
        raise InvalidInput(
            f"found no metrics in Prometheus' text format: {str(error)[:120]}", code="invalid_metrics"
        ) from None
