from typing import Any

import pytest

from penstock.host.api.columns import columns_of
from penstock.host.api.durations import human_duration
from penstock.resources.pod import Pod
from penstock.resources.scheme import KINDS, find, kind_of

NOW_S = 1_800_000_000.0
START = "2027-01-15T07:00:00Z"


def cells(api_version: str, kind: str, document: dict[str, Any]) -> dict[str, Any]:
    found = find(api_version, kind)
    assert found is not None
    return {column.name: column.cell({"metadata": {}, **document}, NOW_S) for column in columns_of(found)}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "<invalid>"), (-0.5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (130, "2m10s"), (599, "9m59s"),
        (600, "10m"), (10799, "179m"), (10800, "3h"), (12060, "3h21m"), (28800, "8h"), (172799, "47h"),
        (172800, "2d"), (180000, "2d2h"), (691200, "8d"), (63071999, "729d"), (63072000, "2y"), (63158400, "2y1d"),
        (315360000, "10y"),
    ],
)  # fmt: skip
def test_durations_are_written_as_kubectl_writes_them(seconds: float, shown: str) -> None:
    assert human_duration(seconds) == shown


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_column_can_be_read_from_an_object_that_has_nothing(kind: Any) -> None:
    row = [column.cell({"metadata": {"name": "a"}}, NOW_S) for column in columns_of(kind)]
    assert "a" in row


def test_a_service_shows_where_it_is_and_who_gets_the_traffic() -> None:
    traffic = [
        {"revisionName": "a-00002", "latestRevision": True, "percent": 20},
        {"revisionName": "a-00001", "latestRevision": False, "percent": 80, "tag": "prev"},
    ]
    predictor = {"traffic": traffic, "latestReadyRevision": "a-00002", "previousRolledoutRevision": "a-00001"}
    status = {
        "url": "http://here/a",
        "conditions": [{"type": "Ready", "status": "True"}],
        "components": {"predictor": predictor},
        "clusterServingRuntimeName": "penstock-cpu",
    }
    shown = cells("serving.kserve.io/v1beta1", "InferenceService", {"status": status})
    assert (shown["URL"], shown["Ready"], shown["Prev"], shown["Latest"]) == ("http://here/a", "True", 80, 20)
    assert (shown["PrevRolledoutRevision"], shown["LatestReadyRevision"]) == ("a-00001", "a-00002")
    assert shown["Runtime"] == "penstock-cpu"


def waiting(reason: str) -> dict[str, Any]:
    return {"name": "main", "state": {"waiting": {"reason": reason}}}


def ended(code: int, reason: str = "") -> dict[str, Any]:
    return {"name": "main", "state": {"terminated": {"exitCode": code, "reason": reason}}}


READY = {"type": "Ready", "status": "True"}
RUNNING = {"name": "main", "ready": True, "state": {"running": {}}}


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ({}, "Unknown"),
        ({"phase": "Pending"}, "Pending"),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted"),
        ({"phase": "Running", "containerStatuses": [RUNNING]}, "Running"),
        ({"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff")]}, "CrashLoopBackOff"),
        ({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}, "Completed"),
        ({"phase": "Running", "containerStatuses": [ended(0, "Completed"), RUNNING]}, "NotReady"),
        (
            {
                "phase": "Running",
                "conditions": [READY],
                "containerStatuses": [ended(0, "Completed"), RUNNING],
            },
            "Running",
        ),
        ({"phase": "Failed", "containerStatuses": [ended(3)]}, "ExitCode:3"),
        ({"phase": "Pending", "initContainerStatuses": [waiting("")]}, "Init:0/2"),
        ({"phase": "Pending", "initContainerStatuses": [ended(0), waiting("")]}, "Init:1/2"),
        ({"phase": "Pending", "initContainerStatuses": [ended(1, "Error")]}, "Init:Error"),
        (
            {"phase": "Pending", "initContainerStatuses": [waiting("CrashLoopBackOff")]},
            "Init:CrashLoopBackOff",
        ),
    ],
)
def test_a_pods_status_is_what_keeps_it_from_running(status: dict[str, Any], shown: str) -> None:
    spec = {"containers": [{"name": "main"}], "initContainers": [{"name": "one"}, {"name": "two"}]}
    assert cells("v1", "Pod", {"spec": spec, "status": status})["Status"] == shown


def test_a_pod_that_is_being_deleted_terminates_and_restarts_say_when() -> None:
    document = {
        "metadata": {"deletionTimestamp": START},
        "spec": {"containers": [{}, {}]},
        "status": {
            "containerStatuses": [
                {
                    "ready": True,
                    "restartCount": 2,
                    "lastState": {"terminated": {"finishedAt": "2027-01-15T07:55:00Z"}},
                }
            ]
        },
    }
    shown = cells("v1", "Pod", document)
    assert (shown["Ready"], shown["Status"], shown["Restarts"]) == ("1/2", "Terminating", "2 (5m ago)")


def test_workloads_and_events_count() -> None:
    deployment = cells("apps/v1", "Deployment", {"spec": {"replicas": 3}, "status": {"readyReplicas": 2}})
    assert (deployment["Ready"], deployment["Available"]) == ("2/3", 0)
    event = {
        "lastTimestamp": "2027-01-15T07:59:30Z",
        "firstTimestamp": START,
        "count": 4,
        "involvedObject": {"kind": "Pod", "name": "p"},
    }
    shown = cells("v1", "Event", event)
    assert (shown["Last Seen"], shown["Object"]) == ("30s (x4 over 60m)", "pod/p")
    job = {
        "status": {"startTime": START, "succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
    }
    assert cells("batch/v1", "Job", job)["Status"] == "Complete"
    node = {"spec": {"unschedulable": True}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert cells("v1", "Node", node)["Status"] == "Ready,SchedulingDisabled"


def test_a_kind_without_columns_of_its_own_has_name_and_age() -> None:
    plain = columns_of(kind_of(Pod))[0]
    assert plain.name == "Name"
