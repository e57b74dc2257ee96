"""Which pods are evicted to get their recommended size, and with which size they start."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from penstock.decide.vpa_apply import UPDATES, sized
from penstock.decide.vpa_update import plan_evictions
from penstock.kit.timestamps import rfc3339
from penstock.resources.autoscaling import CrossVersionObjectReference
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import (
    Container,
    ContainerState,
    ContainerStateTerminated,
    ContainerStatus,
    Pod,
    PodSpec,
    PodStatus,
    ResourceRequirements,
)
from penstock.resources.vpa import (
    ContainerResourcePolicy,
    EvictionRequirement,
    PodResourcePolicy,
    PodUpdatePolicy,
    RecommendedContainerResources,
    RecommendedPodResources,
    VerticalPodAutoscaler,
    VerticalPodAutoscalerSpec,
    VerticalPodAutoscalerStatus,
)

NOW = 2e9
HOUR_S = 3600.0
TARGET = CrossVersionObjectReference(api_version="apps/v1", kind="Deployment", name="web")


def autoscaler(*policies, target=None, lower=None, upper=None, **update):
    recommended = RecommendedContainerResources(
        container_name="main",
        target=target or {"cpu": "1"},
        lower_bound=lower or {"cpu": "500m"},
        upper_bound=upper or {"cpu": "2"},
    )
    return VerticalPodAutoscaler(
        metadata=ObjectMeta(name="sizer", namespace="default"),
        spec=VerticalPodAutoscalerSpec(
            target_ref=TARGET,
            update_policy=PodUpdatePolicy(**update),
            resource_policy=PodResourcePolicy(container_policies=policies),
        ),
        status=VerticalPodAutoscalerStatus(
            recommendation=RecommendedPodResources(container_recommendations=(recommended,))
        ),
    )


def pod(name="a", *, requests=None, limits=None, age_s=60.0, ready=True, phase="Running", died_after_s=None):
    ended = died_after_s is not None and ContainerStateTerminated(
        exit_code=137,
        reason="OOMKilled",
        started_at=rfc3339(NOW - 900),
        finished_at=rfc3339(NOW - 900 + died_after_s),
    )
    status = ContainerStatus(
        name="main", ready=ready, restart_count=0, image="x",
        last_state=ContainerState(terminated=ended or None),
    )  # fmt: skip
    resources = ResourceRequirements(
        requests={"cpu": "1"} if requests is None else requests, limits=limits or {}
    )
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=PodSpec(containers=(Container(name="main", resources=resources),)),
        status=PodStatus(
            phase=phase,
            start_time=rfc3339(NOW - age_s),
            conditions=(Condition(type="Ready", status="True" if ready else "False"),),
            container_statuses=(status,),
        ),
    )


def pods(count, **fields):
    return tuple(pod(f"p{n}", **fields) for n in range(count))


def evicted(vpa, *found, replicas=None, **more):
    result = plan_evictions(vpa, found, replicas or len(found), NOW, **more)
    return [one.metadata.name for one in result.pods]


@pytest.mark.parametrize(
    ("fields", "goes"),
    [
        ({"requests": {"cpu": "400m"}}, True),  # below its lower bound
        ({"requests": {"cpu": "2100m"}}, True),  # above its upper bound
        ({"requests": {"cpu": "600m"}}, False),  # within, and young
        ({"requests": {"cpu": "600m"}, "age_s": 11.9 * HOUR_S}, False),
        ({"requests": {"cpu": "600m"}, "age_s": 12.1 * HOUR_S}, True),  # within, old, and 67 % to change
        ({"requests": {"cpu": "950m"}, "age_s": 12.1 * HOUR_S}, False),  # 5 % is not worth it
        ({"requests": {"cpu": "900m"}, "age_s": 12.1 * HOUR_S}, True),  # 11 % is
        ({"requests": {}}, True),  # none given at all
        ({"requests": {}, "limits": {"cpu": "1"}}, False),  # a limit alone is a request, too
        ({"requests": {"cpu": "600m"}, "died_after_s": 60}, True),  # died of memory soon after its start
        ({"requests": {"cpu": "600m"}, "died_after_s": 700}, False),
        ({"requests": {"cpu": "1"}, "died_after_s": 60}, False),  # a change of nothing helps nobody
    ],
)
def test_a_pod_is_evicted_outside_its_bounds_or_when_old_and_far_off(fields, goes):
    assert evicted(autoscaler(), *pods(2, **fields)) == (["p0"] if goes else [])


def test_fewer_than_two_replicas_are_left_alone_unless_the_policy_says_otherwise():
    small = pod(requests={"cpu": "400m"})
    result = plan_evictions(autoscaler(), (small,), 1, NOW)
    assert result.pods == ()
    assert "at least 2" in result.reasons[0]
    assert evicted(autoscaler(min_replicas=1), small) == ["a"]


@pytest.mark.parametrize(("replicas", "at_once"), [(2, 1), (3, 1), (4, 2), (5, 2), (10, 5)])
def test_at_most_half_go_at_a_time(replicas, at_once):
    assert len(evicted(autoscaler(), *pods(replicas, requests={"cpu": "400m"}))) == at_once


@given(st.integers(2, 12), st.lists(st.booleans(), min_size=12, max_size=12))
def test_however_many_are_unready_half_of_the_replicas_stay_ready_or_nothing_ready_goes(replicas, ready):
    found = tuple(pod(f"p{n}", requests={"cpu": "400m"}, ready=ready[n]) for n in range(replicas))
    gone = plan_evictions(autoscaler(), found, replicas, NOW).pods
    ready_gone = sum(c.status == "True" for one in gone for c in one.status.conditions)
    assert len(gone) <= max(1, replicas // 2)
    assert ready_gone == 0 or sum(ready[:replicas]) - ready_gone >= replicas - replicas // 2


def test_a_pending_pod_has_nothing_to_lose():
    waiting = pod("waiting", requests={"cpu": "400m"}, phase="Pending", ready=False)
    assert evicted(autoscaler(), waiting, pod("other"), replicas=2) == ["waiting"]


def test_pods_that_need_more_go_first_then_those_with_the_larger_change():
    found = (
        pod("shrinks", requests={"cpu": "4"}),
        pod("grows-little", requests={"cpu": "400m"}),
        pod("grows", requests={"cpu": "100m"}),
        *(pod(f"fine{n}") for n in range(3)),
    )
    assert evicted(autoscaler(), *found) == ["grows", "grows-little", "shrinks"]


def test_deleted_and_failed_pods_are_no_replicas():
    leaving = structs.replace(
        pod("leaving", requests={"cpu": "1m"}), metadata=ObjectMeta(name="x", deletion_timestamp=rfc3339(NOW))
    )
    assert evicted(autoscaler(), leaving, pod("b", phase="Failed"), pod("c", requests={"cpu": "1m"})) == []


def test_a_requirement_holds_back_pods_that_would_shrink():
    only_up = EvictionRequirement(resources=("cpu",), change_requirement="TargetHigherThanRequests")
    vpa = autoscaler(eviction_requirements=(only_up,))
    assert evicted(vpa, *pods(2, requests={"cpu": "4"})) == []
    assert evicted(vpa, *pods(2, requests={"cpu": "100m"})) == ["p0"]


def test_a_resource_that_another_autoscaler_has_evicts_nobody():
    assert evicted(autoscaler(), *pods(2, requests={"cpu": "1m"}), refused=frozenset(("cpu",))) == []


def test_a_request_bounded_by_its_limit_is_not_outside():
    policy = ContainerResourcePolicy(container_name="main", controlled_values="RequestsOnly")
    vpa = autoscaler(policy, target={"cpu": "8"}, lower={"cpu": "4"}, upper={"cpu": "16"})
    assert evicted(vpa, *pods(2, requests={"cpu": "1"}, limits={"cpu": "1"})) == []


# -- admission ------------------------------------------------------------------------------------------------------


def resources_after(vpa, **fields):
    result = sized(pod(**fields), vpa)
    return result.pod.spec.containers[0].resources, result


@pytest.mark.parametrize(
    ("fields", "requests", "limits"),
    [
        ({"requests": {"cpu": "500m"}}, {"cpu": "1"}, {}),
        ({"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}}, {"cpu": "1"}, {"cpu": "2"}),
        ({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}, {"cpu": "1"}, {"cpu": "1"}),
        ({"requests": {}, "limits": {"cpu": "4"}}, {"cpu": "1"}, {"cpu": "1"}),
        ({"requests": {}}, {"cpu": "1"}, {}),
        ({"requests": {"cpu": "0"}, "limits": {"cpu": "500m"}}, {"cpu": "1"}, {"cpu": "1"}),
        ({"requests": {"cpu": "3", "memory": "1Gi"}, "limits": {"cpu": "4"}}, {"cpu": "1", "memory": "1Gi"}, {"cpu": "1333m"}),
    ],
)  # fmt: skip
def test_requests_become_the_target_and_limits_keep_their_proportion(fields, requests, limits):
    resources, _ = resources_after(autoscaler(), **fields)
    assert (resources.requests, resources.limits) == (requests, limits)


def test_limits_stay_and_bound_requests_where_only_requests_are_controlled():
    policy = ContainerResourcePolicy(container_name="*", controlled_values="RequestsOnly")
    resources, _ = resources_after(autoscaler(policy), requests={"cpu": "500m"}, limits={"cpu": "700m"})
    assert (resources.requests, resources.limits) == ({"cpu": "700m"}, {"cpu": "700m"})


def test_a_pod_says_what_was_changed():
    _, result = resources_after(autoscaler(), requests={"cpu": "500m"}, limits={"cpu": "1"})
    assert result.pod.metadata.annotations[UPDATES] == (
        "Pod resources updated by sizer: container 0: cpu request, cpu limit"
    )


@pytest.mark.parametrize(
    ("vpa", "refused"),
    [
        (autoscaler(ContainerResourcePolicy(container_name="main", mode="Off")), frozenset()),
        (autoscaler(target={"cpu": "500m"}), frozenset()),
        (autoscaler(), frozenset(("cpu",))),
    ],
)
def test_a_pod_that_needs_no_change_is_the_same_pod(vpa, refused):
    before = pod(requests={"cpu": "500m"})
    assert sized(before, vpa, refused).pod is before
