"""What does a request ask for? One parse of method, path and Host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from penstock.contracts.exchange import ServiceRoute
from penstock.gateway.errors import Protocol
from penstock.gateway.names import Names
from penstock.gateway.wire.message import Head
from penstock.kit.errors import NotFound

Local = Literal[
    "healthz",
    "readyz",
    "metrics",
    "models",
    "model",
    "v2",
    "v2_live",
    "v2_ready",
    "tags",
    "version",
    "show",
    "request",
    "recording",
]
_LOCAL: dict[str, Local] = {
    "/healthz": "healthz",
    "/readyz": "readyz",
    "/metrics": "metrics",
    "/v1/models": "models",
    "/openai/v1/models": "models",
    "/api/tags": "tags",
    "/api/version": "version",
    "/v2": "v2",
    "/v2/health/live": "v2_live",
    "/v2/health/ready": "v2_ready",
}
REQUESTS = "/penstock/requests/"
"""Followed by a request's id: how it was routed."""
_OPENAI = ("/v1/", "/openai/v1/")
_STREAMS_USAGE = ("/v1/chat/completions", "/v1/completions")
_RERANK = ("/rerank", "/v2/rerank")
"""Cohere's and Jina's ways to ask, beside /v1/rerank."""
_ENGINES = (
    "/tokenize",
    "/detokenize",
    "/score",
    "/v1/score",
    "/pooling",
    "/classify",
    "/invocations",
    "/generate",
)
"""Paths that engines offer beside OpenAI's; the body names the model."""


@dataclass(frozen=True, slots=True)
class Target:
    """Either `local`, or a forward: to `service`, or to the one that the body's `model` names (`service` is None).

    `tells_usage`: a stream from there ends with an event of usage, if it is asked for.
    """

    protocol: Protocol
    local: Local | None = None
    service: ServiceRoute | None = None
    path: str = ""
    model: str = ""
    tells_usage: bool = False


_KNOWN: dict[str, Target] = {
    **{path: Target("openai", path=path, tells_usage=True) for path in _STREAMS_USAGE},
    **{path: Target("openai", path=path) for path in (*_RERANK, *_ENGINES, "/v1/embeddings")},
    **{path: Target("anthropic", path=path) for path in ("/v1/messages", "/v1/messages/count_tokens")},
    **{
        path: Target("ollama", path=path)
        for path in ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings")
    },
    "/api/show": Target("ollama", local="show"),
    "/penstock/recording": Target("openai", local="recording"),
}
"""What is asked for most, by POST: found without looking at the path's parts."""


def parse(head: Head, names: Names) -> Target:
    """Raises NotFound for a path that means nothing here, and for a model that does not exist."""
    method, path = head.method, head.path
    by_host = names.host(head.header(b"host"))
    if by_host is not None:
        return Target(
            protocol_of(path), service=by_host, path=path, tells_usage=path.endswith(_STREAMS_USAGE)
        )
    if method == b"POST" and path in _KNOWN:
        return _KNOWN[path]
    if path in _LOCAL and method in (b"GET", b"HEAD"):
        return Target(protocol_of(path), local=_LOCAL[path])
    if path.startswith(REQUESTS) and method == b"GET":
        return Target("openai", local="request", path=unquote(path.removeprefix(REQUESTS)))
    if path.startswith("/serving/"):
        return _by_path(path, names)
    if path.startswith("/v2/models/"):
        return Target("v2", service=names.service(unquote(path.split("/")[3])), path=path)
    for prefix in _OPENAI:
        if path.startswith(prefix):
            return _openai(method, path, "/" + path[len(prefix) :], names)
    raise NotFound(
        f"there is nothing at {path}", code="unknown_path", hint="see docs/reference/gateway.md for the paths"
    )


def protocol_of(path: str) -> Protocol:
    """In whose shape errors are told."""
    if path.startswith("/api/"):
        return "ollama"
    if path.startswith("/v1/messages"):
        return "anthropic"
    if path == "/v2/rerank":
        return "openai"
    if path.startswith("/v2"):
        return "v2"
    return "v1" if path.startswith("/v1/models/") and ":" in path else "openai"


def _by_path(path: str, names: Names) -> Target:
    parts = path.split("/", 4)
    if len(parts) < 4 or not parts[3]:
        raise NotFound(
            f"there is nothing at {path}", code="unknown_path", hint="write /serving/NAMESPACE/NAME/…"
        )
    rest = "/" + (parts[4] if len(parts) > 4 else "")
    service = names.service(f"{unquote(parts[2])}/{unquote(parts[3])}")
    return Target(protocol_of(rest), service=service, path=rest, tells_usage=rest.endswith(_STREAMS_USAGE))


def _openai(method: bytes, path: str, rest: str, names: Names) -> Target:
    if rest.startswith("/models/"):
        name, colon, verb = rest[len("/models/") :].rpartition(":")
        if colon and verb in ("predict", "explain"):
            return Target("v1", service=names.service(unquote(name)), path=path)
        if method in (b"GET", b"HEAD"):
            return Target("openai", local="model", model=unquote(rest[len("/models/") :]))
    return Target("openai", path="/v1" + rest)
