"""The gateway as the commands see it: this machine's by its settings, or the one at a URL; the API key from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

import httpx
import typer

from penstock.app.settings import load
from penstock.kit.errors import DeadlineExceeded, PlatformError, Unavailable, kind_of

KEY_VARIABLE = "PENSTOCK_API_KEY"
CONNECT_S = 5.0
ANSWER_S = 30.0
Document = dict[str, Any]
Url = Annotated[
    str, typer.Option(help="Gateway; default: the one of this machine's settings.", show_default=False)
]


def client(url: str = "", timeout_s: float = ANSWER_S) -> httpx.Client:
    """`timeout_s` is how long an answer may keep silent."""
    key = os.environ.get(KEY_VARIABLE, "")
    return httpx.Client(
        base_url=url.rstrip("/") or load(os.environ).gateway_url,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
        trust_env=bool(url),
    )


def ask(http: httpx.Client, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """The decoded JSON of an answer. Raises PlatformError: the gateway's own words, or Unavailable where it cannot be reached."""
    try:
        answer = http.request(method, path, json=body)
    except httpx.TimeoutException:
        raise DeadlineExceeded(f"the gateway at {http.base_url} did not answer in time") from None
    except httpx.TransportError as error:
        raise unreachable(http, error) from None
    if answer.status_code != httpx.codes.OK:
        raise refused(answer)
    try:
        return answer.json()
    except ValueError:
        raise Unavailable(
            f"{http.base_url} is no gateway of this platform: {path} is no JSON there",
            hint="PENSTOCK_GATEWAY_ADDR or --url name another",
        ) from None


def refused(answer: httpx.Response) -> PlatformError:
    """What the gateway said instead of an answer."""
    try:
        message = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = answer.text[:300]
    return kind_of(answer.status_code)(f"{message} ({answer.status_code})")


def unreachable(http: httpx.Client, error: httpx.TransportError) -> Unavailable:
    """What is said where nobody answers."""
    return Unavailable(
        f"the gateway at {http.base_url} cannot be reached: {error}",
        hint="`penstock up` starts it; PENSTOCK_GATEWAY_ADDR or --url name another",
    )
