"""What a user is told: one truth in conditions and modelStatus, and the words of what failed."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import msgspec
import pytest
from worlds import NOW, offers, runtime, service, stored

from penstock.decide.plan import Surroundings, plan_service
from penstock.decide.status import STUCK_REASONS, Observed, service_status
from penstock.decide.workload import ComponentName
from penstock.kit.timestamps import rfc3339
from penstock.resources.meta import Condition
from penstock.resources.pod import Pod
from penstock.resources.serving import (
    Addressable,
    ComponentStatus,
    FailureInfo,
    InferenceService,
    InferenceServiceStatus,
    ModelCopies,
    ModelStates,
    ModelStatus,
    TrafficTarget,
)
from penstock.resources.workload import Deployment

URL = "http://127.0.0.1:8080/serving/default/iris"
FIRST, SECOND = "iris-predictor-00001", "iris-predictor-00002"
OWN_CODE = {"containers": [{"name": "kserve-container", "image": "mine"}]}
AT = rfc3339(NOW)
LOOK = "see: kubectl logs -n default p -c"


def deployment(name: str = FIRST, *, ready: bool = True, condition: Condition | None = None) -> Deployment:
    plan = plan_service(
        service(), Surroundings("x:1", cluster_runtimes=(runtime("r", offers("huggingface")),)), NOW
    )
    made = plan.components[0].rollout.create
    assert made is not None
    known = stored(made, ready=ready)
    conditions = (*known.status.conditions, *((condition,) if condition else ()))
    return msgspec.structs.replace(
        known,
        metadata=msgspec.structs.replace(known.metadata, name=name),
        status=msgspec.structs.replace(known.status, conditions=conditions),
    )


def pod(revision: str = FIRST, *, deleted: bool = False, **status: Any) -> Pod:
    metadata: dict[str, Any] = {
        "name": "p",
        "namespace": "default",
        "labels": {"penstock.dev/revision": revision},
    }
    if deleted:
        metadata["deletionTimestamp"] = "2025-06-15T00:00:00Z"
    return msgspec.convert({"metadata": metadata, "status": status}, Pod)


def container(name: str, last: dict[str, Any] | None, **state: Any) -> list[dict[str, Any]]:
    last_state = {"terminated": last} if last else {}
    fixed = {"name": name, "ready": False, "restartCount": 0, "image": "i"}
    return [{**fixed, "state": state, "lastState": last_state}]


def serving(last: dict[str, Any] | None = None, **state: Any) -> dict[str, Any]:
    return {"containerStatuses": container("main", last, **state)}


def fetching(last: dict[str, Any] | None = None, **state: Any) -> dict[str, Any]:
    return {"initContainerStatuses": container("storage-initializer", last, **state)}


READY: dict[str, Any] = {"conditions": [{"type": "Ready", "status": "True"}]}


def observed(
    *pods: Pod,
    name: ComponentName = "predictor",
    ready: bool = True,
    created: str = FIRST,
    serves: str = FIRST,
    percent: int = 100,
    condition: Condition | None = None,
    **failure: Any,
) -> Observed:
    """A component whose newest revision is `created`, and where `serves` ("": none) gets `percent` of the traffic."""
    targets = (TrafficTarget(revision_name=serves, percent=percent),) if serves else ()
    rollout = ComponentStatus(latest_created_revision=created, latest_ready_revision=serves, traffic=targets)
    deployments: tuple[Deployment, ...] = (deployment(serves, ready=ready),) if serves else ()
    if created != serves:
        deployments += (deployment(created, ready=False, condition=condition),)
    return Observed(name, rollout, deployments, pods, **failure)


def starting(*pods: Pod, **how: Any) -> Observed:
    return observed(*pods, serves="", **how)


def status_of(
    *parts: Observed, known: InferenceService | None = None, now: float = NOW
) -> InferenceServiceStatus:
    return service_status(
        known or service(), parts, url=URL, runtime_name="", cluster_runtime_name="r", now=now
    )


def conditions(status: InferenceServiceStatus) -> dict[str, str]:
    return {condition.type: condition.status for condition in status.conditions}


def model_of(status: InferenceServiceStatus) -> ModelStatus:
    assert status.model_status is not None
    return status.model_status


def failure_of(status: InferenceServiceStatus) -> FailureInfo:
    info = model_of(status).last_failure_info
    assert info is not None
    return info


def copies_of(status: InferenceServiceStatus) -> tuple[int, int | None]:
    """Failed ones, and all."""
    copies = model_of(status).copies
    assert copies is not None
    return copies.failed_copies, copies.total_copies


def ready_of(status: InferenceServiceStatus) -> Condition:
    [condition] = [c for c in status.conditions if c.type == "Ready"]
    return condition


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


CRASH = {"exitCode": 3, "message": " no memory \n"}
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


def sleeping(*pods: Pod) -> Observed:
    part = observed(*pods, ready=False)
    return Observed(part.name, part.rollout, part.deployments, part.pods, standby=frozenset({FIRST}))


def test_a_service_that_sleeps_until_it_is_asked_for_is_ready_and_stands_by() -> None:
    status = status_of(sleeping())
    assert conditions(status)["Ready"] == "True"
    assert model_of(status).states == ModelStates(active_model_state="Standby", target_model_state="Standby")


def test_a_service_that_sleeps_is_ready_also_while_a_newer_revision_fails() -> None:
    stuck = pod(SECOND, **serving(waiting={"reason": "CrashLoopBackOff", "message": "back-off"}))
    asleep = sleeping(stuck)
    rollout = msgspec.structs.replace(asleep.rollout, latest_created_revision=SECOND)
    said = conditions(status_of(dataclasses.replace(asleep, rollout=rollout)))
    assert (said["Ready"], said["LatestDeploymentReady"]) == ("True", "False")


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
