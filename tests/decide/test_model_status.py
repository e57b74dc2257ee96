"""What a user is told of the model: how far its load has come, and what failed."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from observed_components import (
    AT,
    CRASH,
    FIRST,
    LOOK,
    READY,
    SECOND,
    conditions,
    copies_of,
    failure_of,
    fetching,
    model_of,
    observed,
    pod,
    serving,
    sleeping,
    starting,
    status_of,
)
from worlds import NOW, service

from penstock.decide.status import Observed
from penstock.kit.timestamps import rfc3339
from penstock.resources.serving import FailureInfo, ModelStates


def failure_info(reason: str, message: str, **more: Any) -> FailureInfo:
    return FailureInfo(reason=reason, message=message, time=AT, **more)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (starting(), ("InProgress", ("", "Pending"), 0, 0)),
        (starting(pod(**fetching(running={}))), ("InProgress", ("", "Loading"), 0, 0)),
        (starting(pod(**serving(running={}))), ("InProgress", ("", "Pending"), 0, 0)),
        (starting(pod(**fetching(terminated=CRASH))), ("BlockedByFailedLoad", ("", "FailedToLoad"), 1, 0)),
        (observed(pod(**READY)), ("UpToDate", ("Loaded", "Loaded"), 0, 1)),
        (
            observed(pod(**READY), pod(SECOND, **serving(running={})), created=SECOND),
            ("InProgress", ("Loaded", "Pending"), 0, 1),
        ),
        (
            observed(pod(**READY), pod(SECOND, **fetching(terminated=CRASH)), created=SECOND),
            ("BlockedByFailedLoad", ("Loaded", "FailedToLoad"), 1, 1),
        ),
        (
            observed(pod(**READY), failure_reason="NoSupportingRuntime", failure="none"),
            ("InvalidSpec", ("Loaded", "Pending"), 0, 1),
        ),
        (starting(failure_reason="NoSupportingRuntime", failure="none"), ("InvalidSpec", None, 0, 0)),
    ],
    ids=[
        "no pods",
        "fetches",
        "starts",
        "fetch fails",
        "serves",
        "update",
        "update fails",
        "wrong update",
        "wrong",
    ],
)
def test_model_status(part: Observed, expected: tuple[Any, ...]) -> None:
    status = status_of(part)
    states = model_of(status).states
    told = (states.active_model_state, states.target_model_state) if states else None
    assert (model_of(status).transition_status, told, *copies_of(status)) == expected


def test_a_failed_load_names_its_revision_and_exit_code() -> None:
    failure = failure_of(status_of(starting(pod(**fetching(terminated=CRASH)))))
    message = f"the model could not be fetched: no memory; {LOOK} storage-initializer"
    assert failure == failure_info("ModelLoadFailed", message, model_revision_name=FIRST, exit_code=3)


def test_a_wrong_spec_is_told_in_the_words_of_the_decision() -> None:
    failure = failure_of(status_of(starting(failure_reason="NoSupportingRuntime", failure="none")))
    assert failure == failure_info("NoSupportingRuntime", "none")


def test_a_failure_is_forgotten_once_it_serves() -> None:
    before = status_of(starting(pod(**fetching(terminated=CRASH))))
    known = msgspec.structs.replace(service(), status=before)
    assert model_of(status_of(observed(pod(**READY)), known=known)).last_failure_info is None


def test_times_change_only_with_what_they_are_the_time_of() -> None:
    broken = starting(pod(**fetching(terminated=CRASH)))
    first = status_of(broken)
    known = msgspec.structs.replace(service(), status=first)
    assert status_of(broken, known=known, now=NOW + 60) == first
    worse = status_of(starting(pod(**fetching(terminated={"exitCode": 4}))), known=known, now=NOW + 60)
    assert failure_of(worse).time == rfc3339(NOW + 60)
    assert {c.last_transition_time for c in worse.conditions} == {AT}
    serves = status_of(observed(pod(**READY)), known=known, now=NOW + 60)
    assert {c.last_transition_time for c in serves.conditions} == {rfc3339(NOW + 60)}


def test_a_service_that_sleeps_until_it_is_asked_for_is_ready_and_stands_by() -> None:
    status = status_of(sleeping())
    assert conditions(status)["Ready"] == "True"
    assert model_of(status).states == ModelStates(active_model_state="Standby", target_model_state="Standby")


def test_of_a_revision_that_was_given_up_it_is_still_told_what_failed() -> None:
    crashed = starting(pod(**fetching(terminated=CRASH)))
    known = msgspec.structs.replace(service(), status=status_of(crashed))
    gone = dataclasses.replace(crashed, pods=(), given_up=frozenset({FIRST}))
    status = status_of(gone, known=known)
    [latest] = [c for c in status.conditions if c.type == "LatestDeploymentReady"]
    assert (latest.status, latest.reason) == ("False", "ProgressDeadlineExceeded")
    assert failure_of(known.status).message in latest.message
    assert model_of(status).transition_status == "BlockedByFailedLoad"
    assert failure_of(status) == failure_of(known.status)
