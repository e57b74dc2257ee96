"""Unpacks an archive that came from outside: no path leaves the folder, no link is made, and the size is bounded."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from penstock.contracts.source import MAX_FILES, Corrupt
from penstock.kit.errors import InvalidInput, TooLarge

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_RATIO = 200
MIN_LIMIT_BYTES = 1 << 30
PIECE_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
_UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,  # encrypted; among them NotImplementedError: packed in a way that Python does not know
    ValueError,
)
_NO_PLACE = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


def is_archive(name: str) -> bool:
    """By its name."""
    return name.endswith(SUFFIXES)


def unpack(archive: Path, folder: Path) -> None:
    """All files of the archive below `folder`.

    Raises Corrupt for what cannot be read, InvalidInput for what does not belong into an archive of a model, TooLarge.
    """
    limit = max(MIN_LIMIT_BYTES, MAX_RATIO * archive.stat().st_size)
    with _explained(archive):
        total = 0
        for name, content in _zip(archive) if archive.name.endswith(".zip") else _tar(archive, limit):
            target = folder / safe_path(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("wb") as out:
                while piece := content.read(PIECE_BYTES):
                    total += len(piece)
                    if total > limit:
                        raise _too_large(limit)
                    out.write(piece)


def safe_path(name: str) -> Path:
    """A relative path with no way out. Raises InvalidInput."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or "\0" in name:
        raise InvalidInput(f"found the file name {name!r}, expected a path below the model's folder")
    return Path(*path.parts)


class _Bounded(io.RawIOBase):
    """What a packed stream unpacks to, headers and padding included; more than `limit` bytes raise TooLarge."""

    def __init__(self, content: gzip.GzipFile | io.BufferedReader, limit: int) -> None:
        self._content = content
        self._left = self._limit = limit

    def read(self, size: int = -1) -> bytes:
        piece = self._content.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise _too_large(self._limit)
        return piece


def _tar(archive: Path, limit: int) -> Iterator[tuple[str, IO[bytes]]]:
    with archive.open("rb") as file, contextlib.ExitStack() as stack:
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        content = stack.enter_context(gzip.GzipFile(fileobj=file)) if packed else file
        stream = _Bounded(content, limit)
        tar = stack.enter_context(tarfile.open(fileobj=stream, mode="r|"))
        for number, member in enumerate(tar):
            _check_count(number)
            if member.isdir():
                continue
            part = tar.extractfile(member) if member.isreg() else None
            if part is None:
                raise InvalidInput(f"{member.name!r} is a link or a device, expected plain files")
            yield member.name, part
        while stream.read(PIECE_BYTES):
            pass  # the checksum comes last, after the padding where tar stops


def _zip(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as file:
        for number, info in enumerate(file.infolist()):
            _check_count(number)
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise InvalidInput(f"{info.filename!r} is a link, expected plain files")
            if not info.is_dir():
                yield info.filename, file.open(info)


@contextlib.contextmanager
def _explained(archive: Path) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise Corrupt(f"{archive.name}: is no readable archive: {error}") from None
    except OSError as error:
        if error.errno is None:  # bz2's way to say that it cannot read on
            raise Corrupt(f"{archive.name}: is no readable archive: {error}") from None
        if error.errno in _NO_PLACE:
            raise InvalidInput(
                f"{archive.name}: its files have names that no folder can hold: {error.strerror}"
            ) from None
        raise
    except (InvalidInput, TooLarge) as error:
        raise type(error)(f"{archive.name}: {error.message}") from None


def _check_count(number: int) -> None:
    if number >= MAX_FILES:
        raise TooLarge(f"found more than {MAX_FILES} files")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"unpacks to more than {limit >> 20} MiB")
