"""What gateways report of a service now, as one number: for triggers and metrics of other autoscalers."""

from __future__ import annotations

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
