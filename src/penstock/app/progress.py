"""Progress of a download as lines in a log: at most one a second, and one at the end."""

from __future__ import annotations

import threading
import time

EVERY_S = 1.0
MIB = 1 << 20


class Progress:
    """Counts bytes of several files at once. `total_bytes` is None while a source does not say."""

    def __init__(self, total_bytes: int | None, there_bytes: int = 0) -> None:
        """`there_bytes` are already here from an earlier try."""
        self._total = total_bytes
        self._there = there_bytes
        self._new = 0
        self._started = self._said = time.monotonic()
        self._lock = threading.Lock()

    def add(self, count: int, name: str) -> None:
        """`count` more bytes of file `name` are written."""
        with self._lock:
            self._new += count
            now = time.monotonic()
            if now - self._said >= EVERY_S:
                self._said = now
                print(f"{name}: {self._line(now)}", flush=True)

    def take_back(self, count: int) -> None:
        """Bytes that turned out to be of no use."""
        with self._lock:
            self._new -= count

    def finish(self) -> None:
        """Say how it went."""
        took_s = time.monotonic() - self._started
        rate = self._new / MIB / max(took_s, 1e-3)
        kept = f", {self._there / MIB:.1f} MiB were there already" if self._there else ""
        print(f"fetched {self._new / MIB:.1f} MiB in {took_s:.1f} s ({rate:.1f} MiB/s){kept}", flush=True)

    def _line(self, now: float) -> str:
        rate = self._new / max(now - self._started, 1e-3)
        done = self._there + self._new
        if self._total is None:
            return f"{done / MIB:.1f} MiB, {rate / MIB:.1f} MiB/s"
        left_s = (self._total - done) / rate if rate > 0 else 0.0
        share = 100.0 * done / self._total if self._total else 100.0
        return f"{done / MIB:.1f}/{self._total / MIB:.1f} MiB {share:.0f} %, {rate / MIB:.1f} MiB/s, {left_s:.0f} s left"
