"""What a column of `kubectl get` is, and the cells that kinds have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from penstock.host.api.durations import human_duration
from penstock.host.metadata import Document
from penstock.kit.timestamps import parse_rfc3339

Cell = Callable[[Document, float], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """`type` is string, integer or boolean; `cell` is given the object and the time in seconds."""

    name: str
    cell: Cell
    type: str = "string"
    wide: bool = False
    description: str = ""


def path(*parts: str, default: Any = "") -> Cell:
    """A cell that is the value under these keys."""

    def cell(document: Document, now_s: float) -> Any:
        value: Any = document
        for part in parts:
            value = value.get(part) if isinstance(value, dict) else None
        return default if value is None else value

    return cell


def age(*parts: str, default: str = "<unknown>") -> Cell:
    """A cell that says how long ago a timestamp was."""
    read = path(*parts, default=None)

    def cell(document: Document, now_s: float) -> str:
        stamp = read(document, now_s)
        return human_duration(now_s - parse_rfc3339(stamp)) if stamp else default

    return cell


def condition(type: str, field: str = "status") -> Cell:
    """A cell that is a field of the condition of this type."""

    def cell(document: Document, now_s: float) -> Any:
        conditions = (document.get("status") or {}).get("conditions") or ()
        return next((one.get(field, "") for one in conditions if one.get("type") == type), "")

    return cell


def count(*parts: str) -> Column:
    """A column, called by its last key, with the number of entries of a map or list."""
    read = path(*parts, default=())
    return Column(parts[-1].capitalize(), lambda document, now_s: len(read(document, now_s)), "integer")


def pairs(*parts: str) -> Cell:
    """A cell with every entry of a map."""
    read = path(*parts, default={})
    return lambda document, now_s: (
        ",".join(f"{k}={v}" for k, v in sorted(read(document, now_s).items())) or "<none>"
    )


NAME = Column("Name", path("metadata", "name"), description="Name must be unique within a namespace.")
AGE = Column("Age", age("metadata", "creationTimestamp"), description="How long ago the object was created.")
