"""Try again, try elsewhere, or give up?

Only while nothing of an answer has been passed on, and only what the request's kind, the service's budget and the caller's
deadline allow:

- nothing was sent (no connection): always safe, and free, since no engine saw the request;
- a reused connection ended without a byte: most likely closed while idle; once more, on a fresh connection to the same endpoint;
- the connection died after the request was sent, or the upstream answered 502, 503 or 504: elsewhere, if the request is
  repeatable, that is if running it twice changes nothing but the work done. Its 4xx and its 500 are answers: they are passed on.

Reads are repeatable (RFC 9110, 9.2.1), and so is inference: a POST that only computes from its own body. An engine that died
cannot deliver the first result, so a second run is the only way to an answer. Anything else may load an adapter or store a
response, and is tried again only if it was not sent (RFC 9110, 9.2.2: a proxy must not repeat such requests).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Failure = Literal[
    "not_sent", "no_answer_reused", "no_answer", "status_502", "status_503", "status_504", "late", "cut_off"
]
Action = Literal["again", "elsewhere", "give_up"]
Outcome = Literal["retried", "passed_on", "spent", "alone", "not_repeatable", "budget_exhausted", "deadline"]
MAX_ATTEMPTS = 4
LEAST_ATTEMPT_S = 0.05
"""An attempt with less time left than this is not made."""
RETRIABLE_STATUS: dict[int, Failure] = {502: "status_502", 503: "status_503", 504: "status_504"}
SAFE_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS"))
INFERENCE = (
    "/chat/completions", "/completions", "/embeddings", "/rerank", "/score", "/moderations", "/pooling", "/classify",
    "/messages", "/messages/count_tokens", "/tokenize", "/detokenize", "/images/generations", "/audio/speech",
    "/audio/transcriptions", "/audio/translations", "/api/chat", "/api/generate", "/api/embed", "/infer", "/generate",
    "/generate_stream", ":predict", ":explain",
)  # fmt: skip
"""How the paths end whose POST only computes: OpenAI, Anthropic, Ollama, KServe V1 and V2."""


class Retry(NamedTuple):
    """What to do and why; `set_aside` says that the failure counts against the endpoint."""

    action: Action
    set_aside: bool
    reason: str
    outcome: Outcome = "retried"


def is_repeatable(method: bytes, path: str) -> bool:
    """Whether the request may run twice; `path` without the query."""
    return method in SAFE_METHODS or (method == b"POST" and path.endswith(INFERENCE))


def retry(
    failure: Failure,
    attempt: int,
    *,
    others: bool,
    repeatable: bool = True,
    budget: float = 1.0,
    remaining_s: float = float("inf"),
) -> Retry:
    """`attempt` is 1 for the first; `others` says whether an endpoint is left that has not failed this request.

    `budget` is the service's balance of retries (see `decide/retry_budget.py`); `remaining_s` is the time until the deadline.
    """
    aside = failure != "no_answer_reused"
    if failure == "cut_off":
        return Retry("give_up", aside, "part of the answer has been passed on", "passed_on")
    if failure == "late" or remaining_s < LEAST_ATTEMPT_S:
        return Retry("give_up", aside, "the time that the caller gives is over", "deadline")
    if attempt >= MAX_ATTEMPTS:
        return Retry("give_up", aside, f"{attempt} attempts failed", "spent")
    if failure != "not_sent":
        if not repeatable:
            return Retry(
                "give_up", aside, "the request may have run, and may not run twice", "not_repeatable"
            )
        if budget < 1.0:
            return Retry("give_up", aside, "the service's budget of retries is spent", "budget_exhausted")
    if failure == "no_answer_reused":
        return Retry("again", aside, "an idle connection was closed by the engine")
    if not others:
        return Retry("give_up", aside, "no other endpoint is ready", "alone")
    return Retry("elsewhere", aside, f"{failure.replace('_', ' ')}, another endpoint is ready")


def is_free(failure: Failure) -> bool:
    """Whether a retry after this takes nothing from the budget: no engine has seen the request."""
    return failure == "not_sent"
