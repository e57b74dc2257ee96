"""Which part of a file is in the machine's memory, and asking the system to bring it there or to let it go (Linux)."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys

STEP_BYTES = 256 << 20
"""How much of a file is looked at in one go."""
AHEAD_BYTES = 1 << 20
"""Linux reads ahead no more than a few megabytes at a word, however much is asked for."""
_LOWEST_BITS = bytes(state & 1 for state in range(256))
_NOT_MAPPED = ctypes.c_void_p(-1).value


def resident_share(fd: int) -> float | None:
    """Of the file's bytes, from 0 to 1; None where the system does not tell. Reads nothing: mincore(2) looks at tables only."""
    size = os.fstat(fd).st_size
    if not size:
        return 1.0
    if sys.platform != "linux":
        return None
    held = pages = 0
    for start in range(0, size, STEP_BYTES):
        states = _states(fd, start, min(STEP_BYTES, size - start))
        if states is None:
            return None
        held += states.translate(_LOWEST_BITS).count(1)
        pages += len(states)
    return held / pages


def _states(fd: int, start: int, length: int) -> bytes | None:
    """One byte per page, whose lowest bit says that it is in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    address = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, fd, start)
    if address == _NOT_MAPPED:
        return None
    try:
        states = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
        return states.raw if libc.mincore(address, length, states) == 0 else None
    finally:
        libc.munmap(address, length)


def bring(fd: int) -> None:
    """Have the whole file read into memory in the background, as far as there is room."""
    if hasattr(os, "posix_fadvise"):
        for start in range(0, os.fstat(fd).st_size, AHEAD_BYTES):
            os.posix_fadvise(fd, start, AHEAD_BYTES, os.POSIX_FADV_WILLNEED)


def let_go(fd: int) -> None:
    """What is in memory of the file may go at once."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
