"""What a PodAutoscaler says of itself: Knative's table of wish, pods and what it was."""

from __future__ import annotations

import pytest

from penstock.decide.autoscaler_status import Activity, activity, conditions_of, threshold, was
from penstock.resources.autoscaler_settings import AutoscalerSettings
from penstock.resources.meta import Condition

ALL: tuple[Activity, ...] = ("active", "activating", "inactive")


@pytest.mark.parametrize(
    ("wanted", "ready", "least", "before", "becomes"),
    [
        (0, 3, 1, "activating", ("inactive", "TimedOut")),
        (0, 3, 1, "active", ("inactive", "NoTraffic")),
        (0, 0, 0, "activating", ("inactive", "NoTraffic")),
        (2, 0, 0, "active", ("inactive", "NoTraffic")),
        (2, 1, 2, "active", ("activating", "Queued")),
        (2, 2, 2, "inactive", ("active", "")),
        (-1, 1, 2, "inactive", ("inactive", "")),
        (-1, 1, 2, "active", ("activating", "Queued")),
        (-1, 2, 2, "inactive", ("inactive", "")),
        (-1, 2, 2, "active", ("active", "")),
        (-1, 1, 2, "activating", ("activating", "Queued")),
        (-1, 2, 0, "active", ("inactive", "NoTraffic")),
        (-1, 2, 2, "activating", ("active", "")),
    ],
)
def test_what_it_becomes(
    wanted: int, ready: int, least: int, before: Activity, becomes: tuple[Activity, str]
) -> None:
    assert activity(wanted, ready, least, before) == becomes


@pytest.mark.parametrize(
    ("least", "initial", "initialized", "pods"),
    [
        (0, 1, False, 1),
        (0, 3, False, 3),
        (0, 3, True, 1),
        (2, 0, False, 2),
        (0, 0, False, 0),
        (4, 1, True, 4),
    ],
)
def test_how_many_pods_make_it_active(least: int, initial: int, initialized: bool, pods: int) -> None:
    settings = AutoscalerSettings(min_scale=least, initial_scale=initial)
    assert threshold(settings, initialized=initialized) == pods


def test_a_revision_that_nobody_can_reach_has_no_lower_bound() -> None:
    settings = AutoscalerSettings(min_scale=4, initial_scale=2)
    assert threshold(settings, initialized=True, reachable=False) == 1
    assert threshold(settings, initialized=False, reachable=False) == 2


def told(
    state: tuple[Activity, str],
    ready: int = 1,
    *,
    refusal: str = "",
    before: tuple[Condition, ...] = (),
    now: float = 0.0,
) -> dict[str, Condition]:
    conditions = conditions_of(before, state, ready=ready, least=1, refusal=refusal, now=now)
    return {condition.type: condition for condition in conditions}


def test_ready_is_the_worse_of_being_active_and_having_been_ready() -> None:
    assert told(("active", ""))["Ready"].status == "True"
    waiting = told(("activating", "Queued"), 0)["Ready"]
    assert (waiting.status, waiting.reason) == ("Unknown", "Queued")
    assert waiting.message == "Requests to the target are being buffered as resources are provisioned."
    asleep = told(("inactive", "NoTraffic"), 0)["Active"]
    assert (asleep.status, asleep.message) == ("False", "The target is not receiving traffic.")
    assert told(("inactive", "TimedOut"), 0)["Active"].message == "The target could not be activated."


def test_while_nothing_is_decided_an_inactive_one_keeps_its_reason() -> None:
    before = tuple(told(("inactive", "TimedOut"), 0).values())
    after = told(("inactive", ""), 0, before=before)["Active"]
    assert (after.reason, after.message) == ("TimedOut", "The target could not be activated.")
    assert told(("inactive", ""), 0)["Active"].reason == "NoTraffic"


def test_what_was_ready_once_stays_initialized() -> None:
    before = tuple(told(("active", ""), 1).values())
    assert told(("inactive", "NoTraffic"), 0, before=before)["ScaleTargetInitialized"].status == "True"
    assert told(("activating", "Queued"), 0)["ScaleTargetInitialized"].status == "Unknown"


def test_that_fewer_can_be_placed_than_are_wanted_is_said_with_the_reason() -> None:
    room = told(("active", ""), refusal="5 are wanted, 2 can be placed: no device")["Schedulable"]
    assert (room.status, room.reason) == ("False", "InsufficientRoom")
    assert "2 can be placed" in room.message
    assert told(("active", ""))["Schedulable"].status == "True"


def test_times_change_only_with_the_status() -> None:
    before = tuple(told(("active", ""), now=1000.0).values())
    after = told(("active", ""), before=before, now=2000.0)
    assert after["Active"].last_transition_time == "1970-01-01T00:16:40Z"
    changed = told(("inactive", "NoTraffic"), before=before, now=2000.0)
    assert changed["Active"].last_transition_time == "1970-01-01T00:33:20Z"


@pytest.mark.parametrize(
    ("status", "state"), [("True", "active"), ("False", "inactive"), ("Unknown", "activating")]
)
def test_a_restart_remembers_what_it_was(status: str, state: str) -> None:
    assert was((Condition(type="Active", status=status),)) == state
    assert was(()) == "activating"
