"""May a component scale like this? (KServe's rules 11, 12 and 13)"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.kit.quantity import parse_quantity
from penstock.resources.annotations import AUTOSCALER_CLASS, KNATIVE_CLASS, KNATIVE_HPA, STANDARD
from penstock.resources.serving import Component, ComponentResourceMetric, ResourceMetric, ScaleMetric
from penstock.resources.validation import Denial

LOGGER_MODES = ("all", "request", "response")
MIB = 1 << 20


def deny_extension(path: str, component: Component) -> Denial | None:
    """Rules 11 and 12: numbers in their range, and a logger that says what it logs."""
    if component.container_concurrency is not None and component.container_concurrency < 0:
        return Denial(f"{path}.containerConcurrency", "parallelism cannot be less than 0")
    least = 1 if component.min_replicas is None else component.min_replicas
    most = component.max_replicas or 0
    if least < 0:
        return Denial(f"{path}.minReplicas", "'MinReplicas' cannot be less than 0")
    if most < 0:
        return Denial(f"{path}.maxReplicas", "'MaxReplicas' cannot be less than 0")
    if least > most != 0:
        return Denial(f"{path}.minReplicas", "'MinReplicas' cannot be greater than MaxReplicas")
    logger = component.logger
    if logger is None:
        return None
    if logger.mode not in LOGGER_MODES:
        return Denial(f"{path}.logger.mode", "invalid logger type", f"use {', '.join(LOGGER_MODES)}")
    storage = logger.storage
    if storage is not None and not (storage.path and storage.key and storage.parameters):
        return Denial(
            f"{path}.logger.storage", "invalid logger storage configuration", "set path, key and parameters"
        )
    return None


def deny_scaling(path: str, component: Component, annotations: Mapping[str, str], mode: str) -> Denial | None:
    """Rule 13: metrics and targets that the mode's autoscaler understands."""
    if mode != STANDARD:
        if annotations.get(KNATIVE_CLASS) == KNATIVE_HPA:
            return _deny_hpa(path, component)
        return _deny_kpa(path, component)
    autoscaler = annotations.get(AUTOSCALER_CLASS, "hpa")
    if autoscaler == "hpa":
        return _deny_hpa(path, component)
    if autoscaler == "keda":
        return _deny_keda(path, component)
    return None


def _deny_kpa(path: str, component: Component) -> Denial | None:
    if component.deployment_strategy is not None:
        return Denial(
            f"{path}.deploymentStrategy",
            "customizing deploymentStrategy is only supported for raw deployment mode",
            "set the annotation serving.kserve.io/deploymentMode: Standard",
        )
    metric = component.scale_metric or "concurrency"
    if metric not in ("concurrency", "rps"):
        return _unknown_metric(path, metric, "Knative mode scales by concurrency or rps")
    if metric == "rps" and component.scale_target is not None and component.scale_target < 1:
        return Denial(f"{path}.scaleTarget", "the target for rps should be greater than 1")
    return None


def _deny_hpa(path: str, component: Component) -> Denial | None:
    metric, target = component.scale_metric or "cpu", component.scale_target
    if metric not in ("cpu", "memory"):
        return _unknown_metric(path, metric, "the autoscaler hpa scales by cpu or memory")
    if metric == "cpu" and target is not None and not 1 <= target <= 100:
        return Denial(f"{path}.scaleTarget", "the target utilization percentage should be a [1-100] integer")
    if metric == "memory" and target is not None and target < 1:
        return Denial(f"{path}.scaleTarget", "the target memory should be greater than 1 MiB")
    for i, item in enumerate(component.auto_scaling.metrics if component.auto_scaling else ()):
        where = f"{path}.autoScaling.metrics[{i}]"
        if item.type != "Resource":
            return Denial(
                f"{where}.type",
                f"invalid HPA metric source type with value [{item.type}],valid metric source types are Resource",
                "set the annotation serving.kserve.io/autoscalerClass: keda for other metrics",
            )
        if item.resource is None:
            return _no_source(where, item)
    return None


def _deny_keda(path: str, component: Component) -> Denial | None:
    if component.scale_metric is not None:
        return Denial(
            f"{path}.scaleMetric", "ScaleMetric is not supported for KEDA", "use autoScaling.metrics"
        )
    for i, item in enumerate(component.auto_scaling.metrics if component.auto_scaling else ()):
        denial = _deny_keda_metric(f"{path}.autoScaling.metrics[{i}]", item)
        if denial is not None:
            return denial
    return None


def _deny_keda_metric(where: str, item: ScaleMetric) -> Denial | None:
    match item.type:
        case "Resource":
            return _no_source(where, item) if item.resource is None else _deny_resource(where, item.resource)
        case "External" | "PodMetric":
            source = item.external if item.type == "External" else item.podmetric
            if source is None:
                return _no_source(where, item)
            where = f"{where}.{'external' if item.type == 'External' else 'podmetric'}"
            if not source.metric.query:
                return Denial(f"{where}.metric.query", "the query should not be empty")
            if source.target.value is None:
                return Denial(f"{where}.target.value", "the target threshold value should not be empty")
            return _deny_target(f"{where}.target", source.target)
    return Denial(
        f"{where}.type",
        f"unknown KEDA metric type with value [{item.type}].Valid types are Resource,External,PodMetric",
    )


def _deny_resource(where: str, metric: ComponentResourceMetric) -> Denial | None:
    field, target = f"{where}.resource.target", metric.target
    if metric.name == "cpu":
        if target.type != "Utilization":
            return Denial(f"{field}.type", "the cpu target value type should be Utilization")
    elif metric.name == "memory":
        if target.type not in ("AverageValue", "Utilization"):
            return Denial(
                f"{field}.type", "the memory target value type should be AverageValue or Utilization"
            )
        value = target.average_value
        if target.type == "AverageValue" and value is not None and parse_quantity(value) < MIB:
            return Denial(f"{field}.averageValue", "the memory target value should be greater than 1 MiB")
    else:
        return Denial(f"{where}.resource.name", f"resource type {metric.name} is not supported")
    return _deny_target(field, target)


def _deny_target(field: str, target: ResourceMetric) -> Denial | None:
    if target.type == "Utilization":
        if target.average_utilization is None:
            return Denial(f"{field}.averageUtilization", "the AverageUtilization type should be set")
        if not 1 <= target.average_utilization <= 100:
            return Denial(
                f"{field}.averageUtilization",
                "the target utilization percentage should be a [1-100] integer",
            )
    if target.type == "AverageValue" and target.average_value is None:
        return Denial(f"{field}.averageValue", "the AverageValue type should be set")
    if target.type == "Value" and target.value is None:
        return Denial(f"{field}.value", "the Value type should be set")
    return None


def _no_source(where: str, item: ScaleMetric) -> Denial:
    field, words = {
        "Resource": ("Resource", "resource"),
        "External": ("External", "external"),
        "PodMetric": ("PodMetric", "pod"),
    }[item.type]
    return Denial(f"{where}.{field.lower()}", f"metricSpec.{field} is not set for {words} metric source type")


def _unknown_metric(path: str, metric: str, hint: str) -> Denial:
    return Denial(f"{path}.scaleMetric", f"[{metric}] is not a supported metric", hint)
