"""What a gateway has exchanged with others since it began."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Exchanged(NamedTuple):
    """`messages` and `bytes` are by direction, sent or heard; `dropped` by cause. `gateways` are heard now; the last new message came at `heard_at`, Unix time in seconds, 0 if none ever did."""

    messages: Mapping[str, int] = {}
    bytes: Mapping[str, int] = {}
    dropped: Mapping[str, int] = {}
    gateways: int = 0
    heard_at: float = 0.0
