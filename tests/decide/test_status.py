"""What a user is told: one truth in conditions and modelStatus, and the words of what failed."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import msgspec
import pytest
from observed_components import (
    AT,
    CRASH,
    LOOK,
    OWN_CODE,
    READY,
    SECOND,
    URL,
    conditions,
    copies_of,
    fetching,
    model_of,
    observed,
    pod,
    ready_of,
    serving,
    sleeping,
    starting,
    status_of,
)
from worlds import service

from penstock.decide.status import STUCK_REASONS, Observed
from penstock.decide.workload import ComponentName
from penstock.resources.meta import Condition
from penstock.resources.pod import Pod
from penstock.resources.serving import (
    Addressable,
    ComponentStatus,
    ModelCopies,
    ModelStates,
    ModelStatus,
    TrafficTarget,
)


def test_everything_about_a_service_that_serves() -> None:
    known = msgspec.structs.replace(
        service(), metadata=msgspec.structs.replace(service().metadata, generation=7)
    )
    status = status_of(observed(pod(**READY)), known=known)
    assert conditions(status) == {
        "IngressReady": "True", "LatestDeploymentReady": "True", "PredictorReady": "True", "Ready": "True"
    }  # fmt: skip
    assert all((c.reason, c.message, c.last_transition_time) == ("", "", AT) for c in status.conditions)
    assert [c.type for c in status.conditions] == sorted(c.type for c in status.conditions)
    assert (status.observed_generation, status.url, status.address) == (7, URL, Addressable(url=URL))
    assert (status.serving_runtime_name, status.cluster_serving_runtime_name) == ("", "r")
    assert status.components["predictor"].url == URL
    assert status.components["predictor"].traffic[0].percent == 100
    assert status.model_status == ModelStatus(
        transition_status="UpToDate",
        states=ModelStates(active_model_state="Loaded", target_model_state="Loaded"),
        copies=ModelCopies(failed_copies=0, total_copies=1),
    )


def part(name: ComponentName, status: str) -> Observed:
    """A component whose condition has this status."""
    if status == "False":
        return observed(name=name, failure_reason=f"{name} fails", failure="why")
    return observed(name=name) if status == "True" else starting(name=name)


@pytest.mark.parametrize(
    ("predictor", "transformer"), list(itertools.product(("True", "Unknown", "False"), repeat=2))
)
def test_ready_is_the_worst_of_its_components_and_of_the_ingress(predictor: str, transformer: str) -> None:
    known = service(transformer=OWN_CODE)
    status = status_of(part("predictor", predictor), part("transformer", transformer), known=known)
    seen = conditions(status)
    assert (seen.pop("PredictorReady"), seen.pop("TransformerReady")) == (predictor, transformer)
    seen.pop("LatestDeploymentReady")
    worst = min(predictor, transformer, key=("False", "Unknown", "True").index)
    assert seen == {"IngressReady": worst, "Ready": worst}
    if worst == "False":
        failing = "predictor" if predictor == "False" else "transformer"
        assert (ready_of(status).reason, ready_of(status).message) == (f"{failing} fails", "why")


def test_of_a_component_that_was_removed_only_the_last_revision_is_told() -> None:
    gone = Observed("transformer", ComponentStatus(latest_created_revision="iris-transformer-00003"), (), ())
    status = status_of(observed(pod(**READY)), gone)
    assert conditions(status) == {
        "IngressReady": "True", "LatestDeploymentReady": "True", "PredictorReady": "True", "Ready": "True"
    }  # fmt: skip
    assert status.components["transformer"] == gone.rollout


def test_a_stopped_service_says_so() -> None:
    known = service(annotations={"serving.kserve.io/stop": "true"})
    status = status_of(starting(), known=known)
    assert conditions(status) == {
        "IngressReady": "False",
        "PredictorReady": "False",
        "Ready": "False",
        "Stopped": "True",
    }
    ready = ready_of(status)
    assert (ready.reason, ready.message) == ("Stopped", "annotation serving.kserve.io/stop is set")


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (observed(), "True"),
        (observed(created=SECOND), "True"),
        (observed(percent=0), "Unknown"),
        (observed(ready=False), "Unknown"),
        (starting(), "Unknown"),
    ],
    ids=["serves", "the one before serves", "serves no share", "serves with no pods", "starts"],
)
def test_a_component_is_ready_while_a_revision_with_traffic_is(part: Observed, expected: str) -> None:
    assert conditions(status_of(part))["PredictorReady"] == expected


UNPLACED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"}


def waits(reason: str, message: str = "") -> dict[str, str]:
    return {"reason": reason, "message": message}


@pytest.mark.parametrize(
    ("how", "reason", "message"),
    [
        (
            serving(CRASH, waiting=waits("CrashLoopBackOff", "back-off")),
            "CrashLoopBackOff",
            f"container main does not stay up: back-off; exit code 3; no memory; {LOOK} main",
        ),
        (
            serving(terminated=CRASH),
            "Error",
            f"container main does not stay up: no memory; {LOOK} main",
        ),
        (
            serving(terminated={"exitCode": 137}),
            "Error",
            f"container main does not stay up: exit code 137; {LOOK} main",
        ),
        (serving(waiting=waits("ErrImageNeverPull", "no program")), "ErrImageNeverPull", "no program"),
        (serving(waiting=waits("CreateContainerError", "no room")), "CreateContainerError", "no room"),
        (
            fetching(terminated={"exitCode": 1, "message": "404"}),
            "ModelLoadFailed",
            f"the model could not be fetched: 404; {LOOK} storage-initializer",
        ),
        (
            fetching(CRASH, waiting=waits("CrashLoopBackOff")),
            "ModelLoadFailed",
            f"the model could not be fetched: exit code 3; no memory; {LOOK} storage-initializer",
        ),
        ({"conditions": [UNPLACED]}, "Unschedulable", "no GPU"),
    ],
    ids=[
        "loops",
        "ended",
        "ended silently",
        "no program",
        "not made",
        "not fetched",
        "fetch loops",
        "no place",
    ],
)
def test_why_it_does_not_start(how: dict[str, Any], reason: str, message: str) -> None:
    ready = ready_of(status_of(starting(pod(**how))))
    assert (ready.status, ready.reason, ready.message) == ("False", reason, message)


@pytest.mark.parametrize("reason", STUCK_REASONS)
def test_each_reason_to_be_stuck_makes_it_not_ready(reason: str) -> None:
    assert ready_of(status_of(starting(pod(**serving(waiting={"reason": reason}))))).reason == reason


@pytest.mark.parametrize(
    "how",
    [
        serving(waiting={"reason": "ContainerCreating"}),
        serving(running={}),
        serving(terminated={"exitCode": 0}),
        fetching(terminated={"exitCode": 0}),
        {"conditions": [{"type": "PodScheduled", "status": "True"}]},
    ],
    ids=["made", "runs", "ended well", "fetched", "placed"],
)
def test_what_only_takes_time_is_no_failure(how: dict[str, Any]) -> None:
    status = status_of(starting(pod(**how)))
    assert ready_of(status).status == "Unknown"
    assert model_of(status).transition_status == "InProgress"


@pytest.mark.parametrize(
    "other",
    [pod(SECOND, **serving(terminated=CRASH)), pod(deleted=True, **serving(terminated=CRASH))],
    ids=["another revision's", "being deleted"],
)
def test_the_end_of_a_pod_that_is_not_wanted_any_more_is_no_failure(other: Pod) -> None:
    status = status_of(starting(other))
    assert ready_of(status).status == "Unknown"
    assert model_of(status).transition_status == "InProgress"
    assert copies_of(status) == (0, 0)


@pytest.mark.parametrize(
    ("type_", "status", "reason", "tells"),
    [
        ("Progressing", "False", "ProgressDeadlineExceeded", True),
        ("ReplicaFailure", "True", "FailedCreate", True),
        ("Progressing", "True", "ReplicaSetUpdated", False),
    ],
    ids=["too late", "no pods", "goes on"],
)
def test_what_the_deployment_says_of_the_newest_revision(
    type_: str, status: str, reason: str, tells: bool
) -> None:
    condition = Condition(type=type_, status=status, reason=reason, message="m")
    assert ready_of(status_of(starting(condition=condition))).reason == (reason if tells else "")


def test_a_service_that_sleeps_is_ready_also_while_a_newer_revision_fails() -> None:
    stuck = pod(SECOND, **serving(waiting={"reason": "CrashLoopBackOff", "message": "back-off"}))
    asleep = sleeping(stuck)
    rollout = msgspec.structs.replace(asleep.rollout, latest_created_revision=SECOND)
    said = conditions(status_of(dataclasses.replace(asleep, rollout=rollout)))
    assert (said["Ready"], said["LatestDeploymentReady"]) == ("True", "False")


def test_a_service_that_cannot_wake_says_why() -> None:
    stuck = pod(**serving(waiting={"reason": "CrashLoopBackOff", "message": "back-off"}))
    assert conditions(status_of(sleeping(stuck)))["Ready"] == "False"


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"rolled_back": "errorRate: too many"}, "RolledBack", "errorRate: too many"),
        (
            {"failure": "no runtime", "failure_reason": "NoSupportingRuntime"},
            "NoSupportingRuntime",
            "no runtime",
        ),
        ({}, "", "iris-predictor-00002 is not ready yet"),
    ],
)
def test_while_the_newest_revision_cannot_serve_it_is_said_why_and_who_keeps_the_traffic(
    change: dict[str, Any], reason: str, words: str
) -> None:
    rollout = ComponentStatus(
        latest_created_revision="iris-predictor-00002",
        latest_ready_revision="iris-predictor-00001",
        latest_rolledout_revision="iris-predictor-00001",
    )
    status = status_of(Observed("predictor", rollout, (), (), **change))
    [latest] = [c for c in status.conditions if c.type == "LatestDeploymentReady"]
    assert (latest.status, latest.reason) == ("False" if reason else "Unknown", reason)
    assert latest.message == f"{words}; iris-predictor-00001 keeps the traffic"


def test_a_revision_with_a_tag_has_an_address_of_its_own() -> None:
    old, new = (
        TrafficTarget(revision_name="r1", percent=90, tag="prev"),
        TrafficTarget(revision_name="r2", percent=10),
    )
    seen = Observed("predictor", ComponentStatus(traffic=(new, old)), (), ())
    for known, name in ((service(), "prev-iris"), (service(transformer=OWN_CODE), "prev-iris-predictor")):
        others = () if name == "prev-iris" else (part("transformer", "True"),)
        traffic = status_of(seen, *others, known=known).components["predictor"].traffic
        assert [t.url for t in traffic] == [None, f"{URL.rpartition('/')[0]}/{name}"]
