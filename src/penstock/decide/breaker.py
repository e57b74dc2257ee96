"""May this endpoint get requests now, and how many?

A circuit per endpoint. Closed: it does. It opens when nobody listens there, after 5 failures in a row (Envoy's
`consecutive_gateway_failure`), or when half of at least 20 requests failed within 10 s. Open: it gets none for 0.5 s, doubling with
each further opening to 30 s; each 30 s without one takes a doubling back, as Envoy's ejection multiplier. Half-open: one
request probes it; that decides.

After that, and when it is new, it starts slowly: it takes part in a share of the choices that rises from 10 % to 100 % (Envoy's
`slow_start_config` with aggression 1), within 30 s when it is new, else within ten times as long as it was open, 30 s at most:
one that had been overloaded for a moment is not cold, and the others need its help. Failures never take more than half of a service's endpoints
(`max_ejection_percent`); refused connections, which leave no doubt, never the last one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from penstock.decide.retry import Failure

State = Literal["closed", "open", "half_open"]
FAILURES_IN_A_ROW = 5
FAILURE_SHARE = 0.5
LEAST_REQUESTS = 20
WINDOW_S = 10.0
OPEN_FIRST_S = 0.5
OPEN_MOST_S = 30.0
FORGET_S = 30.0
SLOW_START_S = 30.0
SLOW_PER_OPEN = 10.0
LEAST_WEIGHT = 0.1
MAX_OPEN_SHARE = 0.5


class Circuit(NamedTuple):
    """What is remembered of one endpoint; times are the caller's monotonic seconds.

    `in_a_row` are its failures since its last answer; `failures` those since `window_at`, when `answers_before` requests had been
    answered; `openings` how often it opened lately, the last time until `open_until`; `warm_at` is when its slow start of `warm_s` seconds ends.
    """

    state: State = "closed"
    in_a_row: int = 0
    failures: int = 0
    window_at: float = 0.0
    answers_before: int = 0
    openings: int = 0
    open_until: float = 0.0
    warm_at: float = 0.0
    warm_s: float = SLOW_START_S


CLOSED = Circuit()


def at(circuit: Circuit, now: float) -> Circuit:
    """What time alone changes: an open circuit becomes half-open, and one that has been closed for long forgets."""
    if circuit.state == "open" and now >= circuit.open_until:
        return circuit._replace(state="half_open")
    if circuit.state == "closed" and circuit.openings and now >= circuit.open_until + FORGET_S:
        forgotten = int((now - circuit.open_until) / FORGET_S)
        left = max(0, circuit.openings - forgotten)
        return circuit._replace(openings=left, open_until=circuit.open_until + forgotten * FORGET_S)
    return circuit


def after_answer(circuit: Circuit, now: float) -> Circuit:
    """It answered: a probe closes the circuit, and the slow start begins. While open: a request from before, which proves nothing."""
    circuit = at(circuit, now)
    if circuit.state == "open":
        return circuit
    if circuit.state == "closed":
        return circuit._replace(in_a_row=0)
    warm_s = min(SLOW_START_S, SLOW_PER_OPEN * open_s(circuit.openings))
    return Circuit(openings=circuit.openings, open_until=now, warm_at=now + warm_s, warm_s=warm_s)


def after_failure(
    circuit: Circuit,
    failure: Failure,
    now: float,
    *,
    answers: int,
    others_open: int,
    endpoints: int,
    asked_s: float = 0.0,
) -> Circuit:
    """It failed. `answers` were counted so far; `others_open` of the service's `endpoints` are not closed, without this one.

    `asked_s` is the Retry-After of its 503: it is left alone for so long, at most 30 s, which counts as no opening.
    """
    circuit = at(circuit, now)
    if circuit.state == "open":
        return circuit  # of a request that had been under way before
    if circuit.state == "half_open":
        return _opened(circuit, now)
    if now - circuit.window_at > WINDOW_S or not circuit.failures:
        circuit = circuit._replace(failures=0, window_at=now, answers_before=answers)
    circuit = circuit._replace(in_a_row=circuit.in_a_row + 1, failures=circuit.failures + 1)
    if others_open >= _most_open(failure, endpoints):
        return circuit
    if asked_s > 0.0:
        return circuit._replace(state="open", open_until=now + min(asked_s, OPEN_MOST_S))
    return _opened(circuit, now) if _is_outlier(circuit, failure, answers) else circuit


def after_hearsay(
    circuit: Circuit, now: float, until: float, *, answers_since: int, others_open: int, endpoints: int
) -> Circuit:
    """Another gateway leaves it alone `until` then. That is believed, as no opening of its own, where nothing known here speaks against it.

    What speaks against it: that it has answered since, that its circuit is not simply closed here, and that too many are open already.
    """
    circuit = at(circuit, now)
    if circuit.state != "closed" or answers_since > 0 or until <= now:
        return circuit
    if others_open >= _most_open("no_answer", endpoints):
        return circuit
    return circuit._replace(state="open", open_until=min(until, now + OPEN_MOST_S))


def is_plain(circuit: Circuit, now: float) -> bool:
    """Whether nothing in it matters any more."""
    idle = circuit.state == "closed" and not circuit.in_a_row and not circuit.openings
    return idle and now >= circuit.warm_at and now - circuit.window_at > WINDOW_S


def weight(circuit: Circuit, now: float) -> float:
    """The share of choices that a closed circuit's endpoint takes part in: 0.1 to 1."""
    if now >= circuit.warm_at:
        return 1.0
    return max(LEAST_WEIGHT, 1.0 - (circuit.warm_at - now) / circuit.warm_s)


def open_s(openings: int) -> float:
    """How long a circuit is open for the first, second, … time: 0.5 s, doubling to 30 s."""
    return min(OPEN_MOST_S, OPEN_FIRST_S * 2.0 ** min(openings - 1, 16)) if openings > 0 else 0.0


def _opened(circuit: Circuit, now: float) -> Circuit:
    openings = circuit.openings + 1
    return Circuit(state="open", openings=openings, open_until=now + open_s(openings))


def _is_outlier(circuit: Circuit, failure: Failure, answers: int) -> bool:
    if failure == "not_sent" or circuit.in_a_row >= FAILURES_IN_A_ROW:
        return True
    requests = circuit.failures + answers - circuit.answers_before
    return requests >= LEAST_REQUESTS and circuit.failures >= FAILURE_SHARE * requests


def _most_open(failure: Failure, endpoints: int) -> int:
    """How many of so many endpoints may be open at once."""
    if failure == "not_sent":
        return endpoints - 1
    return min(endpoints - 1, max(1, int(endpoints * MAX_OPEN_SHARE)))
