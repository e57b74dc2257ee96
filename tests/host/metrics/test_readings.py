"""Where metrics are read, and what becomes of those that cannot be trusted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from msgspec import convert, structs

from penstock.decide.hpa_metric import PodReadings, Reading, Unread, ValueReadings
from penstock.decide.hpa_replicas import PodSample
from penstock.decide.usage import Usage
from penstock.host.metrics import objects
from penstock.host.metrics.objects import PodMetrics, ServiceMetrics
from penstock.host.metrics.readings import MetricReader
from penstock.kit.clock import SystemClock
from penstock.kit.errors import NotFound, Unavailable
from penstock.kit.scrape import scrape
from penstock.resources.autoscaling import MetricSpec
from penstock.resources.meta import LabelSelector
from penstock.resources.pod import Pod, PodStatus
from penstock.testing.factories import pod


class Clock(SystemClock):
    def now(self) -> float:
        return 1000.0


class Usages:
    def __init__(self, **by_pod: Mapping[str, float]) -> None:
        self._by_pod = by_pod

    def of(self, pod: Pod) -> Mapping[str, Usage]:
        found = self._by_pod.get(pod.metadata.name)
        return {"main": Usage(990, 15, found)} if found else {}


class Outside:
    async def external(
        self, namespace: str, metric: str, selector: LabelSelector | None
    ) -> tuple[float, ...]:
        if metric == "absent":
            raise NotFound("nobody offers absent")
        return {"depth": (3.0, 4.5), "broken": (float("nan"),)}[metric]


def demand(namespace: str, name: str, metric: str) -> float:
    if name != "llama":
        raise NotFound(f'inferenceservices.serving.kserve.io "{name}" not found')
    return {"concurrency": 7.5, "rps": 2.0, "waiting": 1.0}[metric]


class Pods:
    """A cache of pods."""

    def __init__(self, *pods: Pod) -> None:
        self._pods = {pod.metadata.name: pod for pod in pods}

    def get(self, kind: Any, name: str, namespace: str = "") -> Any:
        return self._pods.get(name)

    def list(self, kind: Any, namespace: str | None = None, *, labels: str = "", owner: str = "") -> Any:
        return tuple(self._pods.values())


def reader(*known: Pod, usages: Usages | None = None) -> MetricReader:
    objects = {"InferenceService": ServiceMetrics(demand), "Pod": PodMetrics(Pods(*known))}
    return MetricReader(Clock(), usages or Usages(), Outside(), objects)


async def read(metric: dict[str, Any], *pods: Pod, usages: Usages | None = None) -> Reading:
    (found,) = await reader(*pods, usages=usages).read_all([convert(metric, MetricSpec)], "default", pods)
    return found


def resource(name: str = "cpu") -> dict[str, Any]:
    return {
        "type": "Resource",
        "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": 50}},
    }


def external(name: str) -> dict[str, Any]:
    return {
        "type": "External",
        "external": {"metric": {"name": name}, "target": {"type": "Value", "value": 1}},
    }


def of_object(kind: str, name: str, metric: str) -> dict[str, Any]:
    described = {"kind": kind, "name": name}
    return {
        "type": "Object",
        "object": {
            "describedObject": described,
            "metric": {"name": metric},
            "target": {"type": "Value", "value": 1},
        },
    }


def of_pods(name: str, **labels: str) -> dict[str, Any]:
    metric: dict[str, Any] = {"name": name, **({"selector": {"matchLabels": labels}} if labels else {})}
    return {"type": "Pods", "pods": {"metric": metric, "target": {"type": "AverageValue", "averageValue": 1}}}


async def test_resources_come_from_what_processes_use() -> None:
    usages = Usages(a={"cpu": 0.25, "memory": 1e9}, b={"cpu": 0.5, "memory": 2e9})
    found = await read(resource(), pod("a"), pod("b"), pod("c"), usages=usages)
    assert found == PodReadings({"a": PodSample(250, 990, 15), "b": PodSample(500, 990, 15)})
    inside = {
        "type": "ContainerResource",
        "containerResource": {**resource("memory")["resource"], "container": "main"},
    }
    assert await read(inside, pod("a"), usages=usages) == PodReadings({"a": PodSample(10**12, 990, 15)})


async def test_resources_that_nobody_measures_are_named() -> None:
    assert await read(resource(), pod("a")) == Unread("no metrics returned from resource metrics API")
    unknown = await read(resource("disk"), pod("a"))
    assert unknown == Unread(
        "found resource 'disk', expected one that is measured: cpu, memory, nvidia.com/gpu"
    )


async def test_what_is_outside_is_asked_of_its_provider() -> None:
    assert await read(external("depth")) == ValueReadings((3000, 4500))
    assert await read(external("absent")) == Unread("nobody offers absent")
    assert await read(external("broken")) == Unread("found nan, expected a finite value of 0 or more")


async def test_services_offer_the_demand_that_gateways_report() -> None:
    assert await read(of_object("InferenceService", "llama", "concurrency")) == ValueReadings((7500,))
    unknown = await read(of_object("InferenceService", "llama", "hits"))
    assert unknown == Unread("found metric 'hits', expected one of concurrency, rps, waiting")
    absent = await read(of_object("InferenceService", "other", "rps"))
    assert absent == Unread('inferenceservices.serving.kserve.io "other" not found')


async def test_a_kind_that_offers_nothing_is_told_with_those_that_do() -> None:
    found = await read(of_object("Ingress", "web", "hits"))
    assert found == Unread(
        "no metrics are offered for objects of kind Ingress, only for: InferenceService, Pod"
    )


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape waits as long as it takes."""
    monkeypatch.setattr(objects, "scrape", partial(scrape, timeout_s=30))


@asynccontextmanager
async def exposing(text: str) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.0 200 OK\r\n\r\n{text}\n".encode())
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def running(name: str, port: int) -> Pod:
    made = pod(name, annotations={"prometheus.kserve.io/port": str(port)})
    return structs.replace(made, status=PodStatus(phase="Running", pod_ip="127.0.0.1"))


async def test_pods_own_metrics_are_scraped_and_silent_pods_are_missing() -> None:
    text = 'queue{lane="a"} 2\nqueue{lane="b"} 3\nother 9'
    async with exposing(text) as port, exposing("else 1") as silent:
        pods = (running("a", port), running("b", silent), pod("waits"))
        assert await read(of_pods("queue"), *pods) == PodReadings({"a": PodSample(5000, 1000)})
        assert await read(of_pods("queue", lane="b"), *pods) == PodReadings({"a": PodSample(3000, 1000)})
        assert await read(of_pods("absent"), *pods) == Unread("pod a: its endpoint has no series absent")
        assert await read(of_object("Pod", "a", "other"), *pods) == ValueReadings((9000,))
        assert await read(of_object("Pod", "z", "other"), *pods) == Unread('pods "z" not found')


@pytest.mark.parametrize("value", ["NaN", "-1", "+Inf"])
async def test_one_pod_that_tells_nonsense_makes_the_metric_unusable(value: str) -> None:
    async with exposing("queue 2") as port, exposing(f"queue {value}") as broken:
        found = await read(of_pods("queue"), running("a", port), running("b", broken))
    assert isinstance(found, Unread)
    assert found.message.startswith("pod b: found")


async def test_a_pod_without_an_endpoint_is_told() -> None:
    bare = structs.replace(pod("a"), status=PodStatus(phase="Running", pod_ip="127.0.0.1"))
    assert await read(of_pods("queue"), bare) == Unread("pod a: no metrics endpoint")
    with pytest.raises(Unavailable):
        await PodMetrics(Pods(bare)).value("default", "a", "queue", None)
