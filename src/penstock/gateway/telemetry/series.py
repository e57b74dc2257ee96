"""Counters and histograms whose rows are plain lists: who counts often keeps the row and adds to it in place.

Text is made only when somebody asks for it, from snapshots, so that several workers can be added up first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from operator import add
from typing import Literal

from msgspec import Struct

Labels = tuple[str, ...]
Kind = Literal["counter", "gauge", "gauge_min", "histogram"]
Exemplar = tuple[str, float, float]
"""Trace id, value, Unix time in seconds."""

OTHER = "other"
MAX_ROWS = 10_000
"""Label sets of one family; what comes further is counted in one row whose labels all say `other`."""


class Family(Struct, frozen=True, array_like=True):
    """One family of series at one moment. A histogram's row holds a count for each bucket, one for +Inf, and the sum."""

    name: str
    help: str
    kind: Kind
    labels: Labels
    buckets: tuple[float, ...] = ()
    rows: tuple[tuple[Labels, list[float]], ...] = ()
    exemplars: tuple[tuple[Labels, int, Exemplar], ...] = ()


class Counter:
    """Counts by label values."""

    def __init__(self, name: str, help: str, labels: Labels, *, max_rows: int = MAX_ROWS) -> None:
        """`name` ends in `_total`."""
        self.name, self.help, self.labels = name, help, labels
        self._rows: dict[Labels, list[float]] = {}
        self._max_rows = max_rows

    def row(self, *labels: str) -> list[float]:
        """The row of these label values, to add to its only number."""
        row = self._rows.get(labels)
        return row if row is not None else _new_row(self._rows, labels, 1, self._max_rows)

    def add(self, *labels: str, by: float = 1.0) -> None:
        """One more, or `by` more."""
        self.row(*labels)[0] += by

    def family(self, further: Mapping[Labels, float] | None = None) -> Family:
        """All rows as they are now; `further` are counts that others keep."""
        rows = {labels: list(row) for labels, row in self._rows.items()}
        for labels, value in (further or {}).items():
            rows.setdefault(labels, [0.0])[0] += value
        return Family(self.name, self.help, "counter", self.labels, (), tuple(rows.items()))


class Histogram:
    """Measurements by label values."""

    def __init__(
        self, name: str, help: str, labels: Labels, buckets: tuple[float, ...], *, max_rows: int = MAX_ROWS
    ) -> None:
        """`buckets` are upper bounds, growing, without +Inf."""
        self.name, self.help, self.labels, self.buckets = name, help, labels, buckets
        self._rows: dict[Labels, list[float]] = {}
        self._exemplars: dict[tuple[Labels, int], Exemplar] = {}
        self._max_rows = max_rows

    def row(self, *labels: str) -> list[float]:
        """The row of these label values; `row[bisect_left(buckets, x)] += 1; row[-1] += x` is one measurement."""
        row = self._rows.get(labels)
        return row if row is not None else _new_row(self._rows, labels, len(self.buckets) + 2, self._max_rows)

    def observe(self, value: float, *labels: str) -> None:
        """One measurement."""
        row = self.row(*labels)
        row[bisect_left(self.buckets, value)] += 1
        row[-1] += value

    def exemplify(self, labels: Labels, exemplar: Exemplar) -> None:
        """Remember the last traced measurement of its bucket."""
        if labels in self._rows:
            self._exemplars[labels, bisect_left(self.buckets, exemplar[1])] = exemplar

    def family(self) -> Family:
        """All rows as they are now."""
        return Family(
            self.name,
            self.help,
            "histogram",
            self.labels,
            self.buckets,
            tuple((labels, list(row)) for labels, row in self._rows.items()),
            tuple((labels, bucket, found) for (labels, bucket), found in self._exemplars.items()),
        )


def gauge(
    name: str, help: str, labels: Labels, values: Iterable[tuple[Labels, float]], *, kind: Kind = "gauge"
) -> Family:
    """What is read at the moment of asking. Over workers a `gauge` is added up, of a `gauge_min` the least counts."""
    return Family(name, help, kind, labels, (), tuple((key, [float(value)]) for key, value in values))


def merge(snapshots: Iterable[Iterable[Family]]) -> list[Family]:
    """The families of several workers added up; the newest exemplar of a bucket is kept.

    Raises ValueError where one name comes with two layouts: workers of different releases cannot be added up.
    """
    first: dict[str, Family] = {}
    rows: dict[str, dict[Labels, list[float]]] = {}
    exemplars: dict[str, dict[tuple[Labels, int], Exemplar]] = {}
    for family in (family for snapshot in snapshots for family in snapshot):
        name = family.name
        present = first.setdefault(name, family)
        if (present.kind, present.labels, present.buckets) != (family.kind, family.labels, family.buckets):
            raise ValueError(f"{name} has another layout in another worker")
        _add_rows(rows.setdefault(name, {}), family)
        newest = exemplars.setdefault(name, {})
        for labels, bucket, found in family.exemplars:
            if (labels, bucket) not in newest or found[2] > newest[labels, bucket][2]:
                newest[labels, bucket] = found
    return [
        Family(
            name, family.help, family.kind, family.labels, family.buckets, tuple(rows[name].items()),
            tuple((labels, bucket, found) for (labels, bucket), found in exemplars[name].items()),
        )
        for name, family in first.items()
    ]  # fmt: skip


def _add_rows(rows: dict[Labels, list[float]], family: Family) -> None:
    for labels, row in family.rows:
        mine = rows.get(labels)
        if mine is None:
            rows[labels] = list(row)
        elif family.kind == "histogram":
            rows[labels] = list(map(add, mine, row))
        elif family.kind == "gauge_min":
            mine[0] = min(mine[0], row[0])
        else:
            mine[0] += row[0]


def text(families: Iterable[Family], *, openmetrics: bool = False) -> str:
    """Prometheus' text format 0.0.4, or OpenMetrics 1.0, which carries exemplars too."""
    lines: list[str] = []
    for family in families:
        lines.extend(_lines(family, openmetrics=openmetrics))
    if openmetrics:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _lines(family: Family, *, openmetrics: bool) -> Iterator[str]:
    name = family.name.removesuffix("_total") if openmetrics and family.kind == "counter" else family.name
    yield f"# HELP {name} {_escaped(family.help)}"
    yield f"# TYPE {name} {'gauge' if family.kind == 'gauge_min' else family.kind}"
    if family.kind != "histogram":
        for labels, row in sorted(family.rows):
            yield f"{family.name}{_braces(family.labels, labels)} {_number(row[0])}"
        return
    exemplars = {(labels, bucket): found for labels, bucket, found in family.exemplars} if openmetrics else {}
    bounds = [f'le="{bound!r}"' for bound in family.buckets] + ['le="+Inf"']
    for labels, row in sorted(family.rows):
        own = _pairs(family.labels, labels)
        start, total = f"{name}_bucket{{{own}," if own else f"{name}_bucket{{", 0.0
        for place, (bound, count) in enumerate(zip(bounds, row, strict=False)):
            total += count
            found = exemplars.get((labels, place))
            shown = f' # {{trace_id="{found[0]}"}} {_number(found[1])} {found[2]:.3f}' if found else ""
            yield f"{start}{bound}}} {int(total)}{shown}"
        braces = f"{{{own}}}" if own else ""
        yield f"{name}_sum{braces} {_number(row[-1])}"
        yield f"{name}_count{braces} {int(total)}"


def _new_row(rows: dict[Labels, list[float]], labels: Labels, size: int, max_rows: int) -> list[float]:
    if len(rows) >= max_rows:
        labels = (OTHER,) * len(labels)
    return rows.setdefault(labels, [0.0] * size)


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _braces(names: Labels, values: Labels) -> str:
    pairs = _pairs(names, values)
    return f"{{{pairs}}}" if pairs else ""


def _pairs(names: Labels, values: Labels) -> str:
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)])


def _escaped(value: str) -> str:
    if value.isalnum():
        return value
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
