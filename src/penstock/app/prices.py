"""What instances and GPUs cost: `penstock/prices/*.yaml`, and before them `prices.yaml` in the data folder."""

from __future__ import annotations

import datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from penstock.app.declared_rows import declared_row
from penstock.app.gpu_types import find_gpu_type
from penstock.decide.prices import MICROS, Price
from penstock.kit.errors import InvalidInput, refuse_unknown

MAX_BYTES = 1 << 20
MAX_USD = 100_000
"""Dearer than any instance: a figure above is taken for one in another unit."""


class _Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    provider: str = ""
    instance: str = ""
    gpu: str = ""
    count: int = 1
    usd_per_hour: float | str
    spot_usd_per_hour: float | str | None = None
    date: datetime.date
    source: str


def load_prices(own: Path) -> tuple[Price, ...]:
    """All rows. What the file `own` says of a GPU or an instance of a provider replaces what is shipped; it need not be there.

    Raises InvalidInput, which names file, row and field, for a file that is not understood.
    """
    folder = files("penstock") / "prices"
    shipped = [
        price
        for file in sorted(folder.iterdir(), key=lambda f: f.name)
        if file.name.endswith(".yaml")
        for price in parse_prices(file.read_text(), file.name)
    ]
    mine = parse_prices(_text(own), str(own))
    said = {(row.provider, name) for row in mine for name in (row.gpu, row.instance) if name}
    kept = (
        row for row in shipped if said.isdisjoint({(row.provider, row.gpu), (row.provider, row.instance)})
    )
    return (*mine, *kept)


def parse_prices(text: str, origin: str) -> tuple[Price, ...]:
    """The rows of one file. Raises InvalidInput as `load_prices`; `origin` is what the message calls the file."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInput(f"{origin}: is not YAML: {error}") from None
    if document is None:
        return ()
    if not isinstance(document, dict) or not isinstance(document.get("prices"), list):
        raise InvalidInput(f"{origin}: prices: found no list", hint="see docs/howto/prices-and-node-pools.md")
    refuse_unknown(document, ("prices",), origin)
    found = tuple(_price(row, f"{origin}: prices[{i}]") for i, row in enumerate(document["prices"]))
    seen: dict[tuple[str, str, str, int], int] = {}
    for i, one in enumerate(found):
        first = seen.setdefault((one.provider, one.instance, one.gpu, one.count), i)
        if first != i:
            raise InvalidInput(
                f"{origin}: prices[{i}]: found the same provider, instance, gpu and count as in prices[{first}]"
            )
    return found


def _price(row: Any, where: str) -> Price:
    one = declared_row(row, _Row, where, code="bad_price")
    if not (one.gpu or one.instance):
        raise InvalidInput(f"{where}: found neither gpu nor instance, expected one of them", code="bad_price")
    if one.count < 1:
        raise InvalidInput(f"{where}.count: found {one.count}, expected 1 or more", code="bad_price")
    spot = one.spot_usd_per_hour
    return Price(
        provider=one.provider,
        instance=one.instance,
        gpu=find_gpu_type(one.gpu, field=f"{where}.gpu").name if one.gpu else "",
        count=one.count,
        usd_micros=_micros(one.usd_per_hour, f"{where}.usdPerHour"),
        spot_usd_micros=None if spot is None else _micros(spot, f"{where}.spotUsdPerHour"),
        date=one.date.isoformat(),
        source=one.source,
    )


def _micros(amount: float | str, where: str) -> int:
    """Exactly what is written there: 2.95 is 2950000."""
    try:
        micros = Decimal(str(amount)) * MICROS
    except ArithmeticError:
        micros = Decimal(-1)
    if not (micros.is_finite() and 0 < micros <= MAX_USD * MICROS and micros == int(micros)):
        raise InvalidInput(
            f"{where}: found {amount!r}, expected US dollars above 0 and up to {MAX_USD}, with at most six decimals",
            code="bad_price",
            hint="leave the row out where the price is not known",
        )
    return int(micros)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInput(f"{path}: found {path.stat().st_size} bytes, expected at most {MAX_BYTES}")
        return path.read_text()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read: {error}") from None
