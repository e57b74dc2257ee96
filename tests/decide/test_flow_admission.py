"""Who finds all endpoints full waits, is held back, or is refused: each for one reason, with a name."""

from __future__ import annotations

from math import inf

import pytest

from penstock.contracts.exchange import FlowRoute, PromptClassRoute
from penstock.decide.admission import DROPPED, Hold, Queued, gave_up, held_back, takes_place
from penstock.decide.saturation import Space

FLOW = FlowRoute(max_requests=10, max_bytes=1000)


@pytest.mark.parametrize(
    ("queued", "outranks", "outcome"),
    [
        (Queued(0, 0, 0, 0), False, "wait"),
        (Queued(9, 900, 9, 900), False, "wait"),
        (Queued(10, 0, 10, 0), True, "priority_full"),
        (Queued(9, 901, 9, 901), True, "priority_bytes_full"),
        (Queued(0, 0, 20, 0), True, "displaced"),
        (Queued(0, 0, 20, 0), False, "queue_full"),
        (Queued(0, 0, 5, 950), True, "displaced"),
        (Queued(0, 0, 5, 950), False, "queue_full"),
    ],
)
def test_a_place_in_the_line_is_bounded_by_number_and_bytes_of_each_priority_and_of_all(
    queued: Queued, outranks: bool, outcome: str
) -> None:
    admission = takes_place(FLOW, queued, 100, max_waiting=20, outranks=outranks)
    assert admission.outcome == outcome
    assert outcome == "wait" or (admission.message and admission.retry_after_s > 0 and outcome in DROPPED)


def test_a_body_that_is_larger_than_the_bound_may_wait_alone() -> None:
    assert takes_place(FLOW, Queued(0, 0, 0, 0), 5000, max_waiting=20, outranks=False).outcome == "wait"


ROOM = Space(10.0, 1e5, 0.5)
NO_LIMITS = PromptClassRoute()


@pytest.mark.parametrize(
    ("priority", "space", "limits", "lacks_budget", "hold"),
    [
        (0, ROOM, NO_LIMITS, False, ""),
        (0, Space(inf, inf, 0.0), NO_LIMITS, False, ""),
        (9, Space(0.5, 1e5, 1.0), NO_LIMITS, False, "saturated"),
        (9, Space(10.0, 0.0, 1.0), NO_LIMITS, False, "saturated"),
        (-1, Space(10.0, 1e5, 0.81), NO_LIMITS, False, "kept_free"),
        (0, Space(10.0, 1e5, 0.81), NO_LIMITS, False, ""),
        (-1, Space(10.0, 1e5, 0.79), NO_LIMITS, False, ""),
        (0, ROOM, PromptClassRoute(max_requests=3), False, "class_full"),
        (0, ROOM, PromptClassRoute(max_tokens=2_500), False, "class_full"),
        (0, ROOM, PromptClassRoute(max_requests=4, max_tokens=3_500), False, ""),
        (0, ROOM, NO_LIMITS, True, "cold"),
    ],
)
def test_a_request_is_held_back_by_the_first_thing_that_it_lacks(
    priority: int, space: Space, limits: PromptClassRoute, lacks_budget: bool, hold: Hold
) -> None:
    assert held_back(priority, 1_000.0, space, limits, (3, 2_000.0), lacks_budget=lacks_budget) == hold


@pytest.mark.parametrize("is_callers", [True, False])
@pytest.mark.parametrize("hold", ["", "saturated", "kept_free", "class_full", "cold"])
def test_who_waited_in_vain_is_told_for_what_and_how_long(hold: Hold, is_callers: bool) -> None:
    told = gave_up("default/m", hold, 12.34567, is_callers=is_callers)
    assert told.outcome == ("deadline_passed" if is_callers else "waited_too_long")
    assert "12.3 s for default/m" in told.message
    assert DROPPED[told.outcome] == "rejected-ttl-expired"
