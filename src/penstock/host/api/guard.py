"""Who may talk to the API: holders of the token, and no web page.

A browser on this machine could be made to send requests to a loopback port. So every request with an `Origin`, or with a `Host`
that is not this server's own (DNS rebinding), is refused before anything else is looked at.
"""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.host.api.status import error_response
from penstock.kit.errors import Forbidden, PlatformError, Unauthorized

OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """ASGI middleware that lets through what has the bearer token."""

    def __init__(self, app: ASGIApp, *, token: str, hosts: tuple[str, ...] = ()) -> None:
        """`hosts` are names under which the server may be addressed besides the loopback ones."""
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset((*LOOPBACK, *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] == "http":
            error = self._refusal(scope["path"], Headers(scope=scope))
            if error is not None:
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> PlatformError | None:
        if "origin" in headers:
            return Forbidden("requests from web pages are not accepted", code="origin_refused")
        host = _host_name(headers.get("host", ""))
        if host not in self._hosts:
            return Forbidden(
                f"Host: found {host!r}, expected one of {', '.join(sorted(self._hosts))}", code="host_refused"
            )
        if path in OPEN_PATHS:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
            return Unauthorized(
                "Unauthorized",
                hint="use the kubeconfig in the data folder: export KUBECONFIG=$PENSTOCK_HOME/kubeconfig",
            )
        return None


def _host_name(host: str) -> str:
    """The host of a Host header, without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
