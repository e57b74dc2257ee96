"""Asking a server on HTTP for a JSON document: bounded in time and size, and with errors that say what it answered."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson

from penstock.kit.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidInput,
    NotFound,
    PlatformError,
    Unauthorized,
    Unavailable,
)

MAX_BODY_BYTES = 1 << 20
MAX_SKEW_S = 300.0
"""A server whose clock differs by more than this knows nothing about now."""


def tls_context(ca: str = "", *, verify: bool = True) -> ssl.SSLContext:
    """How to speak TLS: with the system's authorities, or with those of `ca` (PEM) alone. Raises InvalidInput."""
    try:
        context = ssl.create_default_context(cadata=ca or None)
    except (ssl.SSLError, ValueError):
        raise InvalidInput("ca: found no certificates in PEM") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def ask_json(
    client: httpx.AsyncClient,
    url: str,
    *,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    auth: tuple[str, str] | None = None,
    what: str,
    now: float,
    timeout_s: float,
) -> Any:
    """The document at `url`. `what` names the server in messages, which never hold the URL: it may carry a password.

    `now` is Unix time in seconds: an answer that is dated very differently is none. `timeout_s` bounds the whole
    of it, however slowly the server trickles.

    Raises Unavailable and DeadlineExceeded (may be tried again), Unauthorized, Forbidden, NotFound, InvalidInput.
    """
    try:
        async with (
            asyncio.timeout(timeout_s),
            client.stream(
                "GET", url, params=params, headers=dict(headers or {}), auth=auth or httpx.USE_CLIENT_DEFAULT
            ) as answer,
        ):
            body = await _body(answer, what)
    except (TimeoutError, httpx.TimeoutException):
        raise DeadlineExceeded(f"{what} did not answer within {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise Unavailable(f"{what} cannot be asked: {type(error).__name__}{_cause(error)}") from None
    _check_status(answer, body, what)
    _check_clock(answer, what, now)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Unavailable(f"{what} answered with something that is not JSON") from None


async def _body(answer: httpx.Response, what: str) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise Unavailable(f"{what} answered with more than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _cause(error: Exception) -> str:
    """Why, in the system's words, which name no URL."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f" ({cause.strerror})"
        cause = cause.__cause__ or cause.__context__
    return ""


def _check_status(answer: httpx.Response, body: bytes, what: str) -> None:
    status = answer.status_code
    if status == 200:
        return
    kinds: dict[int, type[PlatformError]] = {
        400: InvalidInput,
        401: Unauthorized,
        403: Forbidden,
        404: NotFound,
        422: InvalidInput,
    }
    said = _said(body)
    raise kinds.get(status, Unavailable)(
        f"{what} answered {status} {answer.reason_phrase}{said and ': ' + said}"
    )


def _said(body: bytes) -> str:
    """What the server says about an error, as Prometheus and RabbitMQ say it."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(document, dict):
        return ""
    return str(document.get("reason") or document.get("error") or "")[:200]


def _check_clock(answer: httpx.Response, what: str, now: float) -> None:
    date = answer.headers.get("date")
    if not date:
        return
    try:
        skew_s = parsedate_to_datetime(date).timestamp() - now
    except ValueError:
        return
    if abs(skew_s) > MAX_SKEW_S:
        way = "ahead of" if skew_s > 0 else "behind"
        raise Unavailable(
            f"{what} has a clock that is {abs(skew_s):.0f} s {way} ours: its answer is not about now"
        )
