"""Manifests from files, folders and standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.kit.errors import InvalidInput, NotFound, PlatformError
from penstock.resources.documents import documents

SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document and where it was read."""

    document: dict[str, Any]
    origin: str


def read(filenames: Sequence[str]) -> tuple[Manifest, ...]:
    """Every document, in order; a folder's files by name. Raises InvalidInput, NotFound, which name the file."""
    if not filenames:
        raise InvalidInput("found no file, expected -f FILE, -f FOLDER or -f -")
    found = tuple(manifest for filename in filenames for manifest in _one(filename))
    if not found:
        raise InvalidInput(f"{', '.join(filenames)}: no objects in there")
    return found


def _one(filename: str) -> Iterator[Manifest]:
    for origin, text in _texts(filename):
        try:
            parsed = documents(text)
        except PlatformError as error:
            raise type(error)(f"{origin}: {error.message}", hint=error.hint, causes=error.causes) from None
        yield from (Manifest(document, origin) for document in parsed)


def _texts(filename: str) -> Iterator[tuple[str, str]]:
    if filename == "-":
        yield "standard input", sys.stdin.read()
        return
    path = Path(filename)
    if not path.exists():
        raise NotFound(f"{filename}: no such file or folder")
    paths = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path]
    for one in paths:
        try:
            yield str(one), one.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{one}: cannot be read: {error}") from None
