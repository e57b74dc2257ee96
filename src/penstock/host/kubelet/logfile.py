"""Reading the files that a shim writes: one attempt's log, oldest line first, across rotation.

Line format: `RFC3339Nano stream F|P text`; P marks a piece of a line that goes on in the next one.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from penstock.host.kubelet.shim import KEPT_LOGS

CHUNK_BYTES = 65536


class LogReader:
    """One attempt's log, read in chunks of whole raw lines; usable while it is written and rotated."""

    def __init__(self, path: Path, tail_lines: int | None = None) -> None:
        """`path` is the newest file. `tail_lines`: begin so many lines before the end."""
        self._path = path
        self._files = _open_all(path)
        self._rest = b""
        if tail_lines is not None:
            self._seek_tail(tail_lines)

    def read(self) -> bytes:
        """The next whole lines, or b"" if there are none now."""
        while self._files or self._reopen():
            if len(self._files) == 1:
                self._files += (
                    self._successors()
                )  # asked before the read, so that nothing written before is missed
            data = self._files[0].read(CHUNK_BYTES)
            if data:
                whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
                if newline:
                    return whole + newline
            elif len(self._files) == 1:
                return b""
            else:
                self._files.pop(0).close()
        return b""

    def close(self) -> None:
        """Give the files back."""
        while self._files:
            self._files.pop().close()

    def _reopen(self) -> bool:
        self._files = _open_all(self._path)
        return bool(self._files)

    def _successors(self) -> list[BinaryIO]:
        """The files that came after the current one, oldest first; all there are if it was rotated away."""
        own = os.fstat(self._files[0].fileno()).st_ino
        if _inode(self._path) in {own, None}:
            return []
        every = _open_all(self._path)
        inodes = [os.fstat(file.fileno()).st_ino for file in every]
        known = inodes.index(own) + 1 if own in inodes else 0
        for file in every[:known]:
            file.close()
        return every[known:]

    def _seek_tail(self, lines: int) -> None:
        for index in range(len(self._files) - 1, -1, -1):
            offset, found = _tail_offset(self._files[index], lines)
            self._files[index].seek(offset)
            lines -= found
            if lines <= 0:
                for skipped in self._files[:index]:
                    skipped.close()
                del self._files[:index]
                return


@dataclass(slots=True)
class Format:
    """Turns raw lines into what a reader sees; remembers whether the last piece left its line open."""

    timestamps: bool = False
    since: float | None = None
    _open: dict[bytes, bool] = field(default_factory=dict)

    def text(self, raw: bytes) -> bytes:
        """The text of these raw lines, without those older than `since` (Unix seconds, compared by whole seconds)."""
        oldest = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.since)).encode() if self.since else b""
        out = []
        for line in raw[:-1].split(b"\n"):
            parts = line.split(b" ", 3)
            if len(parts) < 4 or parts[0] < oldest:
                continue
            stamp, stream, tag, text = parts
            if self.timestamps and not self._open.get(stream):
                out.append(stamp + b" ")
            self._open[stream] = tag == b"P"
            out.append(text if tag == b"P" else text + b"\n")
        return b"".join(out)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except OSError:
        return None


def _open_all(path: Path) -> list[BinaryIO]:
    """Oldest first. Opened newest first and told apart by inode, so that a rotation meanwhile loses nothing."""
    files: dict[int, BinaryIO] = {}
    for name in (path, *(path.with_name(f"{path.name}.{number}") for number in range(1, KEPT_LOGS))):
        file = _open(name)
        if file is None:
            continue
        inode = os.fstat(file.fileno()).st_ino
        if inode in files:
            file.close()
        else:
            files[inode] = file
    return list(reversed(files.values()))


def _tail_offset(file: BinaryIO, lines: int) -> tuple[int, int]:
    """(offset at which the last `lines` lines begin, how many lines lie behind it), reading from the end."""
    end = file.seek(0, os.SEEK_END)
    found = 0
    while end > 0:
        start = max(0, end - CHUNK_BYTES)
        file.seek(start)
        block = file.read(end - start)
        position = len(block)
        while (position := block.rfind(b"\n", 0, position)) >= 0:
            if found == lines:
                return start + position + 1, found
            found += 1
        end = start
    return 0, found
