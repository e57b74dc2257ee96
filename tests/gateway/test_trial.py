"""A routing profile that is seen to be worse is tried no longer; one that is not, goes on."""

from __future__ import annotations

from random import Random

import pytest
from routed_calls import answer, call, prompt, router, send

from penstock.gateway.telemetry.metrics import Telemetry
from penstock.gateway.telemetry.records import Records
from penstock.gateway.trial import LOOK_AFTER, Trial
from penstock.kit.clock import SystemClock

MANY = 3_000


def play(*, slower: float = 1.0, failing: float = 0.0) -> tuple[Trial, int]:
    """The trial after many requests, a fifth of them the candidate's, and after how many it ended."""
    chance, trial = Random("trial"), Trial()
    for number in range(MANY):
        tried = chance.random() < 0.2
        took_s = chance.lognormvariate(-1.0, 0.5) * (slower if tried else 1.0)
        if trial.ended(is_tried=tried, failed=tried and chance.random() < failing, first_byte_s=took_s):
            return trial, number
    return trial, MANY


def test_a_candidate_that_is_no_worse_goes_on() -> None:
    for slower in (1.0, 0.5):
        trial, after = play(slower=slower)
        assert (trial.verdict, after) == ("", MANY)


def test_a_candidate_that_is_slower_is_withdrawn_soon_and_in_words() -> None:
    trial, after = play(slower=3.0)
    assert after < MANY / 2
    assert trial.verdict.startswith("ttft at most 1.25 times the stable one's quantile 0.95")
    assert not trial.ended(is_tried=True, failed=True, first_byte_s=0.0)


def test_a_candidate_whose_requests_fail_is_withdrawn_soon() -> None:
    trial, after = play(failing=0.2)
    assert after < MANY / 2
    assert trial.verdict.startswith("errorRate")


def test_a_profile_that_is_withdrawn_routes_nothing_more_and_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    telemetry = Telemetry()
    records = Records(telemetry, SystemClock())
    by = router(profile="old", candidate=router(profile="new").service.routing, candidate_percent=50)
    seen = []
    for number in range(60 * LOOK_AFTER):
        one = call(f"r{number}")
        send(records.explained, by, one, prompt(number, tokens=32))
        answer(by, one, 11.0)
        assert one.trail is not None
        if one.trail.is_tried:
            one.respond.status = 500
        seen.append(one.trail.profile)
        records.finished(one, 11.0)
    assert set(seen[: 2 * LOOK_AFTER]) == {"old", "new"}
    assert set(seen[-LOOK_AFTER:]) == {"old"}
    assert telemetry.profiles_withdrawn.row("default", "m", "new") == [1]
    assert "the routing profile new is no longer tried: errorRate" in caplog.text


def test_callers_mistakes_and_those_who_leave_say_nothing_of_a_profile() -> None:
    records = Records(Telemetry(), SystemClock())
    by = router(profile="old", candidate=router(profile="new").service.routing, candidate_percent=50)
    for number in range(20 * LOOK_AFTER):
        one = call(f"r{number}")
        send(records.explained, by, one, prompt(number, tokens=32))
        answer(by, one, 11.0)
        assert one.trail is not None
        if one.trail.is_tried:
            one.respond.status, one.error = (400, "") if number % 2 else (200, "cancelled")
        records.finished(one, 11.0)
    assert by.profiles.trial is not None
    assert by.profiles.trial.verdict == ""
