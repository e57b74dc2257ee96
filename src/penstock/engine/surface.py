"""What every model answers, whether it generates or embeds: its name, its health, its metrics."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from penstock.engine.http import Exchange
from penstock.engine.metrics import Metrics
from penstock.engine.wishes import check_model
from penstock.kit.errors import NotFound, Unavailable

PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"


class Surface:
    """`model` is OpenAI's model object. While `draining` it is not ready."""

    def __init__(self, model: dict[str, Any], metrics: Metrics) -> None:
        self.model = model
        self.metrics = metrics
        self.draining = False

    @property
    def is_loaded(self) -> bool:
        """Whether the model can be asked."""
        return True

    def answer(self, exchange: Exchange, path: str) -> None:
        """Raises NotFound for what nobody answers, Unavailable while it is not ready."""
        match (exchange.method, path):
            case ("GET" | "HEAD", "/v1/models"):
                exchange.send(200, {"object": "list", "data": [self.model]})
            case ("GET" | "HEAD", one) if one.startswith("/v1/models/"):
                check_model(unquote(one.removeprefix("/v1/models/")), self.model["id"])
                exchange.send(200, self.model)
            case ("GET" | "HEAD", "/health" | "/v2/health/live" | "/healthz"):
                exchange.send(200, b"ok\n", b"text/plain")
            case ("GET" | "HEAD", "/health/ready" | "/v2/health/ready"):
                if not self.is_loaded or self.draining:
                    raise Unavailable(
                        "the engine is draining" if self.draining else "the model is still loading"
                    )
                exchange.send(200, b"ok\n", b"text/plain")
            case ("GET" | "HEAD", "/metrics"):
                exchange.send(200, self.metrics.text(), PROMETHEUS)
            case _:
                raise NotFound(f"there is nothing at {exchange.method} {exchange.path}", code="unknown_path")


def model_object(name: str, created: int) -> dict[str, Any]:
    """`created` is Unix time."""
    return {"id": name, "object": "model", "created": created, "owned_by": "penstock"}
