"""What is kept of how one request was routed, and what came of it: for `penstock explain request`, and for whoever asks the gateway itself.

It holds no word of the request. Seconds count from the request's arrival, unless a name says otherwise.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from penstock.decide.choice import Removal


class Step(Struct, frozen=True, kw_only=True):
    """One attempt: where it was sent, after how many seconds, and what went wrong there ("" if nothing did)."""

    endpoint: str
    revision: str
    after_s: float
    failure: str = ""


class Candidate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was known of one endpoint at the moment of the choice.

    `held_tokens` of the prompt were expected there: what the index took it to hold, by `confidence`, how far the index is believed of it;
    `is_precise`: its engine tells of its cache. `removed_by` is the filter that left it out, `pool` for one that was not to choose from
    (another revision's, another class's, one that failed this request). The others have a `score` and its `terms` by scorer, before weights.
    Loads and rates are as in `contracts.scheduling.Load`; what an engine says of itself is -1 until it has.
    """

    endpoint: str
    revision: str = ""
    score: float = 0.0
    terms: dict[str, float] = {}
    removed_by: str = ""
    held_tokens: float = 0.0
    confidence: float = 0.0
    is_precise: bool = False
    in_flight: int = 0
    prefilling: int = 0
    uncached_tokens: float = 0.0
    context_tokens: float = 0.0
    waiting: float = -1.0
    running: float = -1.0
    kv_use: float = -1.0
    prefill_s: float = 0.0
    prefill_token_s: float = 0.0
    decode_s: float = 0.0
    is_measured: bool = False


class Explanation(Struct, frozen=True, kw_only=True):
    """The last choice, aloud. `removed` is what filters took out, `candidates` the endpoints: those with scores first, best first.

    `left_out` is how many endpoints more there were than are told of.
    """

    weights: dict[str, float]
    removed: tuple[Removal, ...]
    candidates: tuple[Candidate, ...]
    left_out: int = 0


class RouteRecord(Struct, frozen=True):
    """One request that has ended. Counts are -1 where the engine told nothing, times 0 where that has not happened.

    `at` is when it came, Unix time. `profile` "" is the built-in one; `prompt_class` "" says that there was none, and the least
    requests in flight decided. `reason` is one of `decide.route_reason`. Of `considered` endpoints this one had the best `score`; `in_flight` requests were there. The prompt
    was estimated at `estimated_tokens`; `indexed_tokens` of them were in the index for this endpoint, `expected_tokens` is as far as that was
    believed, `most_expected_tokens` the most of any endpoint. `waited_s` passed before there was an endpoint to choose from;
    `predicted_s` after it was sent its first token was to come, 0 while too little was known. `steps` are the attempts, where there were several.
    `prefill_endpoint` was to compute the prompt for `endpoint`; `prefill_outcome` is `computed`, or why `endpoint` computed it itself.
    """

    id: str
    at: float
    namespace: str
    service: str
    profile: str
    prompt_class: str
    reason: str
    endpoint: str
    revision: str
    runner_up: str
    score: float
    considered: int
    in_flight: int
    estimated_tokens: int
    indexed_tokens: float
    expected_tokens: float
    most_expected_tokens: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    waited_s: float
    predicted_s: float
    first_byte_s: float
    total_s: float
    streams: bool
    status: int
    error: str
    steps: tuple[Step, ...] = ()
    explanation: Explanation | None = None
    prefill_endpoint: str = ""
    prefill_outcome: str = ""


class Kept(RouteRecord, frozen=True, array_like=True):
    """The same, as it is kept: without names of fields. `at` is monotonic."""


def as_document(record: RouteRecord) -> dict[str, Any]:
    """For JSON."""
    return {name: msgspec.to_builtins(getattr(record, name)) for name in RouteRecord.__struct_fields__}


def from_document(document: object) -> RouteRecord:
    """Raises msgspec.ValidationError."""
    return msgspec.convert(document, RouteRecord)
