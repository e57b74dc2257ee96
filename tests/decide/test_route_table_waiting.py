"""The gateway is told why nobody answers, and how far a start has come."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from routed_services import FIRST, SECOND, failed, iris, only, pod, target, with_status
from worlds import service

from penstock.decide.route_table import named_revisions, revisions_of, routes_of, service_routes
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.serving import ComponentStatus, InferenceServiceStatus, ModelStatus


@pytest.mark.parametrize(
    ("stopped", "model_status", "phase", "message"),
    [
        (False, None, "Starting", "its pods are starting"),
        (False, target("Pending"), "Starting", "its pods are starting"),
        (False, target("Loading"), "Starting", "its pods are starting"),
        (False, failed("InvalidSpec", "no runtime"), "Failed", "no runtime"),
        (False, failed("BlockedByFailedLoad", "no such model"), "Failed", "no such model"),
        (False, failed("InvalidSpec", None), "Failed", "InvalidSpec"),
        (
            True,
            failed("InvalidSpec", "no runtime"),
            "Sleeping",
            "the service is stopped (annotation serving.kserve.io/stop)",
        ),
    ],
)
def test_why_nobody_answers(
    stopped: bool, model_status: ModelStatus | None, phase: str, message: str
) -> None:
    known = service(annotations={"serving.kserve.io/stop": "true"} if stopped else {})
    for traffic in ((), ((FIRST, 100),), ((SECOND, 0),)):
        route = only(with_status(known, *traffic, model_status=model_status), pod("p", SECOND))
        assert (route.phase, route.message) == (phase, message)


@pytest.mark.parametrize("revision", ["", SECOND])
def test_what_fails_without_a_share_of_the_traffic_keeps_nobody_from_waiting_for_what_has_one(
    revision: str,
) -> None:
    status = failed("BlockedByFailedLoad" if revision else "InvalidSpec", "it fails", revision)
    waits = only(with_status(service(), (FIRST, 100), (SECOND, 0), model_status=status))
    assert (waits.phase, waits.message) == ("Starting", "its pods are starting")
    alone = only(with_status(service(), model_status=status))
    assert (alone.phase, alone.message) == ("Failed", "it fails")


def started(name: str = "p", *, probe: dict[str, Any] | None = None, **more: Any) -> Pod:
    """A pod whose engine runs and is not ready."""
    made = msgspec.json.decode(msgspec.json.encode(pod(name, ready="False")))
    made["spec"]["containers"][0]["readinessProbe"] = probe or {"httpGet": {"path": "/health", "port": 9000}}
    made["status"]["containerStatuses"] = [
        {"name": "kserve-container", "ready": False, "restartCount": 0, "image": "", "state": {"running": {}}}
    ]
    made["status"]["conditions"].append({"type": "Initialized", "status": "True"})
    for part, fields in more.items():
        made[part] |= fields
    return msgspec.convert(made, Pod)


@pytest.mark.parametrize(
    ("probe", "path"),
    [
        ({"httpGet": {"path": "/health", "port": 9000}}, "/health"),
        ({"httpGet": {"port": 9000}}, "/"),
        ({"httpGet": {"path": "/health"}}, "/health"),
        ({"tcpSocket": {"port": 9000}}, ""),
        ({"httpGet": {"path": "/health", "port": 9001}}, None),
        ({"httpGet": {"path": "/health", "port": 9000, "scheme": "HTTPS"}}, None),
        ({"httpGet": {"path": "/", "port": 9000, "httpHeaders": [{"name": "a", "value": "b"}]}}, None),
        ({"tcpSocket": {"port": "other"}}, None),
        ({"exec": {"command": ["true"]}}, None),
    ],
)
def test_a_pod_whose_engine_runs_may_be_asked_itself_where_its_probe_can_be_repeated(
    probe: dict[str, Any], path: str | None
) -> None:
    starting = only(iris(), started(probe=probe)).revisions[0].starting
    assert [e.probe_path for e in starting] == ([path] if path is not None else [])


WAITING = {
    "name": "kserve-container",
    "ready": False,
    "restartCount": 0,
    "image": "",
    "state": {"waiting": {}},
}
SIDECAR = {"name": "agent", "ready": False, "restartCount": 0, "image": "", "state": {"running": {}}}
RUNNING = {**SIDECAR, "name": "kserve-container"}


@pytest.mark.parametrize(
    "more",
    [
        {"status": {"containerStatuses": [WAITING]}},
        {"status": {"containerStatuses": [RUNNING, SIDECAR]}},
        {"status": {"containerStatuses": []}},
        {"status": {"podIP": ""}},
        {"spec": {"readinessGates": [{"conditionType": "x"}]}},
        {"metadata": {"annotations": {"penstock.dev/draining": "2025-06-15T00:00:00Z"}}},
    ],
)
def test_nobody_is_asked_whose_own_answer_would_not_be_the_last_word(more: dict[str, Any]) -> None:
    assert only(iris(), started(**more)).revisions[0].starting == ()


def scaler(revision: str = FIRST, **status: Any) -> PodAutoscaler:
    document = {
        "metadata": {"name": revision, "namespace": "default"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": revision}},
        "status": status,
    }
    return msgspec.convert(document, PodAutoscaler)


STARTED = {"coldStart": {"expectedS": 90.0}}


@pytest.mark.parametrize(
    ("pods", "status", "phase", "start_phase", "message"),
    [
        ((), {"desiredScale": 0}, "Sleeping", "placing", "it sleeps until it is asked for"),
        ((), {}, "Starting", "placing", "its pods are starting"),
        ((), {"desiredScale": 1}, "Starting", "placing", "its pods are starting"),
        (
            (pod("p", ready="False"),),
            {"desiredScale": 1},
            "Starting",
            "downloading",
            "its model is being fetched",
        ),
        ((started(),), {"desiredScale": 1}, "Starting", "loading", "its engine is loading the model"),
        (
            (),
            {
                "desiredScale": 1,
                "conditions": [{"type": "Schedulable", "status": "False", "message": "no GPU is free"}],
            },
            "Starting",
            "placing",
            "no GPU is free",
        ),
        ((pod("p"),), {"desiredScale": 1}, "Ready", "", ""),
    ],
)
def test_how_far_a_start_has_come(
    pods: tuple[Pod, ...], status: dict[str, Any], phase: str, start_phase: str, message: str
) -> None:
    [route] = service_routes([iris()], pods, [scaler(**STARTED, **status)])
    assert (route.phase, route.start_phase, route.message) == (phase, start_phase, message)
    assert (route.start_expected_s, route.hold_s, route.wakes) == (90.0, 180.0, True)


def test_a_service_that_was_never_ready_says_how_far_its_first_revision_has_come() -> None:
    components = {"predictor": ComponentStatus(latest_created_revision=FIRST)}
    status = InferenceServiceStatus(components=components)
    fresh = msgspec.structs.replace(service(), status=status)
    known = revisions_of([started()], [])
    [route] = routes_of(fresh, known)
    assert (route.phase, route.start_phase, route.revisions) == ("Starting", "loading", ())
    assert named_revisions(fresh) == (FIRST,)


def test_the_furthest_pod_says_where_a_start_is_and_a_request_never_waits_beyond_its_timeout() -> None:
    pods = (pod("a", ready="False"), started("b"))
    [route] = service_routes([iris(timeout=150)], pods, [scaler(desiredScale=2, **STARTED)])
    assert (route.start_phase, route.hold_s) == ("loading", 150.0)


def test_a_service_that_is_stopped_is_woken_by_hand_only() -> None:
    assert not only(iris(annotations={"serving.kserve.io/stop": "true"})).wakes
