"""What gateways report of a service now, as one number: for triggers and metrics of other autoscalers."""

from __future__ import annotations

from collections.abc import Callable

from penstock.contracts.controller import Cache
from penstock.contracts.trigger import Demand, DemandMetric
from penstock.controlplane.feed import Feed
from penstock.kit.errors import NotFound, Unavailable
from penstock.resources.serving import InferenceService


def demand_reader(feed: Feed, cache: Cache) -> Demand:
    """Sums over the gateways that are connected; a service that none of them names is asked nothing."""

    def read(namespace: str, name: str, metric: DemandMetric) -> float:
        if cache.get(InferenceService, name, namespace) is None:
            raise NotFound(f"InferenceService {namespace}/{name} does not exist")
        reports = feed.latest_demand()
        if not reports:
            raise Unavailable(
                "no gateway has reported yet", hint="see whether one is connected: penstock doctor"
            )
        total = 0.0
        for report in reports:
            for seen in report.services:
                if (seen.namespace, seen.name) == (namespace, name):
                    if metric == "rps":
                        total += seen.requests / report.window_s if report.window_s > 0 else 0.0
                    else:
                        total += seen.waiting if metric == "waiting" else seen.in_flight
        return total

    return read


def stream_reader(feed: Feed) -> Callable[[str], int | None]:
    """How many requests are under way at a pod of this name, by what gateways reported last; None while none is connected."""

    def read(pod: str) -> int | None:
        reports = feed.latest_demand()
        if not reports:
            return None
        return sum(
            endpoint.streams
            for report in reports
            for service in report.services
            for revision in service.revisions
            for endpoint in revision.endpoints
            if endpoint.name == pod
        )

    return read
