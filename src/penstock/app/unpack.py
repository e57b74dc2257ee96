"""Unpacks an archive that came from outside: no path leaves the folder, no link is made, and the size is bounded."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from penstock.kit.errors import InvalidInput, TooLarge

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_FILES = 100_000
MAX_RATIO = 200
MIN_LIMIT_BYTES = 1 << 30
PIECE_BYTES = 1 << 20


def is_archive(name: str) -> bool:
    """By its name."""
    return name.endswith(SUFFIXES)


def unpack(archive: Path, folder: Path) -> None:
    """All files of the archive below `folder`. Raises InvalidInput for what does not belong into an archive of a model, TooLarge."""
    limit = max(MIN_LIMIT_BYTES, MAX_RATIO * archive.stat().st_size)
    entries = _zip(archive) if archive.name.endswith(".zip") else _tar(archive)
    total = 0
    try:
        for number, (name, content) in enumerate(entries):
            if number >= MAX_FILES:
                raise TooLarge(f"{archive.name}: found more than {MAX_FILES} files")
            target = folder / safe_path(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("wb") as out:
                while piece := content.read(PIECE_BYTES):
                    total += len(piece)
                    if total > limit:
                        raise TooLarge(f"{archive.name}: unpacks to more than {limit} bytes")
                    out.write(piece)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, shutil.Error) as error:
        raise InvalidInput(f"{archive.name}: is no readable archive: {error}") from None


def safe_path(name: str) -> Path:
    """A relative path with no way out. Raises InvalidInput."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or "\0" in name:
        raise InvalidInput(f"found the file name {name!r}, expected a path below the model's folder")
    return Path(*path.parts)


def _tar(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise InvalidInput(
                    f"{archive.name}: {member.name!r} is a link or a device, expected plain files"
                )
            yield member.name, content


def _zip(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise InvalidInput(f"{archive.name}: {info.filename!r} is a link, expected plain files")
            if not info.is_dir():
                yield info.filename, file.open(info)
