"""Two autoscalers on one target."""

import itertools

import pytest

from penstock.decide.scaling_conflict import conflicts, refused_resources, resources_of, target_of
from penstock.resources.autoscaling import (
    CrossVersionObjectReference,
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec,
    MetricIdentifier,
    MetricSpec,
    MetricTarget,
    PodsMetricSource,
    ResourceMetricSource,
)
from penstock.resources.keda import ScaledObject, ScaledObjectSpec, ScaleTarget, ScaleTrigger
from penstock.resources.meta import ObjectMeta, OwnerReference
from penstock.resources.pod_autoscaler import PodAutoscaler, PodAutoscalerSpec
from penstock.resources.vpa import (
    ContainerResourcePolicy,
    PodResourcePolicy,
    PodUpdatePolicy,
    VerticalPodAutoscaler,
    VerticalPodAutoscalerSpec,
)


def meta(name, second=0, namespace="default", **fields):
    stamp = None if second is None else f"2026-01-01T00:00:{second:02}Z"
    return ObjectMeta(name=name, namespace=namespace, creation_timestamp=stamp, **fields)


def reference(name="web", kind="Deployment", api_version="apps/v1"):
    return CrossVersionObjectReference(api_version=api_version, kind=kind, name=name)


def resource_metric(name):
    target = MetricTarget(type="Utilization", average_utilization=80)
    return MetricSpec(type="Resource", resource=ResourceMetricSource(name=name, target=target))


def hpa(second=0, *metrics, name="hpa", to=None, **fields):
    spec = HorizontalPodAutoscalerSpec(scale_target_ref=to or reference(), max_replicas=3, metrics=metrics)
    return HorizontalPodAutoscaler(metadata=meta(name, second, **fields), spec=spec)


def scaled_object(second=0, *types, name="so", target="web"):
    triggers = tuple(ScaleTrigger(type=one, metadata={}) for one in types or ("cron",))
    spec = ScaledObjectSpec(scale_target_ref=ScaleTarget(name=target), triggers=triggers)
    return ScaledObject(metadata=meta(name, second), spec=spec)


def pod_autoscaler(second=0, **annotations):
    return PodAutoscaler(
        metadata=meta("web", second, annotations=annotations),
        spec=PodAutoscalerSpec(scale_target_ref=reference()),
    )


def vpa(second=0, *policies, name="vpa", mode=None):
    return VerticalPodAutoscaler(
        metadata=meta(name, second),
        spec=VerticalPodAutoscalerSpec(
            target_ref=reference(),
            update_policy=PodUpdatePolicy(update_mode=mode) if mode else None,
            resource_policy=PodResourcePolicy(container_policies=policies) if policies else None,
        ),
    )


MEMORY_ONLY = ContainerResourcePolicy(container_name="*", controlled_resources=("memory",))
ALL_OFF = ContainerResourcePolicy(container_name="*", mode="Off")
HORIZONTAL = {"hpa": hpa, "scaled object": scaled_object, "pod autoscaler": pod_autoscaler}


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(HORIZONTAL, 2)))
def test_the_second_of_two_masters_of_replicas_gives_way_and_names_the_first(first, second):
    earlier, later = HORIZONTAL[first](1), HORIZONTAL[second](2)
    (found,) = conflicts(later, [earlier, later])
    assert found.other is earlier
    assert f"Deployment web is already scaled by {earlier.kind} {earlier.metadata.name}" in found.message
    assert conflicts(earlier, [earlier, later]) == ()


def test_two_of_one_kind_clash_too():
    assert conflicts(hpa(2, name="b"), [hpa(1, name="a")])


def test_of_one_second_exactly_one_gives_way():
    one, two = hpa(1, name="a"), scaled_object(1)
    assert bool(conflicts(one, [two])) != bool(conflicts(two, [one]))


def test_what_is_not_stored_yet_comes_last():
    new = hpa(None, name="aaa")
    assert conflicts(new, [scaled_object(59)])
    assert not conflicts(scaled_object(59), [new])


@pytest.mark.parametrize(
    "other",
    [
        hpa(1, to=reference("other")),
        hpa(1, to=reference(kind="StatefulSet")),
        hpa(1, to=reference(api_version="example.com/v1")),
        hpa(1, namespace="elsewhere"),
        hpa(1, deletion_timestamp="2026-01-01T00:00:09Z"),
        scaled_object(1, target="other"),
    ],
)
def test_other_targets_and_those_on_their_way_out_do_not_matter(other):
    assert conflicts(scaled_object(2, name="mine"), [other]) == ()


def test_a_reference_without_a_version_means_the_same_target():
    assert conflicts(scaled_object(2), [hpa(1, to=reference(api_version=""))])


def test_the_autoscaler_that_a_scaled_object_made_for_itself_is_no_rival():
    own = OwnerReference(api_version="keda.sh/v1alpha1", kind="ScaledObject", name="so", uid="1")
    made = hpa(2, owner_references=(own,))
    assert conflicts(made, [scaled_object(1)]) == ()
    assert conflicts(scaled_object(3), [made]) == ()


@pytest.mark.parametrize(
    ("horizontal", "vertical", "both"),
    [
        (hpa(0), vpa(), {"cpu"}),  # without metrics an HPA goes by CPU
        (hpa(0, resource_metric("memory")), vpa(), {"memory"}),
        (hpa(0, resource_metric("cpu"), resource_metric("memory")), vpa(), {"cpu", "memory"}),
        (hpa(0), vpa(0, MEMORY_ONLY), set()),
        (hpa(0, resource_metric("memory")), vpa(0, MEMORY_ONLY), {"memory"}),
        (hpa(0), vpa(0, ALL_OFF), set()),
        (hpa(0), vpa(mode="Off"), set()),  # it only recommends
        (hpa(0), vpa(mode="Initial"), {"cpu"}),
        (hpa(0, resource_metric("nvidia.com/gpu")), vpa(), set()),
        (scaled_object(0, "cron", "rabbitmq"), vpa(), set()),
        (scaled_object(0, "cron", "cpu"), vpa(), {"cpu"}),
        (pod_autoscaler(), vpa(), set()),
        (pod_autoscaler(**{"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"}), vpa(), {"cpu"}),
    ],
)
def test_a_vertical_and_a_horizontal_one_clash_over_what_both_go_by(horizontal, vertical, both):
    assert resources_of(horizontal) & resources_of(vertical) == both
    later = type(vertical)(metadata=meta("vpa", 5), spec=vertical.spec)
    found = conflicts(later, [horizontal])
    assert refused_resources(found) == both
    reverse = type(horizontal)(
        metadata=meta("late", 5, annotations=horizontal.metadata.annotations), spec=horizontal.spec
    )
    assert bool(conflicts(reverse, [vertical])) == bool(both)


def test_a_pods_metric_leaves_the_resources_to_a_vertical_one():
    metric = PodsMetricSource(
        metric=MetricIdentifier(name="requests"), target=MetricTarget(type="AverageValue", average_value="1")
    )
    assert resources_of(hpa(0, MetricSpec(type="Pods", pods=metric))) == frozenset()


def test_a_container_that_no_policy_names_is_sized_in_both():
    one = ContainerResourcePolicy(container_name="main", controlled_resources=("memory",))
    assert resources_of(vpa(0, one)) == {"cpu", "memory"}


def test_two_vertical_ones_clash():
    (found,) = conflicts(vpa(2, name="b"), [vpa(1, name="a")])
    assert (
        "VerticalPodAutoscaler a already sizes the pods of Deployment web by cpu and memory" in found.message
    )


def test_the_first_comes_first():
    found = conflicts(vpa(9), [hpa(2, resource_metric("memory"), name="b"), hpa(1, name="a")])
    assert [conflict.other.metadata.name for conflict in found] == ["a", "b"]


def test_a_scaled_object_means_a_deployment_unless_it_says_otherwise():
    assert target_of(scaled_object()) == ("apps", "Deployment", "web")
