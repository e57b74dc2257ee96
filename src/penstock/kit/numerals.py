"""Numbers as Go reads them (strconv): what Kubernetes and Knative take in annotations, and no more than that.

Python's own readers take spaces, underscores and digits of other scripts, which would be refused on a cluster.
"""

from __future__ import annotations

import re
from math import isfinite

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?")


def parse_integer(text: str) -> int | None:
    """A decimal integer; None for everything else."""
    return int(text) if _INTEGER.fullmatch(text) else None


def parse_number(text: str) -> float | None:
    """A finite decimal number; None for everything else, not-a-number and infinity included."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if isfinite(value) else None


def shown(value: float) -> str:
    """As Go prints a number: no fraction where there is none."""
    return str(int(value)) if value == int(value) else repr(value)
