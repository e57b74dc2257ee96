"""Label and field selectors over stored documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.resources.selectors import FieldTerm, LabelTerm, matches, parse_fields, parse_labels


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list or watch is narrowed to; false when it is everything."""

    labels: tuple[LabelTerm, ...] = ()
    fields: tuple[FieldTerm, ...] = ()

    @classmethod
    def parse(cls, labels: str, fields: str) -> Selection:
        """From kubectl's notation: `app=x,!old` and `metadata.name=x`. Raises InvalidInput."""
        return cls(parse_labels(labels), parse_fields(fields))

    def __bool__(self) -> bool:
        return bool(self.labels or self.fields)

    def matches(self, document: Mapping[str, Any]) -> bool:
        """Whether the document has these labels and field values; an absent field counts as empty."""
        labels = document["metadata"].get("labels") or {}
        return matches(self.labels, labels) and all(
            (_field(document, path) == value) == (operator == "=") for path, operator, value in self.fields
        )


def _field(document: Mapping[str, Any], path: str) -> str:
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
