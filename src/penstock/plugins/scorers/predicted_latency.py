"""How soon the answer is expected: (least + e) / (cost + e) over the endpoints, so that what counts is the ratio of costs.

In seconds, where rates of endpoints were learned (e = 1 ms), with own = max(tokens - cached, 0) and, of the endpoint (one whose rates are
not known yet, or do not hold, is taken to be like the mean of the others):

    wait    = (prefilling + 1) * prefill_s + (uncached_tokens + own) * prefill_token_s
    step    = decode_s * (1 + (context_tokens + tokens) / room + in_flight / requests)
    harm    = interference * in_flight * (1 - seniority + seniority * age) * own * prefill_token_s
    cost    = (wait + answer * step + harm) * (1 + missing * own / tokens)

`requests` is step_requests, the parameter where the endpoint's runtime says none: GPUs answer hundreds at once in little more time than one,
processors do not. `room` is kv_tokens, contextTokens where that is unknown; answer = min(output_tokens, outputTokens), outputTokens where the caller does not
say. An endpoint that is twice as fast has half the cost, so mixed hardware needs no weights. `harm` is what others lose: each answer under way
is held up while this prompt is computed, and as many requests as wait before it will have come to wait behind it. Without that, a busy fleet
computes the same prefix everywhere, each time to spare one request a wait that all then share.

`age` is how long the endpoint's requests have been under way, on the mean, in that of all endpoints' requests. Long answers are those that
every prompt beside them holds up, so they make the slowest percent: new prompts go where answers have just begun.

`missing` is what the sums above leave out: a prompt that is computed once more displaces what others would have found, and is there from now
on, so that the next of its kind may stray as well.

In tokens, where no rates are known yet (e = 1), the same with what is alike everywhere left out:

    cost    = (uncached_tokens + own + interference * in_flight * own + requestTokens * in_flight + answer * (context_tokens + tokens) / READS)
              * (1 + missing * own / tokens)

NVIDIA Dynamo's router (`lib/kv-router`, default.rs) counts a token of context as much as one that has to be computed, and so leaves what is
cached for what is idle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from penstock.contracts.scheduling import Load, Prompt, Scorer, View
from penstock.resources.routing_plugins import settled

EPSILON_S = 0.001
EPSILON_TOKENS = 1.0
READS = 2000.0
"""So many times a token's KV is read in the time that computing it takes: 1,200 to 5,600 by the profiles of simulated engines."""


class Pace(NamedTuple):
    """The rates of an endpoint, as `Load` has them."""

    prefill_s: float
    prefill_token_s: float
    decode_s: float


class PredictedLatency:
    """See the module."""

    def __init__(self, parameters: Mapping[str, float]) -> None:
        """All of them are given."""
        self._answer_tokens = parameters["outputTokens"]
        self._interference = parameters["interference"]
        self._seniority = parameters["seniority"]
        self._missing = parameters["missing"]
        self._context_tokens = parameters["contextTokens"]
        self._per_request = 1.0 / parameters["requests"]
        self._request_tokens = parameters["requestTokens"]

    def score(self, prompt: Prompt, view: View) -> Sequence[float]:
        """1 for the least cost."""
        if not view.loads:
            return []
        usual = usual_pace(view.loads)
        costs = self._tokens(prompt, view) if usual is None else self._seconds(prompt, view, usual)
        epsilon = EPSILON_TOKENS if usual is None else EPSILON_S
        least = min(costs) + epsilon
        return [least / (cost + epsilon) for cost in costs]

    def _seconds(self, prompt: Prompt, view: View, usual: Pace) -> list[float]:
        """Costs in s; `usual` are the rates of endpoints whose own are not known."""
        tokens, default_room, now = prompt.tokens, self._context_tokens, view.now
        interference, per_request = self._interference, self._per_request
        missing = self._missing / tokens if tokens else 0.0
        answer = self._answer(prompt)
        mean_age = usual_age(view)
        older = self._seniority / mean_age if mean_age else 0.0
        costs, last, own, factor = list[float](), -1.0, 0.0, 1.0
        for load, cached in zip(view.loads, view.cached_tokens, strict=True):
            if cached != last:  # most hold as much as the one before them: nothing
                last = cached
                own = tokens - cached if cached < tokens else 0.0
                factor = 1.0 + missing * own
            in_flight, prefilling, watched = load.in_flight, load.prefilling, load.own_in_flight
            held_up = interference * in_flight
            if older and watched:
                held_up *= 1.0 + older * (now - load.own_sent_s / watched - mean_age)
            room, step_requests = load.kv_tokens or default_room, load.step_requests
            pace = load if load.is_measured else usual
            costs.append(
                (
                    (prefilling + 1) * pace.prefill_s
                    + (load.uncached_tokens + own + held_up * own) * pace.prefill_token_s
                    + answer
                    * pace.decode_s
                    * (
                        1.0
                        + (load.context_tokens + tokens) / room
                        + (in_flight / step_requests if step_requests else in_flight * per_request)
                    )
                )
                * factor
            )
        return costs

    def _tokens(self, prompt: Prompt, view: View) -> list[float]:
        """Costs in tokens."""
        tokens, each, interference = prompt.tokens, self._request_tokens, self._interference
        missing = self._missing / tokens if tokens else 0.0
        read = self._answer(prompt) / READS
        terms = {}  # most hold as much as others do: nothing
        for cached in set(view.cached_tokens):
            own = tokens - cached if cached < tokens else 0.0
            terms[cached] = own, interference * own + each, 1.0 + missing * own
        return [
            (
                load.uncached_tokens
                + own
                + per_request * load.in_flight
                + read * (load.context_tokens + tokens)
            )
            * factor
            for load, (own, per_request, factor) in zip(
                view.loads, map(terms.__getitem__, view.cached_tokens), strict=True
            )
        ]

    def _answer(self, prompt: Prompt) -> float:
        """Tokens of its answer, as far as they count."""
        return min(prompt.output_tokens or self._answer_tokens, self._answer_tokens)


def usual_age(view: View) -> float:
    """How long this gateway's requests have been under way, on the mean, in s; 0 where there are none, or the moment is not known."""
    watched = sum([load.own_in_flight for load in view.loads])
    if not watched:
        return 0.0
    return max(0.0, view.now - sum([load.own_sent_s for load in view.loads]) / watched)


def usual_pace(loads: Sequence[Load]) -> Pace | None:
    """The mean rates of those that are measured; None where none is. Where all are, nobody asks for the mean, and it is any of theirs."""
    measured = [load for load in loads if load.is_measured]
    count = len(measured)
    if not count:
        return None
    if count == len(loads):
        first = measured[0]
        return Pace(first.prefill_s, first.prefill_token_s, first.decode_s)
    return Pace(
        sum(load.prefill_s for load in measured) / count,
        sum(load.prefill_token_s for load in measured) / count,
        sum(load.decode_s for load in measured) / count,
    )


def open_scorer(parameters: Mapping[str, Any]) -> Scorer:
    """Parameters: outputTokens, interference, seniority, missing, contextTokens, requests, requestTokens."""
    return PredictedLatency(settled("scorers", "predicted-latency", parameters))
