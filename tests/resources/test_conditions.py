"""A condition's time of transition moves only with its status."""

from __future__ import annotations

from penstock.resources.conditions import dated
from penstock.resources.meta import Condition

BEFORE = (Condition(type="Ready", status="True", reason="A", last_transition_time="2026-01-01T00:00:00Z"),)


def test_another_reason_keeps_the_time_and_another_status_or_type_does_not() -> None:
    kept = dated(Condition(type="Ready", status="True", reason="B"), BEFORE, 0.0)
    assert (kept.reason, kept.last_transition_time) == ("B", "2026-01-01T00:00:00Z")
    assert (
        dated(Condition(type="Ready", status="False"), BEFORE, 0.0).last_transition_time
        == "1970-01-01T00:00:00Z"
    )
    assert (
        dated(Condition(type="Active", status="True"), BEFORE, 0.0).last_transition_time
        == "1970-01-01T00:00:00Z"
    )


def test_what_somebody_wrote_without_a_time_gets_one() -> None:
    undated = (Condition(type="Ready", status="True"),)
    assert (
        dated(Condition(type="Ready", status="True"), undated, 0.0).last_transition_time
        == "1970-01-01T00:00:00Z"
    )
