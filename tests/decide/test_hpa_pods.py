"""What an autoscaler counts of a pod and of measured numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from penstock.decide.hpa_metric import Unread, ValueReadings
from penstock.decide.hpa_pods import pod_state, thousandths, values
from penstock.kit.timestamps import rfc3339
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, PodStatus, ResourceRequirements


def resources(limits: dict[str, str] | None = None, **requests: str) -> ResourceRequirements:
    return ResourceRequirements(requests=dict(requests), limits=limits or {})


def pod(**spec: object) -> Pod:
    status = PodStatus(
        phase="Running",
        start_time=rfc3339(1000),
        conditions=(Condition(type="Ready", status="True", last_transition_time=rfc3339(1030)),),
    )
    return Pod(metadata=ObjectMeta(name="p"), spec=PodSpec(**spec), status=status)  # type: ignore[arg-type]


def test_requests_are_those_of_containers_that_last() -> None:
    state = pod_state(
        pod(
            containers=(
                Container(name="main", resources=resources(cpu="500m", memory="1Ki")),
                Container(name="bare"),
            ),
            init_containers=(
                Container(name="once", resources=resources(cpu="8")),
                Container(name="sidecar", restart_policy="Always", resources=resources(cpu="0.1")),
            ),
        )
    )
    assert state.requests_milli == {
        "main": {"cpu": 500, "memory": 1_024_000},
        "bare": {},
        "sidecar": {"cpu": 100},
    }
    assert (state.ready, state.ready_changed_at, state.started_at) == (True, 1030, 1000)
    assert state.pod_requests_milli == {}


def test_a_limit_without_a_request_is_a_request() -> None:
    main = Container(name="main", resources=resources({"cpu": "2", "memory": "1Ki"}, cpu="1"))
    assert pod_state(pod(containers=(main,))).requests_milli["main"] == {"cpu": 1000, "memory": 1_024_000}


def test_a_pod_that_reserves_as_a_whole_sums_the_rest() -> None:
    main = Container(name="main", resources=resources(cpu="1", memory="1"))
    whole = pod_state(pod(containers=(main, main), resources=resources(cpu="3")))
    assert whole.pod_requests_milli == {"cpu": 3000, "memory": 2000}


def test_a_pod_that_was_not_seen_by_a_kubelet_is_pending() -> None:
    fresh = pod_state(structs.replace(pod(), status=PodStatus()))
    assert (fresh.phase, fresh.ready, fresh.started_at) == ("Pending", None, None)


@pytest.mark.parametrize(
    ("value", "amount"), [(0, 0), (0.0001, 1), (1.5, 1500), (0.1, 100), (0.3, 300), (2.0001, 2001)]
)
def test_numbers_are_rounded_up_to_thousandths(value: float, amount: int) -> None:
    assert thousandths(value) == amount


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.001])
def test_what_no_measurement_can_be_is_refused(value: float) -> None:
    refused = values((1.0, value))
    assert isinstance(refused, Unread)
    assert "expected a finite value of 0 or more" in refused.message


def test_every_series_counts_and_none_is_no_reading() -> None:
    assert values((1, 2.5)) == ValueReadings((1000, 2500))
    assert values(()) == Unread("no metrics returned")


@given(st.floats(0, 1e12))
def test_thousandths_are_never_below_the_value(value: float) -> None:
    amount = thousandths(value)
    assert amount is not None
    assert value * 1000 <= amount * (1 + 1e-12) <= (value * 1000 + 1) * (1 + 1e-11)
