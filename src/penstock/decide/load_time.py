"""How long would each node take until this pod's weights are loaded?

What is missing comes at the rate at which that node's downloads have come, from another node where one has the model; what is on its disk at
the rate at which the disk was seen to read; what is in memory takes no time (as in ServerlessLLM). A rate that was not measured on a node is as
on the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

from msgspec import Struct

from penstock.decide.eviction import TYPICAL_BYTES_PER_S

TYPICAL_PEER_BYTES_PER_S = 500e6
TYPICAL_READ_BYTES_PER_S = 1e9
"""A plain NVMe disk, read by one engine; measured ones go before."""
SHORT_S = 0.5


class Copy(Struct, frozen=True):
    """What one node has of one model: bytes on its disk, and how many of those are in memory as well."""

    there_bytes: int = 0
    resident_bytes: int = 0


class Rates(Struct, frozen=True, kw_only=True):
    """Bytes per second on one node, None where nothing was measured: of downloads from sources, of those from other nodes, of its disk."""

    source: float | None = None
    peer: float | None = None
    read: float | None = None


class Loading(Struct, frozen=True):
    """`bring_s` until all bytes are on the node, then `read_s` until they are in memory."""

    bring_s: float
    read_s: float

    @property
    def total_s(self) -> float:
        """Of both."""
        return self.bring_s + self.read_s

    @property
    def told(self) -> str:
        """In words."""
        if self.bring_s:
            return f"{_rounded(self.total_s)} s to bring and load its weights"
        if self.read_s < SHORT_S:
            return "its weights are there, in memory"
        return f"its weights are there, {_rounded(self.read_s)} s to load"


Copies = Mapping[str, Copy]
"""What one node has, by model."""


def load_times(
    sizes: Mapping[str, int | None], held: Mapping[str, Copies], rates: Mapping[str, Rates]
) -> dict[str, Loading]:
    """By node. `sizes` are those of the pod's models (bytes), `held` what the nodes have of them. Nothing if a size is not known."""
    known = {model: size for model, size in sizes.items() if size is not None}
    if not known or len(known) < len(sizes):
        return {}
    usual = Rates(
        source=_usual((one.source for one in rates.values()), TYPICAL_BYTES_PER_S),
        peer=_usual((one.peer for one in rates.values()), TYPICAL_PEER_BYTES_PER_S),
        read=_usual((one.read for one in rates.values()), TYPICAL_READ_BYTES_PER_S),
    )
    whole = {model for model, size in known.items() if any(_has(held[node], model, size) for node in held)}
    return {
        node: _loading(known, copies, rates.get(node, Rates()), usual, whole) for node, copies in held.items()
    }


def differs(times: Mapping[str, Loading]) -> bool:
    """Whether it matters where the pod goes."""
    return len({round(one.total_s, 1) for one in times.values()}) > 1


def _loading(sizes: Mapping[str, int], copies: Copies, own: Rates, usual: Rates, whole: set[str]) -> Loading:
    """What has just been written is in memory still: it is not read again."""
    source, peer, read = own.source or usual.source, own.peer or usual.peer, own.read or usual.read
    assert source and peer and read, "what is usual is known of all"
    bring_s = read_s = 0.0
    for model, size in sizes.items():
        copy = copies.get(model, Copy())
        missing = max(0, size - copy.there_bytes)
        bring_s += missing / (peer if model in whole else source)
        read_s += max(0, copy.there_bytes - copy.resident_bytes) / read
    return Loading(bring_s, read_s)


def _has(copies: Copies, model: str, size: int) -> bool:
    return copies.get(model, Copy()).there_bytes >= size


def _usual(measured: Iterable[float | None], typical: float) -> float:
    known = [one for one in measured if one]
    return median(known) if known else typical


def _rounded(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 1 else f"{seconds:.1f}"
