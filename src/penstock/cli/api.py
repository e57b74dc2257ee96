"""The cluster as the commands see it: REST in Kubernetes' shape, found through a kubeconfig.

Reading the kubeconfig, TLS and authentication (tokens, client certificates, exec plugins) is lightkube's; requests are plain
HTTP, because the commands want Kubernetes' own tables and any kind that the server has (`docs/decisions/0002`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import orjson
from lightkube.config.client_adapter import Client, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from penstock.app.home import Home
from penstock.app.settings import load
from penstock.kit.errors import Cause, InvalidInput, PlatformError, Unavailable, kind_of

TIMEOUT_S = 30.0
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
APPLY_PATCH = "application/apply-patch+yaml"
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A decoded answer, and the warnings that the server sent with it."""

    document: Document
    warnings: tuple[str, ...] = ()


class Api:
    """One server. Every method raises PlatformError: the server's own words, or Unavailable where it cannot be reached."""

    def __init__(self, http: httpx2.Client, server: str, namespace: str, origin: str) -> None:
        """`namespace` is the context's, `origin` the kubeconfig, for messages."""
        self._http = http
        self._server = server
        self._origin = origin
        self.namespace = namespace

    @property
    def server(self) -> str:
        """Its URL."""
        return self._server

    def get(self, path: str, *, accept: str = "application/json", **query: str) -> Document:
        """GET; query parameters that are "" are left out."""
        return self.send("GET", path, accept=accept, query=query).document

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        media: str = "application/json",
        accept: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request with a JSON body and a JSON answer."""
        content = None if body is None else orjson.dumps(body)
        headers = {"Accept": accept, **({"Content-Type": media} if content is not None else {})}
        with self._explained():
            answer = self._http.request(
                method, path, content=content, headers=headers, params=_given(query or {})
            )
        if answer.status_code >= 400:
            raise error_of(answer.status_code, answer.content)
        return Answer(orjson.loads(answer.content), tuple(_warnings(answer.headers.get_list("warning"))))

    def lines(self, path: str, *, accept: str = "application/json", **query: str) -> Iterator[bytes]:
        """The lines of a stream as they come, for as long as the server sends: watches and followed logs."""
        with (
            self._explained(),
            self._http.stream(
                "GET",
                path,
                headers={"Accept": accept},
                params=_given(query),
                timeout=httpx2.Timeout(TIMEOUT_S, read=None),
            ) as answer,
        ):
            if answer.status_code >= 400:
                raise error_of(answer.status_code, answer.read())
            for line in answer.iter_lines():
                yield line.encode()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TimeoutException:
            raise Unavailable(f"{self._server} did not answer within {TIMEOUT_S:g} s") from None
        except httpx2.TransportError as error:
            raise Unavailable(
                f"{self._server} cannot be reached: {error}",
                hint=f"is it running? `penstock up` starts the platform on this machine ({self._origin} names this server)",
            ) from None
        except ConfigError as error:
            raise InvalidInput(f"{self._origin}: {error}") from None


def connect(kubeconfig: Path | None = None, context: str | None = None) -> Api:
    """The server that `--kubeconfig`, else $KUBECONFIG, else the data folder's kubeconfig names."""
    path = _kubeconfig(kubeconfig)
    try:
        config = KubeConfig.from_file(path).get(context)
        assert config is not None
        http = Client(
            _modern(config),
            ConnectionParams(timeout=httpx2.Timeout(TIMEOUT_S), trust_env=not _is_local(config)),
        )
    except (ConfigError, KeyError, OSError, ValueError, AssertionError, msgspec.MsgspecError) as error:
        raise InvalidInput(
            f"{path}: {_text(error)}",
            code="bad_kubeconfig",
            hint="`kubectl config view` shows the file; --context chooses one of its contexts",
        ) from None
    return Api(http, config.cluster.server, config.namespace, str(path))


def error_of(status: int, body: bytes) -> PlatformError:
    """The error that a Kubernetes `Status` describes."""
    document: Document = {}
    with suppress(ValueError):
        decoded = orjson.loads(body)
        document = decoded if isinstance(decoded, dict) else {}
    message = (
        document.get("message") or f"the server answered {status}: {body[:200].decode(errors='replace')}"
    )
    details = document.get("details") or {}
    causes = tuple(
        Cause(cause.get("field", ""), cause.get("message", ""), cause.get("reason", ""))
        for cause in details.get("causes") or ()
    )
    kind = kind_of(status, document.get("reason") or "")
    return kind(message, hint=str(details.get("hint", "")), causes=causes)


def _kubeconfig(given: Path | None) -> Path:
    if given is not None:
        return _existing(given.expanduser())
    named = [Path(part).expanduser() for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if named:
        return _existing(next((path for path in named if path.exists()), named[0]))
    return _existing(Home(load(os.environ).home).kubeconfig)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise Unavailable(
            f"no cluster to talk to: there is no {path}",
            code="no_kubeconfig",
            hint="`penstock up` starts a platform on this machine; for another cluster use --kubeconfig or $KUBECONFIG",
        )
    return path


def _modern(config: SingleConfig) -> SingleConfig:
    """lightkube knows exec plugins up to v1beta1; v1 differs only in what plugins may ask a terminal for."""
    if config.user is not None and config.user.exec and config.user.exec.apiVersion.endswith("/v1"):
        config.user.exec.apiVersion = "client.authentication.k8s.io/v1beta1"
    return config


def _is_local(config: SingleConfig) -> bool:
    host = httpx2.URL(config.cluster.server).host
    return host in ("localhost", "::1") or host.startswith("127.")


def _given(query: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in query.items() if value}


def _warnings(headers: list[str]) -> Iterator[str]:
    for header in headers:
        yield header.partition('"')[2].rpartition('"')[0].replace('\\"', '"') or header


def _text(error: Exception) -> str:
    return f"it names {error}, which it does not define" if isinstance(error, KeyError) else str(error)
