"""How fast a disk reads, seen by reading a little of a file past the memory that would answer in its place (Linux, O_DIRECT)."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

SAMPLE_BYTES = 64 << 20
STEP_BYTES = 4 << 20
LEAST_BYTES = 4 << 20


def read_rate(path: Path) -> float | None:
    """Bytes per second over the file's first SAMPLE_BYTES; None for a small file, and where the file system does not read so."""
    if not hasattr(os, "O_DIRECT"):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        length = min(SAMPLE_BYTES, os.fstat(descriptor).st_size // STEP_BYTES * STEP_BYTES)
        if length < LEAST_BYTES:
            return None
        with mmap.mmap(-1, STEP_BYTES) as aligned:
            began = time.perf_counter()
            for start in range(0, length, STEP_BYTES):
                if os.preadv(descriptor, [aligned], start) < STEP_BYTES:
                    return None
            took_s = time.perf_counter() - began
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return length / took_s if took_s > 0 else None
