"""Kubernetes quantities: `500m`, `2Gi`, `1e3`, `1.5`. Exact, in decimal arithmetic.

Grammar and canonical form: Kubernetes apimachinery, `resource.Quantity`.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_UP, Decimal
from functools import lru_cache

from penstock.kit.errors import InvalidInput

MAX_DIGITS = 40
MAX_EXPONENT = 30
DECIMAL_SUFFIXES = {
    "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
BINARY_SUFFIXES = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_QUANTITY = re.compile(
    r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]+))?", re.ASCII
)


def parse_quantity(quantity: str | int | float) -> Decimal:
    """The exact value: cores for CPU, bytes for memory, a count otherwise. Raises InvalidInput."""
    value, _ = _parse(quantity)
    return value


def to_cores(quantity: str | int | float) -> float:
    """A CPU quantity in cores: `250m` is 0.25."""
    return float(parse_quantity(quantity))


def to_bytes(quantity: str | int | float) -> int:
    """A size in bytes, rounded up to whole bytes: `1Ki` is 1024."""
    return int(parse_quantity(quantity).to_integral_value(ROUND_CEILING))


def format_quantity(value: Decimal | int, *, binary: bool = False) -> str:
    """The canonical form: the largest suffix that leaves an integer. `binary` prefers Ki, Mi, … from 1024 on.

    Finer than a billionth is rounded away from zero, as Kubernetes does.
    """
    number = Decimal(value).quantize(Decimal("1e-9"), ROUND_UP)
    if binary and abs(number) >= 1024 and number == number.to_integral_value():
        whole = int(number)
        for suffix, bits in reversed(BINARY_SUFFIXES.items()):
            if whole % (1 << bits) == 0:
                return f"{whole >> bits}{suffix}"
        return str(whole)
    for suffix, exponent in reversed(DECIMAL_SUFFIXES.items()):
        scaled = number.scaleb(-exponent)
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}{suffix}" if scaled else "0"
    raise AssertionError("every quantity is a whole number of billionths")


def canonical(quantity: str | int | float) -> str:
    """The quantity as Kubernetes would write it back: `1024Mi` is `1Gi`, `0.5` is `500m`, `1000m` is `1`."""
    value, form = _parse(quantity)
    if form != "exponent":
        return format_quantity(value, binary=form == "binary")
    number = value.normalize()
    exponent = int(number.as_tuple().exponent) // 3 * 3
    return f"{int(number.scaleb(-exponent))}e{exponent}" if exponent else str(int(number))


def _parse(quantity: str | int | float) -> tuple[Decimal, str]:
    """The value, and the form it was written in: "binary", "decimal" or "exponent"."""
    if isinstance(quantity, int):
        return Decimal(quantity), "decimal"
    return _parse_text(repr(quantity) if isinstance(quantity, float) else quantity)


@lru_cache(maxsize=4096)
def _parse_text(text: str) -> tuple[Decimal, str]:
    match = _QUANTITY.fullmatch(text) if len(text) <= MAX_DIGITS else None
    if match is None:
        raise _bad(text)
    sign, digits, suffix, exponent = match.groups()
    number = Decimal(sign + digits)
    if exponent is not None:
        if abs(int(exponent)) > MAX_EXPONENT:
            raise _bad(text)
        return number.scaleb(int(exponent)), "exponent"
    if suffix in BINARY_SUFFIXES:
        return number * (1 << BINARY_SUFFIXES[suffix]), "binary"
    return number.scaleb(DECIMAL_SUFFIXES[suffix or ""]), "decimal"


def _bad(text: str) -> InvalidInput:
    return InvalidInput(
        f"found {text[:MAX_DIGITS]!r}, expected a quantity such as '500m', '2' or '4Gi'",
        code="invalid_quantity",
        hint="a number, then one of n u m k M G T P E (powers of 1000) or Ki Mi Gi Ti Pi Ei (powers of 1024)",
    )
