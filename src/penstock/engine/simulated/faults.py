"""Faults that a simulated engine has on purpose: `NAME[=VALUE][:SHARE]`, by option for a share of requests, or by header for one."""

from __future__ import annotations

from difflib import get_close_matches

from msgspec import Struct

from penstock.kit.errors import InvalidInput

FAULTS = {
    "refuse": "answers 503",
    "error": "answers 500",
    "delay": "waits VALUE seconds before it begins",
    "hang": "never answers",
    "cut": "cuts the connection after VALUE events of a stream, or in place of a whole answer",
    "forget": "empties the prefix cache first",
    "drop-events": "the next VALUE batches of KV events are not sent",
}


class Fault(Struct, frozen=True):
    """`share` of the requests, 0 to 1, have it."""

    name: str
    value: float = 0.0
    share: float = 1.0


def read_fault(text: str, field: str) -> Fault:
    """Raises InvalidInput that names `field`."""
    what, _, share = text.strip().partition(":")
    name, _, value = what.partition("=")
    if name not in FAULTS:
        near = get_close_matches(name, FAULTS, 1, 0.3)
        raise InvalidInput(
            f"{field}: found {name!r}, expected one of {', '.join(FAULTS)}",
            code="unknown_fault",
            hint=f"did you mean {near[0]}?" if near else "",
        )
    return Fault(name, _number(value or "0", field, float("inf")), _number(share or "1", field, 1.0))


def _number(text: str, field: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= most:
        raise InvalidInput(f"{field}: found {text!r}, expected a number from 0 to {most:g}")
    return number
