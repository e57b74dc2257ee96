"""Where models come from: a source lists the files behind a URI and reads any one from any byte on.

Downloading, resuming, verifying, caching and unpacking are the fetcher's business, written once. A source is one file in
`plugins/sources/`; it offers `SCHEMES` and `open_source(uri, environ)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Protocol

from msgspec import Struct

from penstock.kit.errors import PlatformError

MAX_FILES = 100_000
"""More files than this are no model."""

_HOST = re.compile(r"[^@:]*(:\d*)?|\[[^@]*\](:\d*)?")


class RemoteFile(Struct, frozen=True, kw_only=True):
    """One file. `path` is relative, with slashes; `version` changes when the content does; digests are lower-case hex."""

    path: str
    size_bytes: int | None = None
    version: str = ""
    sha256: str = ""
    blake3: str = ""


class Snapshot(Struct, frozen=True, kw_only=True):
    """What a URI means now. `local_folder` is set instead of `files` where the files are on this machine already."""

    files: tuple[RemoteFile, ...] = ()
    local_folder: str = ""


class Changed(Exception):
    """The file is no longer the one that was listed, or cannot be continued; what is here of it is of no use.

    Its text says what differs, where that is known.
    """


class Unranged(Exception):
    """The source gives whole files only: it was asked for a part."""


class Corrupt(PlatformError):
    """What arrived is not what the source promised, also after trying again."""


class ModelSource(Protocol):
    """One URI, opened. Raises NotFound, Forbidden, Unauthorized, InvalidInput (final), Unavailable (may be tried again).

    Messages do not name the URI: who asked knows it, and says it without its secrets.
    """

    def snapshot(self) -> Snapshot:
        """The files behind the URI."""
        ...

    def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[bytes | memoryview]:
        """Bytes `start` to before `stop` of a file of the last snapshot, in pieces; None is its end. Threads may call at once.

        A piece is good until the next is asked for: its memory may be used again. Raises Changed where it can be told, and Unranged where a `stop` is given and the source knows no parts.
        """
        ...


class SourceModule(Protocol):
    """What a file in `plugins/sources/` offers."""

    SCHEMES: tuple[str, ...]

    def open_source(self, uri: str, environ: Mapping[str, str]) -> ModelSource:
        """A source for `uri`; credentials come from `environ`. Raises InvalidInput for a URI that is none."""
        ...


def public(uri: str) -> str:
    """The URI without user, password, query and fragment, any of which may be a secret.

    A password with an unquoted slash in it ends the host too early; then all up to the last `@` is taken for secret.
    """
    scheme, separator, rest = uri.partition("://") if "://" in uri else ("", "", uri)
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in host:
        rest = host.rpartition("@")[2] + rest[len(host) :]
    elif "@" in rest and not _HOST.fullmatch(host):
        rest = rest.rpartition("@")[2]
    return f"{scheme}{separator}{re.split(r'[?#]', rest, maxsplit=1)[0]}"
