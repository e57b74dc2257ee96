"""`https://host/model.safetensors`: one file, or an archive (.zip, .tar, .tar.gz, .tgz) that the fetcher unpacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from penstock.contracts.source import Changed, RemoteFile, Snapshot, Unranged
from penstock.kit import http_ranges
from penstock.kit.errors import Forbidden, InvalidInput, NotFound, PlatformError, Unauthorized, Unavailable

SCHEMES = ("http", "https")
EXPECTED = "is no address of a file, expected https://HOST/…/FILE"
_AS_IT_IS = {"accept-encoding": "identity"}
"""A compressed answer has another length, and may have another entity tag."""


def open_source(uri: str, environ: Mapping[str, str]) -> HttpSource:
    """Raises InvalidInput unless the URI ends in the name of a file."""
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidInput(EXPECTED) from None
    name = PurePosixPath(unquote(parts.path)).name
    if not host or not name:
        raise InvalidInput(EXPECTED)
    return HttpSource(uri, name)


class HttpSource:
    """One file behind a web server. A ranged answer is used only if it is of the version that was seen first (RFC 9110, 13.1.5)."""

    def __init__(self, uri: str, name: str) -> None:
        self._uri = uri
        self._name = name

    def snapshot(self) -> Snapshot:
        """Asked for with HEAD; where that is refused (an address may be signed for GET alone), with a GET that is broken off."""
        size, version = self._head("HEAD")
        return Snapshot(files=(RemoteFile(path=self._name, size_bytes=size, version=version),))

    def _head(self, method: str) -> tuple[int | None, str]:
        """The file's size and version."""
        with http_ranges.get(self._uri, _AS_IT_IS, method) as answer:
            if method == "HEAD" and (400 <= answer.status < 500 or answer.status == 501):
                return self._head("GET")
            _check(answer.status, answer.reason or "")
            length = answer.headers.get("content-length", "")
            encoded = answer.headers.get("content-encoding", "identity") != "identity"
            return int(length) if length.isdecimal() and not encoded else None, _version(answer)

    def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[memoryview]:
        """A server without ranges sends everything, of which the beginning is dropped."""
        headers = dict(_AS_IT_IS) | http_ranges.part_of(start, stop)
        if "range" in headers and file.version.startswith('"'):
            headers["if-range"] = file.version
        with http_ranges.get(self._uri, headers) as answer:
            if start and answer.status == 416:
                _check_end(answer, file, start)
                return
            _check(answer.status, answer.reason or "")
            if file.version and (found := _version(answer)) != file.version:
                raise Changed(f"{file.path}: found version {found or 'unknown'}, expected {file.version}")
            began = answer.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
            ranged = answer.status == 206 and began == str(start)
            if stop is not None and not ranged:
                raise Unranged
            yield from _without(0 if ranged else start, http_ranges.pieces(answer))


def _without(skip: int, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
    """The pieces without the first `skip` bytes."""
    for piece in pieces:
        if skip < len(piece):
            yield piece[skip:] if skip else piece
        skip = max(0, skip - len(piece))


def _check(status: int, reason: str) -> None:
    if status < 300:
        return
    said = f"the server answered {status} {reason}"
    kinds: dict[int, type[PlatformError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 410: NotFound}
    if status in kinds or (400 <= status < 500 and status not in (408, 425, 429)):
        raise kinds.get(status, InvalidInput)(said)
    raise Unavailable(said)


def _check_end(answer: Any, file: RemoteFile, start: int) -> None:
    """Nothing is left after `start` if the whole is that long (RFC 9110, 15.5.17). Raises Changed if it is not."""
    version = _version(answer)
    if answer.headers.get("content-range", "") != f"bytes */{start}" or version not in ("", file.version):
        raise Changed


def _version(answer: Any) -> str:
    return str(answer.headers.get("etag") or answer.headers.get("last-modified") or "")
