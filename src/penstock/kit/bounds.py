"""Bounds on data from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.kit.errors import InvalidInput

MAX_DEPTH = 100
_SCALARS = (str, int, float, bool, type(None))
"""Set aside first: they are most of a document, and asking whether something is a Mapping is slow."""
_OBJECTS = (dict, Mapping)
_NESTING = (dict, list, tuple, Mapping)


def check_depth(value: Any, what: str) -> None:
    """Raises InvalidInput if lists and objects are nested deeper than MAX_DEPTH; `what` names the value in the message."""
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise InvalidInput(f"{what} is nested deeper than {MAX_DEPTH} levels", code="too_deep")
        level = [
            inner
            for item in level
            if type(item) not in _SCALARS and isinstance(item, _NESTING)
            for inner in (item.values() if isinstance(item, _OBJECTS) else item)
        ]
        depth += 1
