"""Whom a load is sent to: an OpenAI-compatible server, its address, and what every request to it says."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from penstock.kit.errors import InvalidInput, NotFound

Api = Literal["chat", "completions"]
PATHS: dict[Api, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
MAX_KEY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Target:
    """One server. `prefix` is the path before /v1, if there is one."""

    url: str
    host: str
    port: int
    prefix: str = ""
    tls: ssl.SSLContext | None = None
    key: str = field(default="", repr=False)

    def request(self, method: str, path: str, body: bytes = b"", headers: tuple[str, ...] = ()) -> bytes:
        """A whole HTTP/1.1 request."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [
            f"{method} {self.prefix}{path} HTTP/1.1",
            f"host: {host}:{self.port}",
            "user-agent: penstock-bench",
        ]
        if self.key:
            lines.append(f"authorization: Bearer {self.key}")
        if method == "POST":
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


def target_of(option: str, url: str, key: str = "", ca_file: Path | None = None) -> Target:
    """Raises InvalidInput, NotFound."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or not port or parts.username:
        raise InvalidInput(
            f"{option}: found {parts.netloc.rpartition('@')[2]!r}, expected a URL such as http://127.0.0.1:8080"
        )
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    tls = _tls(ca_file) if parts.scheme == "https" else None
    return Target(url, parts.hostname, port, prefix, tls, _checked(key))


def key_from(option: str, path: Path) -> str:
    """The first line of a file. Raises NotFound, InvalidInput."""
    if not path.is_file():
        raise NotFound(f"{option}: found no file {path}")
    with path.open("rb") as file:
        line = file.readline(MAX_KEY_BYTES).decode("latin-1").strip()
    if not line:
        raise InvalidInput(f"{option}: found nothing in {path}, expected a key in its first line")
    return line


def _checked(key: str) -> str:
    if not key.isascii() or not key.isprintable():
        raise InvalidInput("the API key: found characters that no header takes, expected printable ASCII")
    return key


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is not None and not ca_file.is_file():
        raise NotFound(f"--ca-file: found no file {ca_file}")
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except ssl.SSLError as error:
        raise InvalidInput(f"--ca-file: {ca_file} has no certificates: {error.reason}") from None
