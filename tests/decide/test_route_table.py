"""The gateway is told of every service, and of exactly those pods that can answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import model, service

from penstock.app.runtimes import shipped_runtimes
from penstock.contracts.exchange import Endpoint, RevisionRoute, ServiceRoute
from penstock.decide.route_table import DEFAULT_TIMEOUT_S, rests_on, revisions_of, routes_of, service_routes
from penstock.resources.admission import admit
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.serving import (
    ComponentStatus,
    FailureInfo,
    InferenceService,
    InferenceServiceStatus,
    ModelStates,
    ModelStatus,
    TrafficTarget,
)

FIRST, SECOND = "iris-predictor-00001", "iris-predictor-00002"


def pod(
    name: str,
    revision: str = FIRST,
    *,
    ready: str = "True",
    namespace: str = "default",
    ip: str = "127.1.0.1",
    port: int | None = 9000,
    ports: tuple[tuple[str, int], ...] = (),
    args: tuple[str, ...] = (),
    annotations: dict[str, str] | None = None,
    deleted: bool = False,
    phase: str = "Running",
) -> Pod:
    document = {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"penstock.dev/revision": revision} if revision else {},
            "annotations": annotations or {},
            **({"deletionTimestamp": "2025-06-15T00:00:00Z"} if deleted else {}),
        },
        "spec": {
            "nodeName": "n1",
            "containers": [
                {
                    "name": "kserve-container",
                    "args": args,
                    "ports": [{"name": name, "containerPort": number} for name, number in ports]
                    or ([{"containerPort": port}] if port else []),
                }
            ],
        },
        "status": {
            "phase": phase,
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2025-06-15T00:00:00Z"}],
        },
    }
    return msgspec.convert(document, Pod)


def with_status(
    known: InferenceService, *traffic: tuple[str, int], component: str = "predictor", **status: Any
) -> InferenceService:
    targets = tuple(TrafficTarget(revision_name=name, percent=percent) for name, percent in traffic)
    components = known.status.components | {component: ComponentStatus(traffic=targets)}
    return msgspec.structs.replace(known, status=InferenceServiceStatus(components=components, **status))


def with_meta(known: InferenceService, **fields: Any) -> InferenceService:
    return msgspec.structs.replace(known, metadata=msgspec.structs.replace(known.metadata, **fields))


def iris(*traffic: tuple[str, int], **how: Any) -> InferenceService:
    return with_status(service(**how), *(traffic or ((FIRST, 100),)))


def with_transformer() -> InferenceService:
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris", "namespace": "default"},
        "spec": {
            "predictor": model("huggingface"),
            "transformer": {"containers": [{"name": "kserve-container", "image": "t"}], "timeout": 7},
        },
    }
    made = admit(document).object
    assert isinstance(made, InferenceService)
    return made


def only(known: InferenceService, *pods: Pod) -> ServiceRoute:
    [route] = service_routes([known], pods)
    return route


def test_everything_about_a_service_that_serves() -> None:
    known = with_meta(iris(), creation_timestamp="2025-06-15T00:00:00Z")
    assert only(known, pod("p1", ip="127.1.0.1"), pod("p2", ip="127.1.0.2")) == ServiceRoute(
        namespace="default",
        name="iris",
        uid="uid-iris",
        engine_model="iris",
        hosts=("iris.default", "iris-default"),
        phase="Ready",
        revisions=(
            RevisionRoute(
                name=FIRST,
                weight_percent=100,
                endpoints=(
                    Endpoint(name="p1", address="127.1.0.1", port=9000, node="n1"),
                    Endpoint(name="p2", address="127.1.0.2", port=9000, node="n1"),
                ),
            ),
        ),
        created_at=1_749_945_600.0,
        timeout_s=DEFAULT_TIMEOUT_S,
    )


@pytest.mark.parametrize(
    ("other", "is_endpoint"),
    [
        (pod("p"), True),
        (pod("p", ready="False"), False),
        (pod("p", ready="Unknown"), False),
        (pod("p", deleted=True), False),
        (pod("p", phase="Failed"), False),
        (pod("p", phase="Succeeded"), False),
        (pod("p", ip=""), False),
        (pod("p", SECOND), False),
        (pod("p", ""), False),
        (pod("p", namespace="other"), False),
    ],
    ids=[
        "ready",
        "not ready",
        "unknown",
        "deleted",
        "failed",
        "done",
        "no address",
        "revision",
        "label",
        "namespace",
    ],
)
def test_which_pods_are_endpoints(other: Pod, is_endpoint: bool) -> None:
    [revision] = only(iris(), other).revisions
    assert [e.name for e in revision.endpoints] == (["p"] if is_endpoint else [])


def test_each_revision_has_its_share_and_its_pods_also_without_traffic() -> None:
    pods = (pod("a", SECOND), pod("b"), pod("c", SECOND), pod("d", "iris-predictor-00003"))
    route = only(iris((SECOND, 0), (FIRST, 100)), *pods)
    assert [(r.name, r.weight_percent, [e.name for e in r.endpoints]) for r in route.revisions] == [
        (SECOND, 0, ["a", "c"]),
        (FIRST, 100, ["b"]),
    ]
    assert route.phase == "Ready"


@given(st.permutations([pod("a"), pod("b", SECOND), pod("c"), pod("d", SECOND), pod("e", ready="False")]))
def test_the_table_does_not_depend_on_the_order_in_which_pods_are_known(pods: list[Pod]) -> None:
    [revision, other] = only(iris((FIRST, 50), (SECOND, 50)), *pods).revisions
    assert [e.name for e in revision.endpoints] == ["a", "c"]
    assert [e.name for e in other.endpoints] == ["b", "d"]


def test_routes_are_ordered_and_a_service_that_is_being_deleted_has_none() -> None:
    known = [
        with_meta(service("b"), namespace="two"),
        service("c"),
        service("a"),
        with_meta(service("gone"), deletion_timestamp="2025-06-15T00:00:00Z"),
        with_meta(service("a"), namespace="two"),
    ]
    assert [(r.namespace, r.name) for r in service_routes(known, [])] == [
        ("default", "a"),
        ("default", "c"),
        ("two", "a"),
        ("two", "b"),
    ]


def test_without_ports_it_is_kserves_and_slots_are_the_containers_concurrency() -> None:
    [revision] = only(iris(containerConcurrency=3), pod("p", port=None)).revisions
    assert [(e.port, e.slots) for e in revision.endpoints] == [(8080, 3)]


@pytest.mark.parametrize(("set_s", "expected_s"), [({"timeout": 30}, 30.0), ({}, DEFAULT_TIMEOUT_S)])
def test_how_long_an_answer_may_take(set_s: dict[str, Any], expected_s: float) -> None:
    assert only(iris(**set_s)).timeout_s == expected_s


@pytest.mark.parametrize(
    ("args", "annotation", "engine_model", "aliases"),
    [
        ((), "", "iris", ()),
        (("--model_name=iris",), "", "iris", ()),
        (("--model_name=other",), "", "other", ("other",)),
        ((), " x , y,,", "iris", ("x", "y")),
        (("--model_name=other",), "other,x", "other", ("other", "x")),
        (("--model_name=other",), "x", "other", ("x", "other")),
    ],
)
def test_under_which_names_the_model_is_asked_for(
    args: tuple[str, ...], annotation: str, engine_model: str, aliases: tuple[str, ...]
) -> None:
    known = iris(annotations={"penstock.dev/aliases": annotation})
    route = only(known, pod("p", args=args))
    assert (route.engine_model, route.aliases) == (engine_model, aliases)


def test_how_the_engine_is_asked_is_on_its_pods() -> None:
    traits = {"penstock.dev/metrics-dialect": "vllm", "penstock.dev/openai-prefix": "/openai/v1"}
    route = only(iris(), pod("p", annotations=traits))
    assert (route.metrics_dialect, route.openai_prefix) == ("vllm", "/openai/v1")
    route = only(iris())
    assert (route.metrics_dialect, route.openai_prefix) == ("", "/v1")


@pytest.mark.parametrize(
    ("ports", "http", "grpc"),
    [
        ((("http1", 8080), ("grpc", 9000)), 8080, 9000),
        ((("grpc-predict", 9000), ("http1", 8080)), 8080, 9000),
        ((("h2c", 9000),), 9000, 9000),  # as KServe's manifests for gRPC alone have it
        ((("http1", 8080), ("grpc-web", 9000)), 8080, 0),
        ((("", 8080), ("metrics", 8002)), 8080, 0),
    ],
)
def test_the_name_of_a_port_says_whether_it_speaks_grpc(
    ports: tuple[tuple[str, int], ...], http: int, grpc: int
) -> None:
    [endpoint] = only(iris(), pod("p", ports=ports)).revisions[0].endpoints
    assert (endpoint.port, endpoint.grpc_port) == (http, grpc)


@pytest.mark.parametrize(
    ("name", "is_tls"), [("https", True), ("https-api", True), ("http1", False), ("", False)]
)
def test_the_name_of_a_port_says_whether_it_speaks_https(name: str, is_tls: bool) -> None:
    [endpoint] = only(iris(), pod("p", ports=((name, 8443),))).revisions[0].endpoints
    assert (endpoint.port, endpoint.tls) == (8443, is_tls)


@pytest.mark.parametrize(
    ("runtime", "protocols"),
    [
        ("penstock-vllm", ("openai", "anthropic")),
        ("penstock-ollama", ("openai", "ollama")),
        ("penstock-cpu", ("openai", "v1", "v2")),
    ],
)
def test_which_protocols_an_engine_speaks_itself_is_said_by_its_runtime(
    runtime: str, protocols: tuple[str, ...]
) -> None:
    [shipped] = [one for one in shipped_runtimes() if one.metadata.name == runtime]
    assert only(iris(), pod("p", annotations=shipped.spec.annotations)).protocols == protocols


def test_a_transformer_is_the_entry_and_its_predictor_has_a_route_of_its_own() -> None:
    known = with_status(
        with_status(with_transformer(), (FIRST, 100)),
        ("iris-transformer-00001", 100),
        component="transformer",
    )
    pods = (pod("p"), pod("t", "iris-transformer-00001"))
    entry, behind = service_routes([known], pods)
    assert (entry.name, behind.name) == ("iris", "iris-predictor")
    assert [e.name for e in entry.revisions[0].endpoints] == ["t"]
    assert [e.name for e in behind.revisions[0].endpoints] == ["p"]
    assert behind.hosts == ("iris-predictor.default", "iris-predictor-default")
    assert behind.aliases == ()
    assert (entry.timeout_s, behind.timeout_s) == (7.0, DEFAULT_TIMEOUT_S)
    starting, behind = service_routes([known], pods[:1])
    assert (starting.phase, behind.phase) == ("Starting", "Ready")


def failed(transition: str, message: str | None, revision: str = FIRST) -> ModelStatus:
    info = FailureInfo(reason="r", message=message, model_revision_name=revision) if message else None
    return ModelStatus(transition_status=transition, last_failure_info=info)


def target(state: str) -> ModelStatus:
    return ModelStatus(
        transition_status="InProgress", states=ModelStates(active_model_state="", target_model_state=state)
    )


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


def test_a_pod_that_drains_gets_no_more_requests() -> None:
    route = only(iris(), pod("p1", annotations={"penstock.dev/draining": "2025-06-15T00:00:00Z"}), pod("p2"))
    assert [e.name for e in route.revisions[0].endpoints] == ["p2"]


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
    assert known.pods["default", FIRST][0] in rests_on(fresh, known)


def test_the_furthest_pod_says_where_a_start_is_and_a_request_never_waits_beyond_its_timeout() -> None:
    pods = (pod("a", ready="False"), started("b"))
    [route] = service_routes([iris(timeout=150)], pods, [scaler(desiredScale=2, **STARTED)])
    assert (route.start_phase, route.hold_s) == ("loading", 150.0)


def test_a_service_that_is_stopped_is_woken_by_hand_only() -> None:
    assert not only(iris(annotations={"serving.kserve.io/stop": "true"})).wakes


@pytest.mark.parametrize(
    ("annotation", "split_by"),
    [("", ""), ("key", "key"), ("header:X-Session", "x-session"), ("header:", ""), ("cookie:a", "")],
)
def test_by_what_sessions_are_told_apart(annotation: str, split_by: str) -> None:
    assert only(iris(annotations={"penstock.dev/split-by": annotation})).split_by == split_by
