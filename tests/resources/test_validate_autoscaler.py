"""Kubernetes' rules of horizontal pod autoscalers, in its words."""

import pytest

from penstock.kit.errors import PlatformError
from penstock.resources.admission import admit

CPU = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
}


def autoscaler(**spec):
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 3, **spec},
    }


def resource(**target):
    return autoscaler(
        metrics=[
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", **target}}}
        ]
    )


def external(type="Value", **target):
    return autoscaler(
        metrics=[
            {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": type, **target}}}
        ]
    )


def rules(**up):
    return autoscaler(behavior={"scaleUp": up})


def policy(**fields):
    return rules(policies=[{"type": "Pods", "value": 1, "periodSeconds": 15, **fields}])


CASES = {
    "most below 1": (
        autoscaler(maxReplicas=0),
        "spec.maxReplicas",
        "Invalid value: 0: must be greater than 0",
    ),
    "least below 0": (autoscaler(minReplicas=-1), "spec.minReplicas", "must be greater than or equal to 0"),
    "most below least": (
        autoscaler(minReplicas=4),
        "spec.maxReplicas",
        "Invalid value: 3: must be greater than or equal to `minReplicas`",
    ),
    "zero by pods' own metrics": (
        autoscaler(minReplicas=0, metrics=[CPU]),
        "spec.metrics",
        "Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
    ),
    "no kind": (
        autoscaler(scaleTargetRef={"kind": "", "name": "web"}),
        "spec.scaleTargetRef.kind",
        "Required value",
    ),
    "a name that is a path": (
        autoscaler(scaleTargetRef={"kind": "Deployment", "name": "../web"}),
        "spec.scaleTargetRef.name",
        "may not contain '/'",
    ),
    "no type": (
        autoscaler(metrics=[{"type": ""}]),
        "spec.metrics[0].type",
        "must specify a metric source type",
    ),
    "two sources": (
        autoscaler(
            metrics=[
                {
                    **CPU,
                    "pods": {"metric": {"name": "r"}, "target": {"type": "AverageValue", "averageValue": 1}},
                }
            ]
        ),
        "spec.metrics[0].pods",
        "Forbidden: must populate the given metric source only",
    ),
    "target type": (
        resource(type="Average", averageUtilization=5),
        "spec.metrics[0].resource.target.type",
        "must be either Utilization, Value, or AverageValue",
    ),
    "no target": (
        resource(),
        "spec.metrics[0].resource.target.averageUtilization",
        "Required value: must set either a target raw value or a target utilization",
    ),
    "two targets": (
        resource(averageUtilization=5, averageValue="1"),
        "spec.metrics[0].resource.target.averageValue",
        "Forbidden: may not set both a target raw value and a target utilization",
    ),
    "no share": (
        resource(averageUtilization=0),
        "spec.metrics[0].resource.target.averageUtilization",
        "Invalid value: 0: must be greater than 0",
    ),
    "no container": (
        autoscaler(
            metrics=[{"type": "ContainerResource", "containerResource": {**CPU["resource"], "container": ""}}]
        ),
        "spec.metrics[0].containerResource.container",
        "Required value: must specify a container",
    ),
    "pods without a mean": (
        autoscaler(
            metrics=[
                {"type": "Pods", "pods": {"metric": {"name": "r"}, "target": {"type": "Value", "value": 1}}}
            ]
        ),
        "spec.metrics[0].pods.target.averageValue",
        "Required value: must specify a positive target averageValue",
    ),
    "no metric name": (
        autoscaler(
            metrics=[
                {
                    "type": "External",
                    "external": {"metric": {"name": ""}, "target": {"type": "Value", "value": 1}},
                }
            ]
        ),
        "spec.metrics[0].external.metric.name",
        "Required value: must specify a metric name",
    ),
    "value of nothing": (
        external(value="0"),
        "spec.metrics[0].external.target.value",
        "must be positive",
    ),
    "neither value": (
        external(),
        "spec.metrics[0].external.target.averageValue",
        "Required value: must set either a target value for metric or a per-pod target",
    ),
    "both values": (
        external(value=1, averageValue=1),
        "spec.metrics[0].external.target.value",
        "Forbidden: may not set both a target value for metric and a per-pod target",
    ),
    "an object without a name": (
        autoscaler(
            metrics=[
                {
                    "type": "Object",
                    "object": {
                        "describedObject": {"kind": "Service", "name": ""},
                        "metric": {"name": "hits"},
                        "target": {"type": "Value", "value": 1},
                    },
                }
            ]
        ),
        "spec.metrics[0].object.describedObject.name",
        "Required value",
    ),
    "negative window": (
        rules(stabilizationWindowSeconds=-1),
        "spec.behavior.scaleUp.stabilizationWindowSeconds",
        "Invalid value: -1: must be greater than or equal to zero",
    ),
    "window over an hour": (
        rules(stabilizationWindowSeconds=3601),
        "spec.behavior.scaleUp.stabilizationWindowSeconds",
        "Invalid value: 3601: must be less than or equal to 3600",
    ),
    "select policy": (
        rules(selectPolicy="Most"),
        "spec.behavior.scaleUp.selectPolicy",
        'Unsupported value: "Most": supported values: "Disabled", "Max", "Min"',
    ),
    "tolerance": (
        rules(tolerance="-0.1"),
        "spec.behavior.scaleUp.tolerance",
        "must be greater than or equal to zero",
    ),
    "policy type": (
        policy(type="Nodes"),
        "spec.behavior.scaleUp.policies[0].type",
        'Unsupported value: "Nodes": supported values: "Percent", "Pods"',
    ),
    "policy value": (policy(value=0), "spec.behavior.scaleUp.policies[0].value", "must be greater than zero"),
    "no period": (
        policy(periodSeconds=0),
        "spec.behavior.scaleUp.policies[0].periodSeconds",
        "must be greater than zero",
    ),
    "period over half an hour": (
        policy(periodSeconds=1801),
        "spec.behavior.scaleUp.policies[0].periodSeconds",
        "Invalid value: 1801: must be less than or equal to 1800",
    ),
    "no quantity": (external(value="lots"), "spec.metrics[0].external.target.value", "quantity"),
}


@pytest.mark.parametrize(("document", "field", "text"), CASES.values(), ids=CASES)
def test_what_kubernetes_refuses_is_refused_in_its_words(document, field, text):
    with pytest.raises(PlatformError) as caught:
        admit(document)
    assert any(cause.field == field and text in cause.message for cause in caught.value.causes), (
        caught.value.causes
    )


@pytest.mark.parametrize(
    "document",
    [
        autoscaler(),
        autoscaler(minReplicas=0, metrics=[CPU, external(value=1)["spec"]["metrics"][0]]),
        rules(stabilizationWindowSeconds=3600, selectPolicy="Disabled", tolerance="0.05"),
        policy(periodSeconds=1800),
    ],
)
def test_what_kubernetes_accepts_is_accepted_and_acted_upon(document):
    admitted = admit(document)
    assert admitted.document == document
    assert admitted.warnings == ()
