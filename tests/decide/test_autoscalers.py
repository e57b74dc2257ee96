"""The autoscaler objects of a component."""

from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from worlds import service

from penstock.decide.autoscalers import MADE, autoscaler_objects
from penstock.resources.admission import admit
from penstock.resources.autoscaling import HorizontalPodAutoscaler
from penstock.resources.keda import ScaledObject

MODE, CLASS = "serving.kserve.io/deploymentMode", "serving.kserve.io/autoscalerClass"
STANDARD, KEDA = {MODE: "Standard"}, {MODE: "Standard", CLASS: "keda"}
KNATIVE_HPA = {"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"}
DEPLOYMENT = "iris-predictor-00001"


def objects(annotations=STANDARD, component=None, **predictor):
    return autoscaler_objects(
        service(annotations=annotations, **predictor), "predictor", DEPLOYMENT, component
    )


def spec(annotations=STANDARD, **predictor):
    (made,) = objects(annotations, **predictor)
    return made.spec


def plain(part):
    """As JSON has it."""
    return msgspec.json.decode(msgspec.json.encode(part))


def only_metric(made):
    (metric,) = made.metrics
    return metric.resource.name, msgspec.to_builtins(metric.resource.target)


def resource(name, **target):
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def external(backend="prometheus", **more):
    metric = {"backend": backend, "serverAddress": "http://prometheus:9090", "query": "sum(x)"}
    return {"type": "External", "external": {"metric": {**metric, **more.pop("metric", {})}, **more}}


@pytest.mark.parametrize(
    ("annotations", "kinds"),
    [
        (STANDARD, [HorizontalPodAutoscaler]),
        ({**STANDARD, CLASS: "hpa"}, [HorizontalPodAutoscaler]),
        (KEDA, [ScaledObject]),
        ({**STANDARD, CLASS: "external"}, []),
        ({**STANDARD, CLASS: "none"}, []),
        ({MODE: "RawDeployment"}, [HorizontalPodAutoscaler]),
        ({MODE: "Knative"}, []),
        ({}, []),
        (KNATIVE_HPA, [HorizontalPodAutoscaler]),
        ({**STANDARD, "serving.kserve.io/stop": "true"}, []),
        ({MODE: "ModelMesh"}, []),
    ],
)
def test_the_class_and_the_mode_say_which_object_is_made(annotations, kinds):
    made = objects(annotations)
    assert [type(one) for one in made] == kinds
    assert all(kind in MADE for kind in kinds)


def test_a_component_that_is_not_there_asks_for_nothing():
    assert autoscaler_objects(service(annotations=STANDARD), "transformer", "x") == ()


def test_one_model_over_several_pods_is_not_scaled():
    several = service(annotations={**STANDARD, CLASS: "hpa"})
    predictor = msgspec.convert({"workerSpec": {"containers": []}}, type(several.spec.predictor))
    assert autoscaler_objects(several, "predictor", DEPLOYMENT, predictor) == ()


def test_names_labels_and_owner_are_kserves():
    (made,) = objects(labels={"team": "a"})
    meta = made.metadata
    assert (meta.name, meta.namespace) == ("iris-predictor", "default")
    assert meta.labels == {
        "team": "a",
        "app": "isvc.iris-predictor",
        "serving.kserve.io/inferenceservice": "iris",
        "component": "predictor",
    }
    (owner,) = meta.owner_references
    assert (owner.kind, owner.name, owner.uid, owner.controller) == (
        "InferenceService",
        "iris",
        "uid-iris",
        True,
    )
    assert made.spec.scale_target_ref.name == DEPLOYMENT


def test_a_named_predictor_is_part_of_the_name():
    stable = service(annotations=STANDARD)
    predictor = msgspec.structs.replace(stable.spec.predictor, name="blue")
    named = msgspec.structs.replace(stable, spec=msgspec.structs.replace(stable.spec, predictor=predictor))
    (made,) = autoscaler_objects(named, "predictor", DEPLOYMENT)
    assert (made.metadata.name, made.metadata.labels["app"]) == (
        "iris-blue-predictor",
        "isvc.iris-blue-predictor",
    )


@pytest.mark.parametrize(
    ("fields", "bounds"),
    [
        ({}, (1, 1)),
        ({"minReplicas": 0}, (1, 1)),
        ({"minReplicas": 3}, (3, 3)),
        ({"minReplicas": 2, "maxReplicas": 5}, (2, 5)),
        ({"maxReplicas": 4}, (1, 4)),
        ({"minReplicas": 0, "maxReplicas": 0}, (1, 1)),
        ({"minReplicas": 2, "maxReplicas": 0}, (2, 2)),
    ],
)
def test_an_hpa_has_at_least_one_replica_and_a_maximum_of_at_least_its_minimum(fields, bounds):
    made = spec(**fields)
    assert (made.min_replicas, made.max_replicas) == bounds


@pytest.mark.parametrize(
    ("annotations", "fields", "metric"),
    [
        ({}, {}, ("cpu", {"type": "Utilization", "averageUtilization": 80})),
        ({}, {"scaleTarget": 50}, ("cpu", {"type": "Utilization", "averageUtilization": 50})),
        ({}, {"scaleMetric": "memory"}, ("memory", {"type": "Utilization", "averageUtilization": 80})),
        (
            {},
            {"scaleMetric": "memory", "scaleTarget": 512, "scaleMetricType": "AverageValue"},
            ("memory", {"type": "AverageValue", "averageValue": "512Mi"}),
        ),
        (
            {"serving.kserve.io/metrics": "memory", "serving.kserve.io/targetUtilizationPercentage": "60"},
            {},
            ("memory", {"type": "Utilization", "averageUtilization": 60}),
        ),
        (
            {"serving.kserve.io/metrics": "memory", "serving.kserve.io/targetUtilizationPercentage": "60"},
            {"scaleMetric": "cpu", "scaleTarget": 70},
            ("cpu", {"type": "Utilization", "averageUtilization": 70}),
        ),
        (
            {"serving.kserve.io/metrics": "rps", "serving.kserve.io/targetUtilizationPercentage": "lots"},
            {},
            ("cpu", {"type": "Utilization", "averageUtilization": 80}),
        ),
    ],
)  # fmt: skip
def test_fields_win_over_old_annotations_and_these_over_80_percent_of_cpu(annotations, fields, metric):
    assert only_metric(spec({**STANDARD, **annotations}, **fields)) == metric


def test_metrics_and_behaviour_of_auto_scaling_are_taken_over():
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 60}}
    metrics = [
        resource("cpu", type="Utilization", averageUtilization=70),
        resource("memory", type="AverageValue", averageValue="2Gi"),
    ]
    made = spec(autoScaling={"metrics": metrics, "behavior": behavior}, scaleTarget=5)
    assert plain(made.metrics) == [{"type": m["type"], "resource": m["resource"]} for m in metrics]
    assert plain(made.behavior) == behavior


def test_behaviour_alone_leaves_the_default_metric():
    made = spec(autoScaling={"metrics": [], "behavior": {"scaleUp": {"selectPolicy": "Min"}}})
    assert only_metric(made)[0] == "cpu"


def test_canaries_may_lower_the_minimum():
    stable = service(annotations=STANDARD, minReplicas=3, maxReplicas=6).spec.predictor
    (made,) = objects(component=msgspec.structs.replace(stable, min_replicas=2), minReplicas=3, maxReplicas=6)
    assert (made.spec.min_replicas, made.spec.max_replicas) == (2, 6)


# -- KEDA -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "trigger"),
    [
        (
            resource("cpu", type="Utilization", averageUtilization=50),
            {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}},
        ),
        (
            resource("memory", type="AverageValue", averageValue="2Gi"),
            {"type": "memory", "metricType": "AverageValue", "metadata": {"value": "2Gi"}},
        ),
        (
            external(target={"type": "Value", "value": "100.50"}),
            {
                "type": "prometheus",
                "metricType": "Value",
                "metadata": {
                    "serverAddress": "http://prometheus:9090",
                    "query": "sum(x)",
                    "threshold": "100.5",
                },
            },
        ),
        (
            external(
                metric={"namespace": "team"},
                target={"type": "AverageValue", "value": "1", "averageValue": "500m"},
                authenticationRef={"authenticationRef": {"name": "login"}, "authModes": "bearer"},
            ),
            {
                "type": "prometheus",
                "metricType": "AverageValue",
                "authenticationRef": {"name": "login"},
                "metadata": {
                    "serverAddress": "http://prometheus:9090",
                    "query": "sum(x)",
                    "threshold": "0.5",
                    "namespace": "team",
                    "authModes": "bearer",
                },
            },
        ),
        (
            external("graphite", target={"type": "Value", "value": 7}),
            {
                "type": "graphite",
                "metricType": "Value",
                "metadata": {"serverAddress": "http://prometheus:9090", "query": "sum(x)", "threshold": "7"},
            },
        ),
        (
            {
                "type": "PodMetric",
                "podmetric": {
                    "metric": {"backend": "opentelemetry", "metricNames": ["a"], "query": "sum(a)"},
                    "target": {"type": "Value", "value": "4"},
                },
            },
            {
                "type": "external",
                "metricType": "Value",
                "metadata": {
                    "scalerAddress": "keda-otel-scaler.keda.svc:4318",
                    "metricQuery": "sum(a)",
                    "targetValue": "4",
                    "operationOverTime": "last_one",
                },
            },
        ),
    ],
)
def test_each_metric_is_one_trigger(metric, trigger):
    made = spec(KEDA, autoScaling={"metrics": [metric]})
    assert plain(made.triggers) == [trigger]


def test_a_component_that_names_no_metric_scales_by_80_percent_of_cpu():
    (trigger,) = spec(KEDA).triggers
    assert (trigger.type, trigger.metric_type, trigger.metadata) == ("cpu", "Utilization", {"value": "80"})


@pytest.mark.parametrize(
    ("fields", "metric", "bounds"),
    [
        ({}, external(target={"type": "Value", "value": "1"}), (1, 1)),
        ({"minReplicas": 0, "maxReplicas": 3}, external(target={"type": "Value", "value": "1"}), (0, 3)),
        ({"minReplicas": 0}, external(target={"type": "Value", "value": "1"}), (0, 1)),
        ({"minReplicas": 4}, external(target={"type": "Value", "value": "1"}), (4, 4)),
        ({"minReplicas": 0, "maxReplicas": 3}, resource("cpu", type="Utilization", averageUtilization=5), (1, 3)),
    ],
)  # fmt: skip
def test_keda_may_scale_to_zero_where_something_else_than_pods_is_measured(fields, metric, bounds):
    made = spec(KEDA, autoScaling={"metrics": [metric]}, **fields)
    assert (made.min_replica_count, made.max_replica_count) == bounds


def test_windows_are_the_behaviours_or_the_clusters():
    def windows(**auto_scaling):
        behavior = spec(KEDA, **auto_scaling).advanced.horizontal_pod_autoscaler_config.behavior
        return (
            behavior.scale_up.stabilization_window_seconds,
            behavior.scale_down.stabilization_window_seconds,
        )

    assert windows() == (0, 300)
    own = {"scaleDown": {"stabilizationWindowSeconds": 30}, "scaleUp": {"selectPolicy": "Max"}}
    assert windows(autoScaling={"metrics": [], "behavior": own}) == (0, 30)


def test_kedas_annotations_reach_its_object_and_others_do_not():
    (made,) = objects({**KEDA, "autoscaling.keda.sh/paused": "true"})
    assert made.metadata.annotations == {"autoscaling.keda.sh/paused": "true"}


# -- Knative --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotations", "fields", "bounds"),
    [
        ({}, {}, (1, 2**31 - 1)),
        ({}, {"minReplicas": 0, "maxReplicas": 3}, (1, 3)),
        ({"autoscaling.knative.dev/max-scale": "5"}, {"minReplicas": 2}, (2, 5)),
        ({"autoscaling.knative.dev/maxScale": "5"}, {}, (1, 5)),
    ],
)
def test_knatives_hpa_never_scales_to_zero_and_is_unbounded_without_a_maximum(annotations, fields, bounds):
    made = spec({**KNATIVE_HPA, **annotations}, **fields)
    assert (made.min_replicas, made.max_replicas) == bounds


@pytest.mark.parametrize(
    ("annotations", "fields", "metrics"),
    [
        ({}, {}, []),
        (
            {"target": "70.2"},
            {},
            [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 71}}}],
        ),
        (
            {},
            {"scaleMetric": "memory", "scaleTarget": 512},
            [{"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "512Mi"}}}],
        ),
        (
            {"metric": "tokens", "target": "9"},
            {},
            [{"type": "Pods", "pods": {"metric": {"name": "tokens"}, "target": {"type": "AverageValue", "averageValue": 9}}}],
        ),
        ({"target": "much"}, {}, []),
    ],
)  # fmt: skip
def test_knatives_target_is_percent_of_cpu_mebibytes_or_an_average_of_the_pods(annotations, fields, metrics):
    prefixed = {f"autoscaling.knative.dev/{key}": value for key, value in annotations.items()}
    admitted = service(annotations=KNATIVE_HPA, **fields)
    meta = msgspec.structs.replace(
        admitted.metadata, annotations={**admitted.metadata.annotations, **prefixed}
    )
    made = autoscaler_objects(msgspec.structs.replace(admitted, metadata=meta), "predictor", DEPLOYMENT)
    assert plain(made[0].spec.metrics) == metrics


def test_knatives_window_steadies_both_directions():
    (made,) = objects({**KNATIVE_HPA, "autoscaling.knative.dev/window": "90s"})
    behavior = made.spec.behavior
    assert behavior.scale_up.stabilization_window_seconds == 90
    assert behavior.scale_down.stabilization_window_seconds == 90
    assert made.metadata.name == DEPLOYMENT
    assert spec(KNATIVE_HPA).behavior is None


# -- what others take -----------------------------------------------------------------------------------------------

targets = st.one_of(st.none(), st.integers(1, 100))
counts = st.one_of(st.none(), st.integers(0, 50))


@given(
    st.sampled_from([STANDARD, KEDA, KNATIVE_HPA]), counts, counts, targets, st.sampled_from([None, "cpu", "memory"])
)  # fmt: skip
def test_whatever_is_made_is_admitted(annotations, least, most, target, metric):
    if least is not None and most and least > most:
        least, most = most, least
    fields = {"minReplicas": least, "maxReplicas": most, "scaleTarget": target}
    if annotations is not KEDA:
        fields["scaleMetric"] = metric
    (made,) = objects(annotations, **{key: value for key, value in fields.items() if value is not None})
    stored = msgspec.structs.replace(
        made, metadata=msgspec.structs.replace(made.metadata, owner_references=())
    )
    assert admit(msgspec.to_builtins(stored)).warnings == ()


def test_a_scaled_object_fits_kedas_schema():
    folder = Path(__file__).parents[3] / "shared" / "crds" / "keda"
    if not folder.is_dir():
        pytest.skip("../shared is absent")
    crd = yaml.safe_load((folder / "keda.sh_scaledobjects.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    metrics = [
        external(target={"type": "Value", "value": "5"}),
        resource("cpu", type="Utilization", averageUtilization=5),
    ]
    (made,) = objects(KEDA, autoScaling={"metrics": metrics}, maxReplicas=3)
    document = yaml.safe_load(msgspec.yaml.encode(made))
    document.pop("metadata")
    Draft202012Validator(schema).validate(document)
