"""Circuits of endpoints: when they open, for how long, and how requests come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.breaker import (
    CLOSED,
    FAILURES_IN_A_ROW,
    FORGET_S,
    LEAST_WEIGHT,
    OPEN_FIRST_S,
    OPEN_MOST_S,
    SLOW_START_S,
    WINDOW_S,
    Circuit,
    after_answer,
    after_failure,
    after_hearsay,
    at,
    is_plain,
    open_s,
    weight,
)
from penstock.decide.retry import Failure


def fail(
    circuit: Circuit,
    now: float,
    failure: Failure = "no_answer",
    *,
    answers: int = 0,
    others: int = 0,
    of: int = 4,
    asked_s: float = 0.0,
) -> Circuit:
    return after_failure(
        circuit, failure, now, answers=answers, others_open=others, endpoints=of, asked_s=asked_s
    )


def test_five_failures_in_a_row_open_it_and_an_answer_between_starts_the_count_again() -> None:
    circuit = CLOSED
    for _ in range(FAILURES_IN_A_ROW - 1):
        circuit = fail(circuit, 100.0)
    assert circuit.state == "closed"
    assert fail(circuit, 100.0).state == "open"
    assert fail(after_answer(circuit, 100.0), 100.0).state == "closed"


def test_a_refused_connection_opens_it_at_once() -> None:
    assert fail(CLOSED, 0.0, "not_sent").state == "open"


@pytest.mark.parametrize(("failing_of_40", "state"), [(16, "closed"), (24, "open")])
def test_half_of_the_requests_of_ten_seconds_failing_opens_it(failing_of_40: int, state: str) -> None:
    circuit, answers, owed = CLOSED, 5_000, 0.0  # what was answered before the window does not count
    for number in range(40):
        now = 100.0 + number * 0.2
        owed += failing_of_40 / 40
        if owed >= 1.0:
            owed -= 1.0
            circuit = fail(circuit, now, answers=answers)
        else:
            answers += 1
            circuit = after_answer(circuit, now)
    assert circuit.state == state


def test_failures_that_lie_far_apart_never_open_it() -> None:
    circuit = CLOSED
    for number in range(200):
        now = number * (WINDOW_S + 1)
        circuit = after_answer(fail(circuit, now, answers=number), now)
    assert circuit.state == "closed"


def test_an_open_circuit_probes_when_its_time_is_over_and_the_probe_decides() -> None:
    opened = fail(CLOSED, 10.0, "not_sent")
    assert at(opened, 10.0 + OPEN_FIRST_S - 0.01).state == "open"
    probing = at(opened, 10.0 + OPEN_FIRST_S)
    assert probing.state == "half_open"
    again = fail(probing, 11.0)
    assert (again.state, again.open_until) == ("open", 11.0 + 2 * OPEN_FIRST_S)
    closed = after_answer(probing, 11.0)
    assert (closed.state, weight(closed, 11.0)) == ("closed", LEAST_WEIGHT)


def test_what_was_under_way_when_it_opened_changes_nothing() -> None:
    opened = fail(CLOSED, 10.0, "not_sent")
    assert after_answer(opened, 10.1) == opened
    assert fail(opened, 10.1) == opened


def test_it_opens_longer_each_time_up_to_half_a_minute_and_forgets_one_time_in_each_half_minute_of_peace() -> (
    None
):
    times = [open_s(n) for n in range(12)]
    assert times[:4] == [0.0, 0.5, 1.0, 2.0]
    assert times == sorted(times)
    assert times[-1] == OPEN_MOST_S
    closed = after_answer(Circuit(state="half_open", openings=3), 100.0)
    assert at(closed, 100.0 + FORGET_S - 1).openings == 3
    assert at(closed, 100.0 + FORGET_S).openings == 2
    assert at(at(closed, 100.0 + FORGET_S), 100.0 + 2 * FORGET_S).openings == 1
    assert is_plain(at(closed, 100.0 + 3 * FORGET_S), 100.0 + 3 * FORGET_S)


@pytest.mark.parametrize(("openings", "warm_s"), [(0, 0.0), (1, 5.0), (2, 10.0), (3, 20.0), (9, 30.0)])
def test_a_slow_start_is_as_long_as_the_outage_was_grave(openings: int, warm_s: float) -> None:
    closed = after_answer(Circuit(state="half_open", openings=openings), 100.0)
    assert closed.warm_at == 100.0 + warm_s
    assert weight(closed, 100.0) == (LEAST_WEIGHT if warm_s else 1.0)
    assert weight(closed, 100.0 + warm_s / 2) == (0.5 if warm_s else 1.0)


def test_the_share_of_an_endpoint_that_starts_slowly_rises_evenly() -> None:
    warming = Circuit(warm_at=100.0 + SLOW_START_S)
    shares = [weight(warming, 100.0 + SLOW_START_S * part) for part in (0.0, 0.05, 0.25, 0.5, 1.0, 2.0)]
    assert shares == pytest.approx([0.1, 0.1, 0.25, 0.5, 1.0, 1.0])
    assert weight(CLOSED, 0.0) == 1.0


@pytest.mark.parametrize(
    ("failure", "endpoints", "most_open"),
    [
        ("no_answer", 1, 0),
        ("no_answer", 2, 1),
        ("no_answer", 3, 1),
        ("no_answer", 10, 5),
        ("not_sent", 1, 0),
        ("not_sent", 2, 1),
        ("not_sent", 10, 9),
    ],
)
def test_failures_take_at_most_half_of_the_endpoints_and_refused_connections_never_the_last(
    failure: Failure, endpoints: int, most_open: int
) -> None:
    opened = 0
    for _ in range(endpoints):
        circuit = CLOSED
        for _ in range(20):
            circuit = fail(circuit, 50.0, failure, others=opened, of=endpoints)
        opened += circuit.state == "open"
    assert opened == most_open


def test_one_that_asks_to_be_left_alone_is_and_that_counts_as_no_opening() -> None:
    asked = fail(CLOSED, 10.0, "status_503", asked_s=3.0)
    assert (asked.state, asked.open_until, asked.openings) == ("open", 13.0, 0)
    assert fail(CLOSED, 10.0, "status_503", asked_s=3600.0).open_until == 10.0 + OPEN_MOST_S
    assert fail(CLOSED, 10.0, "status_503", asked_s=3.0, of=1).state == "closed", (
        "there is nowhere else to go"
    )


STEPS = st.lists(
    st.tuples(
        st.floats(0, 20),
        st.sampled_from(["answer", "no_answer", "not_sent", "status_503"]),
        st.integers(0, 3),
    ),
    max_size=60,
)


@given(STEPS)
def test_no_history_opens_it_beyond_half_a_minute_or_as_one_too_many(
    steps: list[tuple[float, str, int]],
) -> None:
    circuit, now, answers = CLOSED, 0.0, 0
    for wait_s, event, others in steps:
        now += wait_s
        before = at(circuit, now)
        if event == "answer":
            answers += 1
            circuit = after_answer(before, now)
            assert circuit.state == ("open" if before.state == "open" else "closed")
        else:
            circuit = fail(circuit, now, event, answers=answers, others=others)  # type: ignore[arg-type]
            if circuit.state == "open" and before.state == "closed":
                assert others < 3
        assert circuit.open_until <= now + OPEN_MOST_S
        assert LEAST_WEIGHT <= weight(circuit, now) <= 1.0
        assert at(at(circuit, now), now) == at(circuit, now)
    later = now + OPEN_MOST_S + FORGET_S * (len(steps) + 1)
    assert at(circuit, later).state != "open", "nothing is open for ever"


def test_another_gateways_word_opens_a_circuit_that_nothing_speaks_against_and_counts_as_no_opening() -> None:
    believed = after_hearsay(CLOSED, 10.0, 14.0, answers_since=0, others_open=0, endpoints=4)
    assert (believed.state, believed.open_until, believed.openings) == ("open", 14.0, 0)
    probed = after_answer(at(believed, 14.0), 14.0)
    assert weight(probed, 14.0) == 1.0


@pytest.mark.parametrize(
    ("circuit", "until", "answers", "others", "endpoints"),
    [
        (CLOSED, 14.0, 1, 0, 4),
        (CLOSED, 10.0, 0, 0, 4),
        (CLOSED, 14.0, 0, 2, 4),
        (CLOSED, 14.0, 0, 0, 1),
        (Circuit(state="open", openings=1, open_until=11.0), 14.0, 0, 0, 4),
        (Circuit(state="half_open", openings=1, open_until=9.0), 14.0, 0, 0, 4),
    ],
)
def test_another_gateways_word_changes_nothing_where_this_one_knows_better(
    circuit: Circuit, until: float, answers: int, others: int, endpoints: int
) -> None:
    after = after_hearsay(
        circuit, 10.0, until, answers_since=answers, others_open=others, endpoints=endpoints
    )
    assert after is circuit


def test_no_word_leaves_an_endpoint_alone_for_longer_than_half_a_minute() -> None:
    believed = after_hearsay(CLOSED, 10.0, 1e9, answers_since=0, others_open=0, endpoints=4)
    assert believed.open_until == 10.0 + OPEN_MOST_S
