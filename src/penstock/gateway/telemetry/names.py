"""The one table of OpenTelemetry GenAI names: which metrics and attributes the gateway emits, under which generation of the conventions.

By default the names of semantic conventions 1.37 to 1.41, which tools and dashboards read today; with `gen_ai_latest_experimental` in
`OTEL_SEMCONV_STABILITY_OPT_IN` those of the newer GenAI repository, where counters take the place of the histogram of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PROVIDER = "penstock"
OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
LATEST = "gen_ai_latest_experimental"

REQUEST_S = tuple(0.01 * 2**power for power in range(14))
"""0.01 to 81.92, doubling."""
FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
OUTPUT_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS = tuple(float(4**power) for power in range(14))
"""1 to 67108864, fourfold."""

_MODEL = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model")
_OUTCOME = (*_MODEL, "error.type")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of the conventions. `generation`: of which of the two, or of both."""

    name: str
    kind: Literal["counter", "histogram"]
    unit: Literal["s", "{token}"]
    labels: tuple[str, ...]
    buckets: tuple[float, ...]
    generation: Literal["both", "stable", "latest"]
    help: str

    @property
    def prometheus(self) -> str:
        """Dots to underscores, then the unit, then `_total`."""
        return prometheus(self.name) + "_seconds" * (self.unit == "s") + "_total" * (self.kind == "counter")


def prometheus(name: str) -> str:
    """A name as Prometheus writes it."""
    return name.replace(".", "_")


_SERVER, _USAGE, _OPERATION = (
    "gen_ai.server",
    "gen_ai.client.inference.usage",
    "gen_ai.client.inference.operation",
)
_KIND, _MODALITY = (*_MODEL, "gen_ai.token.type"), (*_MODEL, "gen_ai.token.modality")
METRICS: dict[str, Metric] = {
    "duration": Metric(f"{_SERVER}.request.duration", "histogram", "s", _OUTCOME, REQUEST_S, "both", "From request to the answer's end"),
    "first_token": Metric(f"{_SERVER}.time_to_first_token", "histogram", "s", _MODEL, FIRST_TOKEN_S, "both", "From request to the answer's first byte, of streams that came to their end"),
    "output_token": Metric(f"{_SERVER}.time_per_output_token", "histogram", "s", _MODEL, OUTPUT_TOKEN_S, "both", "Between tokens after the first, averaged over each stream"),
    "tokens": Metric("gen_ai.client.token.usage", "histogram", "{token}", _KIND, TOKENS, "stable", "Tokens of each request, as the engine counts"),
    "input": Metric(f"{_OPERATION}.input_tokens", "histogram", "{token}", _MODEL, TOKENS, "latest", "Input tokens of each request"),
    "output": Metric(f"{_OPERATION}.output_tokens", "histogram", "{token}", _MODEL, TOKENS, "latest", "Output tokens of each request"),
    "input_used": Metric(f"{_USAGE}.input_tokens", "counter", "{token}", _MODALITY, (), "latest", "Input tokens"),
    "output_used": Metric(f"{_USAGE}.output_tokens", "counter", "{token}", _MODALITY, (), "latest", "Output tokens"),
    "cached_used": Metric(f"{_USAGE}.cache_read.input_tokens", "counter", "{token}", _MODALITY, (), "latest", "Input tokens that the engine had cached"),
}  # fmt: skip
"""By the part they play here."""

MODALITY = "unknown"
"""Engines do not tell which tokens were text, image or audio."""

CHAT, COMPLETION, EMBEDDINGS, GENERATE = "chat", "text_completion", "embeddings", "generate_content"
OPERATIONS = {
    "/v1/chat/completions": CHAT, "/v1/messages": CHAT, "/api/chat": CHAT, "/v1/responses": CHAT,
    "/v1/completions": COMPLETION, "/api/generate": COMPLETION,
    "/v1/embeddings": EMBEDDINGS, "/api/embed": EMBEDDINGS, "/api/embeddings": EMBEDDINGS,
    "/v1/images/generations": GENERATE, "/v1/images/edits": GENERATE, "/v1/images/variations": GENERATE,
    "/v1/audio/speech": GENERATE, "/v1/audio/transcriptions": GENERATE, "/v1/audio/translations": GENERATE,
    "/v1/rerank": "rerank", "/v2/rerank": "rerank", "/rerank": "rerank", "/v1/score": "rerank", "/v1/moderations": "moderation",
}  # fmt: skip
"""`gen_ai.operation.name` by path; the conventions allow further values where none of theirs fits."""


def operation(path: str, protocol: str) -> str:
    """What a request asks a model to do; `predict` for KServe's V1 and V2, `other` for a path that only the engine knows."""
    found = OPERATIONS.get(path)
    if found is not None:
        return found
    if path.startswith("/openai/"):
        return operation(path.removeprefix("/openai"), protocol)
    return "predict" if protocol in ("v1", "v2", "grpc") else "other"


def wants_latest(environment: Mapping[str, str]) -> bool:
    """Whether the opt-in lists the newer names; it is a list with commas, as the conventions define it."""
    return LATEST in (item.strip() for item in environment.get(OPT_IN, "").split(","))
