"""`prometheus`: the value of a query (KEDA's prometheus scaler)."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from penstock.contracts.trigger import Opening, Reading
from penstock.kit.ask import ask_json, tls_context
from penstock.kit.errors import InvalidInput, Unavailable

WHAT = "the Prometheus server"
AUTH_MODES = {
    "basic": ("username", "password"),
    "bearer": ("bearerToken",),
    "custom": ("customAuthHeader", "customAuthValue"),
}


def open_trigger(opening: Opening) -> PrometheusTrigger:
    """See `contracts/trigger.py`."""
    return PrometheusTrigger(opening)


class PrometheusTrigger:
    """Asks the server each time. It is told no time, so that it evaluates at its own: clocks differ, and nothing is not zero."""

    def __init__(self, opening: Opening) -> None:
        self.metric = "prometheus"
        self.target = opening.number("threshold")
        self._opening = opening
        self._url, self._auth = _url(opening.need("serverAddress"))
        self._params = {**_pairs("queryParameters", opening.get("queryParameters"))}
        self._params["query"] = opening.need("query")
        if namespace := opening.get("namespace"):
            self._params["namespace"] = namespace
        self._headers = {**_pairs("customHeaders", opening.get("customHeaders"))}
        self._auth = _authenticated(opening, self._headers) or self._auth
        self._timeout_s = opening.number("timeout") / 1000 or opening.timeout_s
        verify = tls_context(opening.secrets.get("ca", ""), verify=not opening.flag("unsafeSsl"))
        self._client = httpx.AsyncClient(verify=verify, timeout=self._timeout_s)

    async def read(self) -> Reading:
        """One query."""
        document = await ask_json(
            self._client,
            self._url,
            params=self._params,
            headers=self._headers,
            auth=self._auth,
            what=WHAT,
            now=self._opening.now(),
            timeout_s=self._timeout_s,
        )
        value = _value(document, empty_is_zero=self._opening.flag("ignoreNullValues"))
        return self._opening.reading(value, "activationThreshold")

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()


def _value(document: Any, *, empty_is_zero: bool) -> float:
    """The one number in an answer of `/api/v1/query` (Prometheus HTTP API)."""
    try:
        if document["status"] != "success":
            raise Unavailable(f"{WHAT} failed: {str(document.get('error', ''))[:200]}")
        kind, result = document["data"]["resultType"], document["data"]["result"]
        if kind == "scalar":
            return float(result[1])
        if kind != "vector":
            raise InvalidInput(f"the query gives a {kind}, expected a scalar or a vector of one series")
        if len(result) > 1:
            raise InvalidInput(
                f"the query gives {len(result)} series, expected one", hint="aggregate them, as with sum(…)"
            )
        if result:
            return float(result[0]["value"][1])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise Unavailable(f"{WHAT} answered with something that is no result of a query") from None
    if empty_is_zero:
        return 0.0
    raise Unavailable("the query gives nothing, and ignoreNullValues is false")


def _url(address: str) -> tuple[str, tuple[str, str] | None]:
    """Where queries go, and the user and password that the address held: in it they would be logged."""
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise InvalidInput("prometheus: serverAddress is no address, expected http[s]://HOST[:PORT][/PATH]")
    url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/api/v1/query"
    user = unquote(parts.username or "")
    return url, (user, unquote(parts.password or "")) if user else None


def _pairs(name: str, text: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if not all(key.strip() and separator for key, separator, _ in pairs):
        raise InvalidInput(f"prometheus: {name} must be NAME=VALUE, separated by commas")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _authenticated(opening: Opening, headers: dict[str, str]) -> tuple[str, str] | None:
    """User and password if they are to be sent; the other ways add to the headers."""
    modes = [mode.strip() for mode in opening.get("authModes").split(",") if mode.strip()]
    for mode in modes:
        if mode not in AUTH_MODES:
            raise InvalidInput(f"prometheus: authModes: found {mode!r}, expected {', '.join(AUTH_MODES)}")
    if not modes and any(opening.secrets.get(name) for names in AUTH_MODES.values() for name in names):
        raise InvalidInput(
            "prometheus: secrets are given, and authModes does not say which of them to use",
            hint="set metadata.authModes to basic, bearer or custom",
        )
    missing = [name for mode in modes for name in AUTH_MODES[mode] if not opening.secrets.get(name)]
    if missing:
        raise InvalidInput(f"prometheus: the authentication has no parameter {missing[0]}")
    if "bearer" in modes:
        headers["authorization"] = f"Bearer {opening.secrets['bearerToken'].strip()}"
    if "custom" in modes:
        headers[opening.secrets["customAuthHeader"]] = opening.secrets["customAuthValue"]
    return (opening.secrets["username"], opening.secrets["password"]) if "basic" in modes else None
