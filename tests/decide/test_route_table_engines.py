"""The gateway is told where an engine publishes its KV events and its metrics, by the pod's annotations."""

from __future__ import annotations

import pytest
from routed_services import iris, only, pod

from penstock.app.runtimes import shipped_runtimes


def test_where_an_engine_tells_of_itself() -> None:
    annotations = {
        "penstock.dev/kv-events-port": "5557",
        "penstock.dev/kv-replay-port": "5558",
        "prometheus.kserve.io/port": "8002",
        "prometheus.kserve.io/path": "/own",
        "penstock.dev/step-requests": "8",
    }
    [found] = only(iris(), pod("p", annotations=annotations)).revisions[0].endpoints
    assert (found.kv_events_port, found.kv_replay_port) == (5557, 5558)
    assert (found.metrics_port, found.metrics_path) == (8002, "/own")
    assert found.step_requests == 8


@pytest.mark.parametrize("port", ["", "none", "-1", "65536", "99999999999"])
def test_what_is_no_port_is_nowhere(port: str) -> None:
    annotations = {"penstock.dev/kv-events-port": port, "prometheus.kserve.io/port": port}
    [found] = only(iris(), pod("p", annotations=annotations)).revisions[0].endpoints
    assert (found.kv_events_port, found.kv_replay_port, found.metrics_port) == (0, 0, 0)


@pytest.mark.parametrize("said", ["", "none", "-1", "1e3", "nan", "99999999"])
def test_what_is_no_number_of_requests_says_nothing(said: str) -> None:
    [found] = only(iris(), pod("p", annotations={"penstock.dev/step-requests": said})).revisions[0].endpoints
    assert found.step_requests == 0


def test_a_runtime_that_says_where_its_engine_publishes_tells_the_engine_so() -> None:
    told = 0
    for runtime in shipped_runtimes():
        for name in ("penstock.dev/kv-events-port", "penstock.dev/kv-replay-port"):
            port = runtime.spec.annotations.get(name)
            if port:
                told += 1
                assert any(
                    f"$(POD_IP)]:{port}" in arg or f"$(POD_IP):{port}" in arg
                    for arg in runtime.spec.containers[0].args
                )
    assert told >= 4
