"""GET for large files: connections are kept and shared by threads, and bodies read in large pieces into memory that is used again.

urllib3 instead of httpx, which brings 300 MiB/s on a core that urllib3 brings 1 GiB/s on. Trust and proxies are the same.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from penstock.kit.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPResponse

    import urllib3

TIMEOUT_S = 30.0
FIRST_PIECE_BYTES, LEAST_PIECE_BYTES, MOST_PIECE_BYTES = 1 << 16, 1 << 12, 1 << 19
"""Large ones save half of the processor's time for reading and writing, but what has come of one is lost when the connection ends in it; with
still larger ones, threads that write to one file wait for each other."""
LONG_S, SHORT_S = 0.2, 0.05
"""A piece that took longer is followed by a smaller one, one that took less by a larger one."""
MAX_REDIRECTS = 10
CONNECTIONS = 16
"""Kept to one host."""


@contextmanager
def get(
    url: str,
    headers: Mapping[str, str],
    method: str = "GET",
    *,
    authorities: str = "",
    timeout_s: float = TIMEOUT_S,
) -> Iterator[urllib3.BaseHTTPResponse]:
    """The answer, its body unread. User and password of the address are sent as Basic. `authorities` is a PEM file instead of the usual trust.

    Raises Unavailable, and InvalidInput for what is no address; neither names it: it can be a secret.
    """
    import urllib3  # noqa: PLC0415  a local model should start without it

    redirects = urllib3.Retry(
        total=MAX_REDIRECTS, connect=0, read=0, status=0, other=0, redirect=MAX_REDIRECTS
    )
    try:
        answer = _pool(_proxy(url), urlsplit(url).scheme, authorities).request(
            method,
            url,
            headers={**headers, **_credentials(url)},
            preload_content=False,
            decode_content=False,
            retries=redirects,
            timeout=urllib3.Timeout(timeout_s),
        )
        try:
            yield answer
        finally:
            if answer.closed or answer.length_remaining == 0:
                answer.release_conn()
            else:
                answer.close()
    except (urllib3.exceptions.LocationValueError, UnicodeError):
        raise InvalidInput("is no address that can be asked") from None
    except urllib3.exceptions.HTTPError as error:
        reason = getattr(error, "reason", None) or error
        raise Unavailable(f"the connection failed: {type(reason).__name__}") from None


def pieces(answer: urllib3.BaseHTTPResponse) -> Iterator[memoryview]:
    """The body as it comes. Each piece is good until the next is asked for: they all use the same memory.

    Raises Unavailable where the connection fails or ends before the body.
    """
    # urllib3 has no way to read into memory that one has; http.client below it does
    body: HTTPResponse = answer._fp  # type: ignore[attr-defined]
    memory, size = memoryview(bytearray(MOST_PIECE_BYTES)), FIRST_PIECE_BYTES
    while True:
        began = time.monotonic()
        try:
            count = body.readinto(memory[:size])
        except (OSError, HTTPException) as error:
            raise Unavailable(f"the connection failed: {type(error).__name__}") from None
        if not count:
            if body.length:
                raise Unavailable(f"the connection ended {body.length} bytes before the body's end")
            return
        took_s = time.monotonic() - began
        yield memory[:count]
        if took_s > LONG_S:
            size = max(LEAST_PIECE_BYTES, size // 2)
        elif took_s < SHORT_S:
            size = min(MOST_PIECE_BYTES, size * 2)


def part_of(start: int, stop: int | None) -> dict[str, str]:
    """The header that asks for bytes `start` to before `stop`; none for all of them."""
    if not start and stop is None:
        return {}
    return {"range": f"bytes={start}-{'' if stop is None else stop - 1}"}


def _credentials(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _proxy(url: str) -> str:
    parts = urlsplit(url)
    with contextlib.suppress(OSError):
        if urllib.request.proxy_bypass(parts.hostname or ""):
            return ""
    return urllib.request.getproxies().get(parts.scheme, "")


@functools.lru_cache(maxsize=8)
def _pool(proxy: str, scheme: str, authorities: str) -> urllib3.PoolManager:
    """Trust is read for https alone, or for a redirect to it: it takes a tenth of a second."""
    import urllib3  # noqa: PLC0415  see above

    trust = _trust(authorities) if scheme == "https" or proxy.startswith("https") else None
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=CONNECTIONS, ssl_context=trust)
    return urllib3.PoolManager(maxsize=CONNECTIONS, ssl_context=trust)


def _trust(authorities: str) -> ssl.SSLContext:
    if authorities:
        import ssl  # noqa: PLC0415  see above

        try:
            return ssl.create_default_context(cafile=authorities)
        except OSError as error:
            raise InvalidInput(
                f"{authorities}: found no certificates: {error.strerror or 'not PEM'}"
            ) from None
    import httpx  # noqa: PLC0415  see above

    return httpx.create_ssl_context()
