"""Metrics of single objects, for autoscalers' metrics of type Object: who offers which, by the object's kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from penstock.contracts.controller import Cache
from penstock.contracts.trigger import Demand, DemandMetric
from penstock.decide.engine_metrics import metrics_endpoint
from penstock.kit.errors import NotFound, Unavailable
from penstock.kit.exposition import series_of
from penstock.kit.scrape import scrape
from penstock.resources.meta import LabelSelector
from penstock.resources.pod import Pod
from penstock.resources.selectors import matches_label_selector

DEMANDS: tuple[DemandMetric, ...] = ("concurrency", "rps", "waiting")


class ObjectMetrics(Protocol):
    """Reads metrics of objects of one kind."""

    async def value(self, namespace: str, name: str, metric: str, selector: LabelSelector | None) -> float:
        """The metric now. Raises NotFound where it is not offered, Unavailable where it cannot be read now."""
        ...


Registry = Mapping[str, ObjectMetrics]
"""By the kind of the object that is described."""


class ServiceMetrics:
    """Of an InferenceService: `concurrency`, `rps` and `waiting`, as the gateways report them."""

    def __init__(self, demand: Demand) -> None:
        """`demand` answers for all services."""
        self._demand = demand

    async def value(self, namespace: str, name: str, metric: str, selector: LabelSelector | None) -> float:
        """See `ObjectMetrics`."""
        for known in DEMANDS:
            if metric == known:
                return self._demand(namespace, name, known)
        raise NotFound(f"found metric {metric!r}, expected one of {', '.join(DEMANDS)}")


class PodMetrics:
    """Of a Pod: whatever its Prometheus endpoint exposes; series that the selector takes are added up."""

    def __init__(self, cache: Cache) -> None:
        """`cache` knows pods."""
        self._cache = cache

    async def value(self, namespace: str, name: str, metric: str, selector: LabelSelector | None) -> float:
        """See `ObjectMetrics`."""
        pod = self._cache.get(Pod, name, namespace)
        if pod is None:
            raise NotFound(f'pods "{name}" not found')
        return await scraped(pod, metric, selector)


async def scraped(pod: Pod, metric: str, selector: LabelSelector | None) -> float:
    """One metric of a pod's own endpoint, summed over the series that the selector takes. Raises NotFound, Unavailable, InvalidInput."""
    endpoint = metrics_endpoint(pod)
    if endpoint is None:
        raise Unavailable(
            f"pod {pod.metadata.name}: no metrics endpoint",
            hint="annotate it with prometheus.kserve.io/port, and …/path unless that is /metrics",
        )
    found = [
        series.value
        for series in series_of(await scrape(*endpoint), metric)
        if selector is None or matches_label_selector(selector, dict(series.labels))
    ]
    if not found:
        raise NotFound(f"pod {pod.metadata.name}: its endpoint has no series {metric}")
    return sum(found)
