"""The Prometheus text format, as far as reading single metrics goes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
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


MAX_LINE = 8192
MAX_LINES = 1024
"""Of one metric that are read, whether they are of exactly its name or not."""
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\.)*"'
_REST = re.compile(rf"(?:\{{((?:{_LABEL},?\s?)*)\}})?[ \t]+(\S+)")
_PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\.)*)"')


def lines_of(text: str, metric: str) -> Iterator[Series]:
    """As `series_of`, but it reads the metric's own lines alone: for texts that are read often. Lines that are none are NaN.

    At most `MAX_LINES` lines of at most 8 KiB.
    """
    at = 0 if text.startswith(metric) else text.find("\n" + metric) + 1
    for _ in range(MAX_LINES):
        if not at and not text.startswith(metric):
            return
        start = at + len(metric)
        if text[start : start + 1] in ("{", " ", "\t"):
            end = text.find("\n", start, start + MAX_LINE)
            yield _series(text[start : end if end >= 0 else start + MAX_LINE])
        at = text.find("\n" + metric, start) + 1
        if not at:
            return


def _series(rest: str) -> Series:
    found = _REST.match(rest)
    if found is None:
        return Series({}, math.nan)
    labels = {name: value.replace('\\"', '"') for name, value in _PAIR.findall(found[1] or "")}
    try:
        return Series(labels, float(found[2]))
    except ValueError:
        return Series(labels, math.nan)
