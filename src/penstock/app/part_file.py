"""A large file that arrives in parts, in any order: preallocated, with a journal of the parts that are here.

The journal is what a killed process leaves to the next: a line per part that is complete, with its checksum, by which parts that a
crash of the machine took back are noticed. The digest of the whole is computed behind the first gap while the rest is on its way.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import xxhash
from blake3 import blake3

from penstock.host.model_store import JOURNAL, Algorithm

PART_BYTES = 8 << 20
"""What object stores recommend for ranges, and what a stream that is killed may have to fetch twice."""
RUN_PARTS = 8
"""Asked for at once: each request costs the way there and back, and a thousandth of a second here."""
READ_BYTES = 1 << 18


class PartFile:
    """Threads claim parts, write them and say that they are finished. Used as a context manager, by one process at a time."""

    def __init__(self, path: Path, size_bytes: int, algorithm: Algorithm) -> None:
        """Goes on where the journal beside `path` ends. Raises OSError: no room for all of it."""
        self._size = size_bytes
        self._journal_path = path.with_suffix(JOURNAL)
        self._count = -(-size_bytes // PART_BYTES)
        self._changed = threading.Condition()
        self._ended = False
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._done = self._kept() if os.fstat(self._file).st_size == size_bytes else set()
            if not self._done:
                self._journal_path.unlink(missing_ok=True)
                os.ftruncate(self._file, 0)
                _allocate(self._file, size_bytes)
            self._journal = os.open(
                self._journal_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
        except BaseException:
            os.close(self._file)
            raise
        self._open = [index for index in range(self._count) if index not in self._done]
        self._hash = blake3() if algorithm == "blake3" else hashlib.sha256()
        self._hasher = threading.Thread(target=self._follow, name="digest", daemon=True)
        self._hasher.start()

    def __enter__(self) -> PartFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._hasher.join()
        os.close(self._journal)
        os.close(self._file)

    @property
    def there_bytes(self) -> int:
        """What has arrived in finished parts."""
        return sum(self._length(index) for index in self._done)

    def claim(self, share: int) -> Run | None:
        """Parts in a row that nobody has; None when all are taken. The first come first, so that the digest can follow.

        It is one `share`th of what is left, so that those who share it are done at about the same time, and RUN_PARTS at most.
        """
        with self._changed:
            most = min(len(self._open), RUN_PARTS, max(1, len(self._open) // share))
            count = 0
            while count < most and self._open[count] == self._open[0] + count:
                count += 1
            taken, self._open = self._open[:count], self._open[count:]
        return Run(self, taken) if taken else None

    def give_back(self, indices: Iterable[int]) -> None:
        """They did not arrive."""
        with self._changed:
            self._open = sorted({*self._open, *indices})

    def bounds(self, index: int) -> tuple[int, int]:
        """The first byte of a part, and the one after its last."""
        start = index * PART_BYTES
        return start, start + self._length(index)

    def write(self, offset: int, view: memoryview) -> None:
        """Put a piece where it belongs."""
        while view:
            written = os.pwrite(self._file, view, offset)
            view, offset = view[written:], offset + written

    def finish(self, index: int, checksum: str) -> None:
        """All of the part is written; `checksum` is its xxh3."""
        os.write(self._journal, f"{index} {checksum}\n".encode())
        with self._changed:
            self._done.add(index)
            self._changed.notify_all()

    def digest(self) -> str:
        """Of the whole file, once every part is finished."""
        self._hasher.join()
        return self._hash.hexdigest()

    def _kept(self) -> set[int]:
        kept = set()
        with contextlib.suppress(FileNotFoundError):
            for line in self._journal_path.read_text(errors="replace").splitlines():
                number, _, checksum = line.partition(" ")
                index = int(number) if number.isdecimal() else self._count
                if index < self._count and self._checksum(index) == checksum:
                    kept.add(index)
        return kept

    def _follow(self) -> None:
        """Take the parts into the digest, in order."""
        memory = memoryview(bytearray(READ_BYTES))
        for index in range(self._count):
            with self._changed:
                self._changed.wait_for(lambda here=index: here in self._done or self._ended)  # type: ignore[misc]
                if index not in self._done:
                    return
            for piece in self._pieces(index, memory):
                self._hash.update(piece)

    def _checksum(self, index: int) -> str:
        found = xxhash.xxh3_128()
        for piece in self._pieces(index, memoryview(bytearray(READ_BYTES))):
            found.update(piece)
        return found.hexdigest()

    def _pieces(self, index: int, memory: memoryview) -> Iterator[memoryview]:
        """The part, through memory that is used again: new memory for every part would cost as much as its digest."""
        at, stop = self.bounds(index)
        while at < stop:
            count = os.preadv(self._file, [memory[: stop - at]], at)
            yield memory[:count]
            at += count

    def _length(self, index: int) -> int:
        return min(PART_BYTES, self._size - index * PART_BYTES)


class Run:
    """Parts in a row that one thread brings, from `at` (bytes) to before `stop`."""

    def __init__(self, parts: PartFile, indices: list[int]) -> None:
        self._parts = parts
        self._left = indices
        self.at, self._end = parts.bounds(indices[0])
        self.stop = parts.bounds(indices[-1])[1]
        self._checksum = xxhash.xxh3_128()

    def write(self, piece: bytes | memoryview) -> None:
        """What comes next; a part that is complete with it is finished."""
        view = memoryview(piece)
        self._parts.write(self.at, view)
        while view:
            here = view[: self._end - self.at]
            self._checksum.update(here)
            self.at, view = self.at + len(here), view[len(here) :]
            if self.at == self._end:
                self._finish()

    def give_back(self) -> int:
        """Leave what is not finished to others; how many bytes of it were written in vain."""
        if not self._left:
            return 0
        self._parts.give_back(self._left)
        return self.at - self._parts.bounds(self._left[0])[0]

    def _finish(self) -> None:
        self._parts.finish(self._left.pop(0), self._checksum.hexdigest())
        if self._left:
            self._end = self._parts.bounds(self._left[0])[1]
            self._checksum = xxhash.xxh3_128()


def _allocate(file: int, size_bytes: int) -> None:
    """Take the room now rather than find out later that there is none; disks that cannot get a file of that length."""
    try:
        os.posix_fallocate(file, 0, size_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(file, size_bytes)
