"""`https://host/model.safetensors`: one file, or an archive (.zip, .tar, .tar.gz, .tgz) that the fetcher unpacks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from penstock.contracts.source import Changed, RemoteFile, Snapshot
from penstock.kit.errors import Forbidden, InvalidInput, NotFound, PlatformError, Unauthorized, Unavailable

SCHEMES = ("http", "https")
TIMEOUT_S = 30.0
PIECE_BYTES = 1 << 20


def open_source(uri: str, environ: Mapping[str, str]) -> HttpSource:
    """Raises InvalidInput unless the URI ends in the name of a file."""
    parts = urlsplit(uri)
    name = PurePosixPath(unquote(parts.path)).name
    if not parts.hostname or not name:
        raise InvalidInput(f"storageUri: found {_public(uri)!r}, expected {parts.scheme}://HOST/…/FILE")
    return HttpSource(uri, name)


class HttpSource:
    """One file behind a web server. A ranged answer is used only if it is of the version that was seen first (RFC 9110, 13.1.5)."""

    def __init__(self, uri: str, name: str) -> None:
        self._uri = uri
        self._name = name

    def snapshot(self) -> Snapshot:
        """Asked for with HEAD; a server that does not know HEAD is asked for its first byte."""
        with _client() as client, _explained(self._uri):
            answer = client.head(self._uri)
            if answer.status_code in (405, 501):
                with client.stream("GET", self._uri) as answer:
                    pass
            _check(answer, self._uri)
        length = answer.headers.get("content-length", "")
        encoded = answer.headers.get("content-encoding", "identity") != "identity"
        size = int(length) if length.isdecimal() and not encoded else None
        return Snapshot(files=(RemoteFile(path=self._name, size_bytes=size, version=_version(answer)),))

    def read(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        """From `start` on. A server without ranges sends everything, of which the beginning is dropped."""
        headers = {"accept-encoding": "identity"}
        if start:
            headers["range"] = f"bytes={start}-"
            if file.version.startswith('"'):
                headers["if-range"] = file.version
        with (
            _client() as client,
            _explained(self._uri),
            client.stream("GET", self._uri, headers=headers) as answer,
        ):
            _check(answer, self._uri)
            if file.version and _version(answer) != file.version:
                raise Changed
            skip = 0
            if start:
                began = answer.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
                skip = 0 if answer.status_code == 206 and began == str(start) else start
            for piece in answer.iter_bytes(PIECE_BYTES):
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                yield piece[skip:]
                skip = 0


def _client() -> Any:
    import httpx  # noqa: PLC0415  a local model should start without it

    return httpx.Client(follow_redirects=True, timeout=TIMEOUT_S)


@contextlib.contextmanager
def _explained(uri: str) -> Iterator[None]:
    import httpx  # noqa: PLC0415  see above

    try:
        yield
    except httpx.HTTPError as error:
        raise Unavailable(f"{_public(uri)}: {error or type(error).__name__}") from None


def _check(answer: Any, uri: str) -> None:
    status = answer.status_code
    if status < 300:
        return
    kinds: dict[int, type[PlatformError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 410: NotFound}
    if status in kinds or (400 <= status < 500 and status not in (408, 416, 425, 429)):
        raise kinds.get(status, InvalidInput)(
            f"{_public(uri)}: the server answered {status} {answer.reason_phrase}"
        )
    raise Unavailable(f"{_public(uri)}: the server answered {status} {answer.reason_phrase}")


def _version(answer: Any) -> str:
    return str(answer.headers.get("etag") or answer.headers.get("last-modified") or "")


def _public(uri: str) -> str:
    """Without user, password and query, which may be secrets."""
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
