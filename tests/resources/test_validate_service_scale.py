"""KServe's rules of a service's scale, by Knative, HPA and KEDA, and of its logger, in its exact words."""

import pytest
from written_manifests import KEDA, STANDARD, external, metrics, resource, service

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit

DENIED = {
    # rules 11 and 12
    **{
        f"extension {extension}": (service(extension), f"spec.predictor.{field}", text)
        for extension, field, text in (
            ({"containerConcurrency": -1}, "containerConcurrency", "parallelism cannot be less than 0"),
            ({"minReplicas": -1}, "minReplicas", "'MinReplicas' cannot be less than 0"),
            ({"maxReplicas": -1}, "maxReplicas", "'MaxReplicas' cannot be less than 0"),
            (
                {"minReplicas": 3, "maxReplicas": 2},
                "minReplicas",
                "'MinReplicas' cannot be greater than MaxReplicas",
            ),
            ({"logger": {"url": "http://x"}}, "logger.mode", "invalid logger type"),
            ({"logger": {"mode": "some"}}, "logger.mode", "invalid logger type"),
            (
                {"logger": {"mode": "all", "storage": {"path": "x", "key": "y"}}},
                "logger.storage",
                "invalid logger storage configuration",
            ),
        )
    },
    # rule 13, Knative
    **{
        f"knative {extension}": (service(extension), f"spec.predictor.{field}", text)
        for extension, field, text in (
            (
                {"deploymentStrategy": {"type": "Recreate"}},
                "deploymentStrategy",
                "customizing deploymentStrategy is only supported for raw deployment mode",
            ),
            ({"scaleMetric": "cpu"}, "scaleMetric", "[cpu] is not a supported metric"),
            (
                {"scaleMetric": "rps", "scaleTarget": 0},
                "scaleTarget",
                "the target for rps should be greater than 1",
            ),
        )
    },
    "knative with the class hpa": (
        service({"scaleMetric": "rps"}, {"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"}),
        "spec.predictor.scaleMetric",
        "[rps] is not a supported metric",
    ),
    # rule 13, Standard with hpa, which is the default
    **{
        f"hpa {extension}": (service(extension, STANDARD), f"spec.predictor.{field}", text)
        for extension, field, text in (
            ({"scaleMetric": "concurrency"}, "scaleMetric", "[concurrency] is not a supported metric"),
            (
                {"scaleTarget": 101},
                "scaleTarget",
                "the target utilization percentage should be a [1-100] integer",
            ),
            (
                {"scaleMetric": "memory", "scaleTarget": 0},
                "scaleTarget",
                "the target memory should be greater than 1 MiB",
            ),
            (
                {"autoScaling": {"metrics": [external()]}},
                "autoScaling.metrics[0].type",
                "invalid HPA metric source type with value [External],valid metric source types are Resource",
            ),
            (
                {"autoScaling": {"metrics": [{"type": "Resource"}]}},
                "autoScaling.metrics[0].resource",
                "metricSpec.Resource is not set for resource metric source type",
            ),
        )
    },
    # rule 13, Standard with keda
    "keda with a scale metric": (
        service({"scaleMetric": "cpu"}, KEDA),
        "spec.predictor.scaleMetric",
        "ScaleMetric is not supported for KEDA",
    ),
    **{
        f"keda {item}": (metrics(item), f"spec.predictor.autoScaling.metrics[0].{field}", text)
        for item, field, text in (
            (
                {"type": "Resource"},
                "resource",
                "metricSpec.Resource is not set for resource metric source type",
            ),
            (
                {"type": "External"},
                "external",
                "metricSpec.External is not set for external metric source type",
            ),
            (
                {"type": "PodMetric"},
                "podmetric",
                "metricSpec.PodMetric is not set for pod metric source type",
            ),
            (
                {"type": "Other"},
                "type",
                "unknown KEDA metric type with value [Other].Valid types are Resource,External,PodMetric",
            ),
            (
                resource("cpu", type="AverageValue"),
                "resource.target.type",
                "the cpu target value type should be Utilization",
            ),
            (
                resource("cpu", type="Utilization"),
                "resource.target.averageUtilization",
                "the AverageUtilization type should be set",
            ),
            (
                resource("cpu", type="Utilization", averageUtilization=0),
                "resource.target.averageUtilization",
                "the target utilization percentage should be a [1-100] integer",
            ),
            (
                resource("memory", type="Value"),
                "resource.target.type",
                "the memory target value type should be AverageValue or Utilization",
            ),
            (
                resource("memory", type="AverageValue", averageValue="1000k"),
                "resource.target.averageValue",
                "the memory target value should be greater than 1 MiB",
            ),
            (
                resource("memory", type="AverageValue"),
                "resource.target.averageValue",
                "the AverageValue type should be set",
            ),
            (resource("disk", type="Value"), "resource.name", "resource type disk is not supported"),
            (external(query=""), "external.metric.query", "the query should not be empty"),
            (external(), "external.target.value", "the target threshold value should not be empty"),
            (
                external(kind="podmetric", type_="PodMetric", value=1, type="Utilization"),
                "podmetric.target.averageUtilization",
                "the AverageUtilization type should be set",
            ),
        )
    },
}


@pytest.mark.parametrize(("document", "field", "text"), DENIED.values(), ids=DENIED)
def test_a_scale_that_kserve_refuses_is_refused_in_its_words(document, field, text):
    with pytest.raises(Invalid) as caught:
        admit(document)
    error = caught.value
    assert (error.message, [(cause.field, cause.message) for cause in error.causes]) == (
        text,
        [(field, text)],
    )
