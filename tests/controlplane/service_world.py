"""A world of services: the shipped runtimes, every controller of services, the autoscaler, and a gateway that says what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from penstock.app.runtimes import ensure_runtimes
from penstock.contracts.controller import Controller
from penstock.contracts.exchange import DemandReport, EndpointDemand, RevisionDemand, ServiceDemand
from penstock.controlplane.autoscaling.applying import Applier
from penstock.controlplane.autoscaling.loop import Autoscaler
from penstock.controlplane.controllers.inference_service import InferenceServiceController
from penstock.controlplane.feed import Feed
from penstock.controlplane.routes import RouteController
from penstock.controlplane.starts import Starts
from penstock.host.device_book import DeviceBook
from penstock.resources.admission import admit
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Deployment
from penstock.testing.world import World


def services(world: World) -> InferenceServiceController:
    recorder = world.recorder.named("services")
    return InferenceServiceController(
        world.cluster, world.cache, recorder, world.clock, gateway_addr="127.0.0.1:8080"
    )


class ServiceWorld(World):
    """With the shipped runtimes, and a feed whose table can be looked at."""

    def __init__(self, *others: Callable[[World], Controller]) -> None:
        """`others` are controllers beside those of services."""

        def routes(world: World) -> RouteController:
            self.feed = Feed(world.clock)
            return RouteController(world.cache, self.feed, world.clock)

        self.asked = 0.0
        self.streams: dict[str, int] = {}
        self.reports = True
        super().__init__(services, routes, *others)

    def beside(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        return {"autoscaler": self.autoscaler().run, "gateway": self._gateway}

    def autoscaler(self) -> Autoscaler:
        """A new one, as after a restart."""
        starts = Starts(self.clock)
        named = self.recorder.named("autoscaler")
        applier = Applier(self.cluster, self.cache, named, self.clock, starts, DeviceBook(self.cache, ()))
        return Autoscaler(self.cache, self.feed, applier, starts, self.clock)

    async def _gateway(self) -> None:
        """Reports each second."""
        while True:
            await asyncio.sleep(1)
            if self.reports:
                await self.report()

    async def report(self, *, waiting: int = 0, window_s: float = 1.0) -> None:
        """What iris' newest revision is `asked` at once, and how many wait for it; an early report has a short window."""
        newest = max((name for name in await self.sizes()), default="1")
        revision = RevisionDemand(
            name=f"iris-predictor-0000{newest}",
            in_flight=self.asked,
            endpoints=tuple(EndpointDemand(name=name, streams=n) for name, n in self.streams.items()),
        )
        demand = ServiceDemand(
            namespace="default",
            name="iris",
            in_flight=self.asked + waiting,
            waiting=waiting,
            wake=waiting > 0,
            revisions=(revision,),
        )
        services = (demand,) if self.asked or waiting or self.streams else ()
        self.feed.take(self, DemandReport(gateway="g", at=0.0, window_s=window_s, services=services))

    async def __aenter__(self) -> ServiceWorld:
        await ensure_runtimes(self.cluster)
        await super().__aenter__()
        return self

    async def service(self, name: str = "iris") -> InferenceService:
        return await self.cluster.get(InferenceService, name, "default")

    async def change(self, **predictor: Any) -> None:
        patch = {"spec": {"predictor": predictor}}
        await self.cluster.patch(InferenceService, "iris", "default", patch)

    async def sizes(self) -> dict[str, int]:
        """The replicas that each revision shall have, by its number."""
        found = (await self.cluster.list(Deployment, "default")).items
        return {d.metadata.name[-1]: d.spec.replicas for d in found}

    async def scaler(self, number: int = 1) -> PodAutoscaler:
        return await self.cluster.get(PodAutoscaler, f"iris-predictor-0000{number}", "default")

    def shares(self) -> dict[str, tuple[int, int]]:
        """Percent and number of endpoints of each revision, by its number."""
        [route] = self.feed.table.services
        return {r.name[-1]: (r.weight_percent, len(r.endpoints)) for r in route.revisions}


def iris(annotations: dict[str, str] | None = None, **predictor: Any) -> InferenceService:
    model = {"modelFormat": {"name": "huggingface"}, "storageUri": "file:///models/iris"}
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris", "namespace": "default", "annotations": annotations or {}},
        "spec": {"predictor": {"model": model, **predictor}},
    }
    made = admit(document).object
    assert isinstance(made, InferenceService)
    return made
