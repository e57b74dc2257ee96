"""Where models come from: a source lists the files behind a URI and reads any one from any byte on.

Downloading, resuming, verifying, caching and unpacking are the fetcher's business, written once. A source is one file in
`plugins/sources/`; it offers `SCHEMES` and `open_source(uri, environ)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from msgspec import Struct


class RemoteFile(Struct, frozen=True, kw_only=True):
    """One file. `path` is relative, with slashes; `version` changes when the content does; digests are lower-case hex."""

    path: str
    size_bytes: int | None = None
    version: str = ""
    sha256: str = ""


class Snapshot(Struct, frozen=True, kw_only=True):
    """What a URI means now. `local_folder` is set instead of `files` where the files are on this machine already."""

    files: tuple[RemoteFile, ...] = ()
    local_folder: str = ""


class Changed(Exception):
    """The file is no longer the one that was listed, so what is here of it cannot be continued."""


class ModelSource(Protocol):
    """One URI, opened. Raises NotFound, Forbidden, Unauthorized, InvalidInput (final), Unavailable (may be tried again)."""

    def snapshot(self) -> Snapshot:
        """The files behind the URI."""
        ...

    def read(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        """The content from byte `start` on, in pieces. Raises Changed where it can be told."""
        ...


class SourceModule(Protocol):
    """What a file in `plugins/sources/` offers."""

    SCHEMES: tuple[str, ...]

    def open_source(self, uri: str, environ: Mapping[str, str]) -> ModelSource:
        """A source for `uri`; credentials come from `environ`. Raises InvalidInput for a URI that is none."""
        ...
