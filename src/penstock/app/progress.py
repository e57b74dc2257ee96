"""Progress of a download, told to whoever wants to hear: at most once a second, and lines for a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

EVERY_S = 1.0
MIB = 1 << 20


class Moment(NamedTuple):
    """How far it is. `total_bytes` and `eta_s` are None while the source does not say how much there is."""

    done_bytes: int
    total_bytes: int | None
    rate_bytes_per_s: float
    eta_s: float | None


def unheard(moment: Moment) -> None:
    """Nobody wants to know."""


class Meter:
    """Counts bytes of several files at once. `total_bytes` is None while a source does not say."""

    def __init__(self, total_bytes: int | None, hear: Callable[[Moment], None] = unheard) -> None:
        self._total = total_bytes
        self._hear = hear
        self._there = 0
        self._new = 0
        self._started = self._said = time.monotonic()
        self._lock = threading.Lock()

    @property
    def new_bytes(self) -> int:
        """What has arrived in this try."""
        return self._new

    def there(self, count: int) -> None:
        """`count` bytes are here from an earlier try, or from another model."""
        with self._lock:
            self._there += count

    def add(self, count: int, name: str) -> None:
        """`count` more bytes of file `name` are written."""
        with self._lock:
            self._new += count
            now = time.monotonic()
            if now - self._said < EVERY_S:
                return
            self._said = now
            moment = self._moment(now)
        self._hear(moment)
        print(f"{name}: {_line(moment)}", flush=True)

    def take_back(self, count: int) -> None:
        """Bytes that turned out to be of no use."""
        with self._lock:
            self._new -= count

    def finish(self) -> None:
        """Say how it went."""
        took_s = time.monotonic() - self._started
        rate = self._new / MIB / max(took_s, 1e-3)
        kept = f", {self._there / MIB:.1f} MiB were there already" if self._there else ""
        self._hear(self._moment(time.monotonic()))
        print(f"fetched {self._new / MIB:.1f} MiB in {took_s:.1f} s ({rate:.1f} MiB/s){kept}", flush=True)

    def _moment(self, now: float) -> Moment:
        rate = self._new / max(now - self._started, 1e-3)
        done = self._there + self._new
        left_s = (self._total - done) / rate if self._total is not None and rate > 0 else None
        return Moment(done, self._total, rate, left_s)


def _line(moment: Moment) -> str:
    rate = f"{moment.rate_bytes_per_s / MIB:.1f} MiB/s"
    if moment.total_bytes is None:
        return f"{moment.done_bytes / MIB:.1f} MiB, {rate}"
    share = 100.0 * moment.done_bytes / moment.total_bytes if moment.total_bytes else 100.0
    left = f"{moment.done_bytes / MIB:.1f}/{moment.total_bytes / MIB:.1f} MiB {share:.0f} %"
    return f"{left}, {rate}, {moment.eta_s or 0:.0f} s left"
