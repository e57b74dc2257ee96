"""Kubernetes' rules of pods and workloads, in its words."""

import copy

import pytest

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit
from penstock.resources.parse import parse


def template(labels=None, **spec):
    return {
        "metadata": {"labels": labels or {"app": "a"}},
        "spec": {"containers": [{"name": "main", "image": "x"}], **spec},
    }


def pod(**spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": template()["spec"] | spec}


def container(**fields):
    return pod(containers=[{"name": "main", "image": "x", **fields}])


def deployment(**spec):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template(), **spec},
    }


def replica_set(**spec):
    return deployment(**spec) | {"kind": "ReplicaSet"}


def job(pod_template=None, **spec):
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": {"template": pod_template or template(restartPolicy="Never"), **spec},
    }


def autoscaler(**spec):
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 3, **spec},
    }


def named(name="a", **meta):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **meta}}


LEAST = "must be greater than or equal to"
CASES = {
    # metadata
    "upper case name": (named("Web"), "metadata.name", "a lowercase RFC 1123 subdomain must consist of"),
    "no name": (named(""), "metadata.name", "Required value: name or generateName is required"),
    "long name": (named("a" * 254), "metadata.name", "must be no more than 253 characters"),
    "namespace with a dot": (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a.b"}},
        "metadata.name",
        "a lowercase RFC 1123 label must consist of",
    ),
    "long namespace": (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a" * 64}},
        "metadata.name",
        "must be no more than 63 characters",
    ),
    "label with a space": (
        named(labels={"a": "b c"}),
        "metadata.labels",
        'Invalid value: "b c": a valid label must be an empty string or consist of',
    ),
    "long label": (named(labels={"a": "b" * 64}), "metadata.labels", "must be no more than 63 characters"),
    "label key": (
        named(labels={"a b": ""}),
        "metadata.labels",
        'Invalid value: "a b": name part must consist of',
    ),
    "label prefix": (named(labels={"A_/b": ""}), "metadata.labels", "prefix part a lowercase RFC 1123"),
    "long label key": (named(labels={"a" * 64: ""}), "metadata.labels", "name part must be no more than 63"),
    "annotation key": (named(annotations={"/": ""}), "metadata.annotations", "name part must consist of"),
    "large annotations": (
        named(annotations={"a": "x" * (256 << 10)}),
        "metadata.annotations",
        "Too long: may not be more than 262144 bytes",
    ),
    # pods
    "no containers": (pod(containers=[]), "spec.containers", "Required value"),
    "container without a name": (
        pod(containers=[{"image": "x"}]),
        "spec.containers[0].name",
        "Required value",
    ),
    "two containers of one name": (
        pod(initContainers=[{"name": "main"}]),
        "spec.initContainers[0].name",
        'Duplicate value: "main"',
    ),
    "container name": (
        pod(containers=[{"name": "A"}]),
        "spec.containers[0].name",
        "a lowercase RFC 1123 label",
    ),
    "restart policy": (
        pod(restartPolicy="Sometimes"),
        "spec.restartPolicy",
        'Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
    ),
    "two volumes of one name": (
        pod(volumes=[{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]),
        "spec.volumes[1].name",
        'Duplicate value: "v"',
    ),
    "deadline": (pod(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds", f"{LEAST} 1"),
    "grace": (pod(terminationGracePeriodSeconds=-1), "spec.terminationGracePeriodSeconds", f"{LEAST} 0"),
    "port": (
        container(ports=[{"containerPort": 65536}]),
        "spec.containers[0].ports[0].containerPort",
        "Invalid value: 65536: must be between 1 and 65535, inclusive",
    ),
    "protocol": (
        container(ports=[{"containerPort": 1, "protocol": "X"}]),
        "spec.containers[0].ports[0].protocol",
        'Unsupported value: "X"',
    ),
    "two ports of one name": (
        container(ports=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
        "spec.containers[0].ports[1].name",
        'Duplicate value: "a"',
    ),
    "variable without a name": (
        container(env=[{"name": ""}]),
        "spec.containers[0].env[0].name",
        "Required value",
    ),
    "variable name": (
        container(env=[{"name": "A=B"}]),
        "spec.containers[0].env[0].name",
        "must not contain '='",
    ),
    "variable from two places": (
        container(
            env=[{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
        ),
        "spec.containers[0].env[0].valueFrom",
        "may not be specified when `value` is not empty",
    ),
    "unknown volume": (
        container(volumeMounts=[{"name": "v", "mountPath": "/a"}]),
        "spec.containers[0].volumeMounts[0].name",
        'Not found: "v"',
    ),
    "negative request": (
        container(resources={"requests": {"cpu": "-1"}}),
        "spec.containers[0].resources.requests[cpu]",
        f"{LEAST} 0",
    ),
    "request above its limit": (
        container(resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}),
        "spec.containers[0].resources.requests",
        'Invalid value: "2Gi": must be less than or equal to memory limit of 1Gi',
    ),
    "probe that does nothing": (
        container(livenessProbe={"periodSeconds": 1}),
        "spec.containers[0].livenessProbe",
        "Required value: must specify a handler type",
    ),
    "probe that does two things": (
        container(readinessProbe={"tcpSocket": {"port": 1}, "exec": {"command": ["x"]}}),
        "spec.containers[0].readinessProbe",
        "Forbidden: may not specify more than 1 handler type",
    ),
    "probe that never asks": (
        container(startupProbe={"tcpSocket": {"port": 1}, "periodSeconds": -1}),
        "spec.containers[0].startupProbe.periodSeconds",
        f"{LEAST} 1",
    ),
    # deployments and replica sets
    "no selector": (deployment(selector={}), "spec.selector", "Required value"),
    "selector of other pods": (
        deployment(selector={"matchLabels": {"app": "b"}}),
        "spec.template.metadata.labels",
        'Invalid value: {"app": "a"}: `selector` does not match template `labels`',
    ),
    "replica set of other pods": (
        replica_set(selector={"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}),
        "spec.template.metadata.labels",
        "`selector` does not match template `labels`",
    ),
    "selector operator": (
        deployment(selector={"matchExpressions": [{"key": "app", "operator": "Is"}]}),
        "spec.selector.matchExpressions[0].operator",
        "not a valid selector operator",
    ),
    "selector in nothing": (
        deployment(selector={"matchExpressions": [{"key": "app", "operator": "In"}]}),
        "spec.selector.matchExpressions[0].values",
        "Required value: must be specified when `operator` is 'In' or 'NotIn'",
    ),
    "selector exists with values": (
        deployment(selector={"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["a"]}]}),
        "spec.selector.matchExpressions[0].values",
        "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
    ),
    "negative replicas": (deployment(replicas=-1), "spec.replicas", f"{LEAST} 0"),
    "negative replicas of a set": (replica_set(replicas=-1), "spec.replicas", f"{LEAST} 0"),
    "strategy": (deployment(strategy={"type": "X"}), "spec.strategy.type", 'Unsupported value: "X"'),
    "update that cannot move": (
        deployment(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
        "spec.strategy.rollingUpdate.maxUnavailable",
        'Invalid value: "0%": may not be 0 when `maxSurge` is 0',
    ),
    "share that is no share": (
        deployment(strategy={"rollingUpdate": {"maxSurge": "half"}}),
        "spec.strategy.rollingUpdate.maxSurge",
        "a valid percent string must be a numeric string followed by an ending '%'",
    ),
    "negative share": (
        deployment(strategy={"rollingUpdate": {"maxSurge": -1}}),
        "spec.strategy.rollingUpdate.maxSurge",
        f"{LEAST} 0",
    ),
    "deployment that ends": (
        deployment(template=template(restartPolicy="Never")),
        "spec.template.spec.restartPolicy",
        'Unsupported value: "Never": supported values: "Always"',
    ),
    "template label": (
        deployment(template=template({"app": "a", "b": "c d"})),
        "spec.template.metadata.labels",
        'Invalid value: "c d"',
    ),
    # jobs
    "job without a policy": (
        job(template()),
        "spec.template.spec.restartPolicy",
        'Required value: valid values: "OnFailure", "Never"',
    ),
    "job for ever": (
        job(template(restartPolicy="Always")),
        "spec.template.spec.restartPolicy",
        'Unsupported value: "Always": supported values: "OnFailure", "Never"',
    ),
    "negative parallelism": (job(parallelism=-1), "spec.parallelism", f"{LEAST} 0"),
    "job without time": (job(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds", f"{LEAST} 1"),
    # autoscalers
    "bounds crossed": (
        autoscaler(minReplicas=4),
        "spec.maxReplicas",
        "Invalid value: 3: must be greater than or equal to `minReplicas`",
    ),
    "no target": (
        autoscaler(scaleTargetRef={"kind": "Deployment", "name": ""}),
        "spec.scaleTargetRef.name",
        "Required value",
    ),
    "metric type": (autoscaler(metrics=[{"type": "X"}]), "spec.metrics[0].type", 'Unsupported value: "X"'),
    "metric without a source": (
        autoscaler(metrics=[{"type": "ContainerResource"}]),
        "spec.metrics[0].containerResource",
        "Required value: must populate information for the given metric source",
    ),
}


@pytest.mark.parametrize(("document", "field", "text"), CASES.values(), ids=CASES)
def test_what_kubernetes_refuses_is_refused_in_its_words(document, field, text):
    with pytest.raises(Invalid) as caught:
        admit(document)
    found = {cause.field: cause.message for cause in caught.value.causes}
    assert text in found.get(field, f"only {found}")


MOUNTS = [
    {"name": "v", "mountPath": "/a"},
    {"name": "v", "mountPath": "/a"},
    {"name": "v", "mountPath": "", "subPath": "../x"},
]


def test_mounts_are_distinct_and_stay_inside_their_volume():
    document = pod(
        containers=[{"name": "main", "volumeMounts": MOUNTS}], volumes=[{"name": "v", "emptyDir": {}}]
    )
    with pytest.raises(Invalid) as caught:
        admit(document)
    assert [(cause.field.rpartition("[")[2], cause.message) for cause in caught.value.causes] == [
        ("1].mountPath", 'Invalid value: "/a": must be unique'),
        ("2].mountPath", "Required value"),
        ("2].subPath", "Invalid value: \"../x\": must not contain '..'"),
    ]


@pytest.mark.parametrize(
    "document",
    [
        pod(),
        container(livenessProbe={"httpGet": {"port": 1}, "periodSeconds": 0}),
        deployment(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}}),
        replica_set(),
        job(completions=3, parallelism=2),
        autoscaler(minReplicas=0, metrics=[{"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": 1}}}]),
    ],
    ids=lambda document: document["kind"],
)  # fmt: skip
def test_what_kubernetes_accepts_is_accepted(document):
    assert admit(document).document == document


@pytest.mark.parametrize(
    ("document", "path", "value", "field"),
    [
        (deployment(), ("spec", "selector"), {"matchLabels": {"app": "b"}}, "spec.selector"),
        (replica_set(), ("spec", "selector"), {"matchLabels": {"app": "b"}}, "spec.selector"),
        (job(), ("spec", "completions"), 2, "spec.completions"),
        (job(), ("spec", "template", "spec", "containers"), [{"name": "other"}], "spec.template"),
        (pod(), ("spec", "containers"), [{"name": "main", "image": "x", "args": ["new"]}], "spec"),
        (pod(nodeName="a"), ("spec", "nodeName"), "b", "spec"),
    ],
)
def test_what_may_not_change_may_not_change(document, path, value, field):
    changed = copy.deepcopy(document)
    target = changed
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    with pytest.raises(Invalid) as caught:
        admit(changed, admit(document).object)
    assert field in {cause.field for cause in caught.value.causes}


@pytest.mark.parametrize(
    "spec",
    [
        {"nodeName": "node-1"},
        {"priority": 5},
        {"tolerations": [{"operator": "Exists"}]},
        {"containers": [{"name": "main", "image": "new"}]},
        {"activeDeadlineSeconds": 9},
    ],
)
def test_a_pod_may_be_bound_and_get_a_new_image(spec):
    admit(pod(**spec), admit(pod()).object)


def test_status_and_deletion_go_through_whatever_the_rules_say_now():
    stored = admit(pod()).object
    broken = pod(containers=[])
    with pytest.raises(Invalid):
        admit(broken)
    before = parse(broken).object
    after = {**broken, "status": {"phase": "Failed"}, "metadata": {"name": "p", "finalizers": []}}
    assert admit(after, before).object.status.phase == "Failed"
    with pytest.raises(Invalid):
        admit(broken, stored)
