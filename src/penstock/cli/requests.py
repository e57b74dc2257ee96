"""How one request was routed, as the gateway remembers it, for people."""

from __future__ import annotations

import sys
from urllib.parse import quote

import msgspec

from penstock.cli.console import print_table
from penstock.cli.gateway import ask, client
from penstock.gateway.route_record import Candidate, Explanation, RouteRecord, from_document
from penstock.kit.errors import Unavailable
from penstock.kit.timestamps import rfc3339

REASONS = {
    "again": "it had been sent elsewhere before",
    "set_aside": "the circuits of all endpoints were open",
    "only": "there was no other endpoint",
    "cold": "no endpoint was taken to hold any of the prompt, so load decided",
    "cache": "no endpoint was taken to hold more of the prompt",
    "balance": "another endpoint was taken to hold more of the prompt, but had too much to do",
}
PREFILLS = {
    "refused": "which refused it",
    "failed": "which failed",
    "broken": "which could not be reached, or broke off",
    "late": "which took too long",
    "too_long": "whose answer was too long",
    "no_transfer": "which did not say where its KV lies",
    "given_up": "but the request was over before",
}
UNKNOWN = "-"


def records_of(request_id: str, url: str) -> list[RouteRecord]:
    """Latest first; several where several requests had one id. Raises NotFound, and what `ask` raises."""
    with client(url) as http:
        document = ask(http, "GET", f"/penstock/requests/{quote(request_id, safe='')}")
    try:
        return [from_document(one) for one in document["requests"]]
    except (msgspec.ValidationError, KeyError, TypeError):
        raise Unavailable(
            "the gateway is of another release: its records cannot be read here",
            hint="update this command, or the platform",
        ) from None


def print_record(record: RouteRecord) -> None:
    """All that is known of it."""
    outcome = record.error or f"status {record.status}"
    when = rfc3339(record.at)
    _say(f"Request {record.id} of {record.namespace}/{record.service}, {when}: {outcome}")
    _say(f"Sent to: {record.endpoint} (revision {record.revision})")
    _say(f"Because: {_why(record)}")
    if record.prefill_endpoint:
        _say(f"Prompt: {_prefilled(record)}")
    if record.prompt_class:
        _print_prediction(record)
    _print_times(record)
    if record.steps:
        _say("\nAttempts:")
        rows = [
            (one.endpoint, one.revision, f"{one.after_s:.3f}", one.failure or "none") for one in record.steps
        ]
        print_table(("endpoint", "revision", "after s", "failure"), rows)
    if record.explanation is not None:
        _print_explanation(record.explanation)
    elif record.prompt_class:
        _say(
            "\nWhat was known of each endpoint is kept for requests with the header `x-penstock-explain: true`."
        )


def _why(record: RouteRecord) -> str:
    if not record.prompt_class:
        return (
            f"{record.in_flight} in flight, least of {record.considered} (the service has no routing profile)"
        )
    profile = f"profile {record.profile or 'built-in'}, class {record.prompt_class}"
    score = f", score {record.score:.4g}" if record.considered > 1 else ""
    other = f"; runner-up {record.runner_up}" if record.runner_up else ""
    return (
        f"{REASONS.get(record.reason, record.reason)} ({profile}{score}, best of {record.considered}, "
        f"{record.in_flight} in flight there{other})"
    )


def _prefilled(record: RouteRecord) -> str:
    if record.prefill_outcome == "computed":
        return f"computed by {record.prefill_endpoint}, which handed its KV on"
    why = PREFILLS.get(record.prefill_outcome, record.prefill_outcome)
    return f"was to be computed by {record.prefill_endpoint}, {why}"


def _print_prediction(record: RouteRecord) -> None:
    real, cached = _count(record.prompt_tokens), _count(record.cached_tokens)
    _say(f"\nPrompt tokens: {record.estimated_tokens} estimated, {real} by the engine")
    _say(
        f"Cached there: {record.indexed_tokens:.0f} in the index, {record.expected_tokens:.0f} as far as it is believed, "
        f"{cached} by the engine; the most expected anywhere {record.most_expected_tokens:.0f}"
    )


def _print_times(record: RouteRecord) -> None:
    first = f"{record.first_byte_s:.3f} s" if record.first_byte_s else UNKNOWN
    sent_s = record.steps[-1].after_s if record.steps else record.waited_s
    predicted = f" (predicted {sent_s + record.predicted_s:.3f} s)" if record.predicted_s else ""
    tokens = _count(record.completion_tokens)
    _say(
        f"Times: waited {record.waited_s:.3f} s, first byte after {first}{predicted}, end after {record.total_s:.3f} s; "
        f"{tokens} tokens{' streamed' if record.streams else ''}"
    )


def _print_explanation(told: Explanation) -> None:
    for removal in told.removed:
        kept = "would have left none, so it was not heeded" if removal.overruled else "left out"
        _say(f"\nFilter {removal.filter}: {kept}: {', '.join(removal.endpoints)}")
    scorers = [f"{name} x{weight:g}" for name, weight in told.weights.items()]
    _say("\nEndpoints, as they were at that moment:")
    headers = ("endpoint", "score", *scorers, "held", "believed", "in flight", "to compute", "waiting", "running",
               "kv use", "s/request", "ms/token", "left out by")  # fmt: skip
    print_table(headers, [_row(one, list(told.weights)) for one in told.candidates])
    if told.left_out:
        _say(f"… and {told.left_out} endpoints more")


def _row(one: Candidate, scorers: list[str]) -> tuple[str, ...]:
    scored, measured = not one.removed_by, one.is_measured
    return (
        one.endpoint,
        f"{one.score:.4g}" if scored else UNKNOWN,
        *(f"{one.terms[name]:.3f}" if name in one.terms else UNKNOWN for name in scorers),
        f"{one.held_tokens:.0f}",
        f"{100 * one.confidence:.0f} %{' precise' if one.is_precise else ''}",
        str(one.in_flight),
        f"{one.uncached_tokens:.0f}",
        _told(one.waiting, "{:.0f}"),
        _told(one.running, "{:.0f}"),
        _told(one.kv_use, "{:.2f}"),
        f"{one.prefill_s:.3f}" if measured else UNKNOWN,
        f"{1000 * one.prefill_token_s:.3f}" if measured else UNKNOWN,
        one.removed_by,
    )


def _told(value: float, shape: str) -> str:
    """What an engine says of itself; below 0 it has not."""
    return shape.format(value) if value >= 0 else UNKNOWN


def _count(tokens: int) -> str:
    return str(tokens) if tokens >= 0 else "not told"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
