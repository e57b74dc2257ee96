"""The gateway is told of every service, and of exactly those pods that can answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routed_services import FIRST, SECOND, iris, only, pod, with_meta, with_status, with_transformer
from worlds import service

from penstock.app.runtimes import shipped_runtimes
from penstock.contracts.exchange import Endpoint, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.decide.route_table import DEFAULT_TIMEOUT_S, service_routes
from penstock.resources.pod import Pod


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
        routing=RoutingRoute(),
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


def test_adapters_are_aliases_that_the_engine_knows_itself() -> None:
    named = {"penstock.dev/aliases": "x", "penstock.dev/adapters": "french, german"}
    route = only(iris(annotations=named), pod("p"))
    assert (route.aliases, route.adapters) == (("x", "french", "german"), ("french", "german"))


def test_a_tokenizer_is_that_of_a_pod_that_is_ready() -> None:
    bytes_as_tokens = {"penstock.dev/tokenizer": "bytes"}
    assert only(iris(), pod("p", annotations=bytes_as_tokens)).tokenizer == "bytes"
    assert only(iris(), pod("p", annotations=bytes_as_tokens, ready="False")).tokenizer == ""
    assert only(iris(), pod("p")).tokenizer == ""


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


def test_a_pod_that_drains_gets_no_more_requests() -> None:
    route = only(iris(), pod("p1", annotations={"penstock.dev/draining": "2025-06-15T00:00:00Z"}), pod("p2"))
    assert [e.name for e in route.revisions[0].endpoints] == ["p2"]


@pytest.mark.parametrize(
    ("annotation", "split_by"),
    [("", ""), ("key", "key"), ("header:X-Session", "x-session"), ("header:", ""), ("cookie:a", "")],
)
def test_by_what_sessions_are_told_apart(annotation: str, split_by: str) -> None:
    assert only(iris(annotations={"penstock.dev/split-by": annotation})).split_by == split_by
