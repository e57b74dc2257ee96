"""A row of a declared file, as a struct; what is wrong with it is said by its place."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from penstock.kit.errors import InvalidInput, refuse_unknown

T = TypeVar("T", bound=Struct)


def declared_row(row: Any, of: type[T], where: str, *, code: str) -> T:
    """Raises InvalidInput: no mapping, a field that is none, or with `code` one of another type."""
    if not isinstance(row, dict):
        raise InvalidInput(f"{where}: found {row!r}, expected a mapping")
    refuse_unknown(row, of.__struct_encode_fields__, where)
    try:
        return msgspec.convert(row, of)
    except msgspec.ValidationError as error:
        expected, _, path = str(error).partition(" - at `$")
        raise InvalidInput(
            f"{where}{path.rstrip('`')}: {expected[:1].lower()}{expected[1:]}", code=code
        ) from None
