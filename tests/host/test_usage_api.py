"""`metrics.k8s.io` over HTTP: what a metrics server would answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import httpx
import pytest
from rest_cluster import TOKEN, api

from penstock.decide.usage import STALE_S, Usage
from penstock.host.cluster import EmbeddedCluster
from penstock.kit.clock import SystemClock
from penstock.kit.timestamps import rfc3339
from penstock.resources.pod import Container, Pod
from penstock.testing.factories import memory_cluster, node, pod, pod_spec

NOW = 1_800_000_000.0
ROOT = "/apis/metrics.k8s.io/v1beta1"


class Clock(SystemClock):
    def now(self) -> float:
        return NOW


class Usages:
    def __init__(self) -> None:
        self.known: dict[str, Mapping[str, Usage]] = {}

    def of(self, pod: Pod) -> Mapping[str, Usage]:
        return self.known.get(pod.metadata.name, {})


@pytest.fixture
def cluster() -> EmbeddedCluster:
    return memory_cluster(clock=Clock())


@pytest.fixture
def usages() -> Usages:
    return Usages()


@pytest.fixture
async def client(cluster: EmbeddedCluster, usages: Usages) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(api(cluster, usages=usages))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
        yield client


def used(cores: float, mebibytes: int, ago_s: float = 3) -> Usage:
    return Usage(NOW - ago_s, 15.0, {"cpu": cores, "memory": float(mebibytes << 20)})


async def test_a_pod_is_shown_with_all_its_containers(
    client: httpx.AsyncClient, cluster: EmbeddedCluster, usages: Usages
) -> None:
    two = pod("a", labels={"app": "a"}, node="n")
    await cluster.create(two)
    usages.known["a"] = {"main": used(0.25, 100)}
    answer = (await client.get(f"{ROOT}/namespaces/default/pods/a")).json()
    assert answer["metadata"]["labels"] == {"app": "a"}
    assert {
        field: answer[field] for field in ("kind", "apiVersion", "timestamp", "window", "containers")
    } == {
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "timestamp": rfc3339(NOW - 3),
        "window": "15.000s",
        "containers": [{"name": "main", "usage": {"cpu": "250000000n", "memory": "102400Ki"}}],
    }


async def test_lists_are_narrowed_by_namespace_and_labels_and_leave_unknown_pods_out(
    client: httpx.AsyncClient, cluster: EmbeddedCluster, usages: Usages
) -> None:
    for name in ("a", "b", "new", "old"):
        await cluster.create(pod(name, labels={"app": name}))
        usages.known[name] = {"main": used(0.1, 1)}
    usages.known["new"] = {}
    usages.known["old"] = {"main": used(0.1, 1, ago_s=STALE_S + 1)}
    await cluster.create(
        Pod(
            metadata=pod("half").metadata,
            spec=pod_spec(containers=(Container(name="main"), Container(name="side"))),
        )
    )
    usages.known["half"] = {"main": used(0.1, 1)}

    async def names(path: str) -> list[str]:
        answer = (await client.get(f"{ROOT}{path}")).json()
        assert answer["kind"] == "PodMetricsList"
        return [item["metadata"]["name"] for item in answer["items"]]

    assert await names("/pods") == ["a", "b"]
    assert await names("/namespaces/default/pods?labelSelector=app%3Db") == ["b"]
    assert await names("/namespaces/other/pods") == []
    assert (await client.get(f"{ROOT}/namespaces/default/pods/new")).status_code == 404
    assert (await client.get(f"{ROOT}/namespaces/default/pods/none")).status_code == 404
    assert (await client.get(f"{ROOT}/pods?labelSelector=%3D")).status_code == 400


async def test_a_node_uses_what_its_pods_use(
    client: httpx.AsyncClient, cluster: EmbeddedCluster, usages: Usages
) -> None:
    for name in ("n", "idle"):
        await cluster.create(node(name))
    for name in ("a", "b"):
        await cluster.create(pod(name, node="n"))
        usages.known[name] = {"main": used(0.75, 64)}
    items = (await client.get(f"{ROOT}/nodes")).json()["items"]
    assert {item["metadata"]["name"]: item["usage"] for item in items} == {
        "idle": {"cpu": "0n", "memory": "0Ki"},
        "n": {"cpu": "1500000000n", "memory": "131072Ki"},
    }
    assert (await client.get(f"{ROOT}/nodes/n")).json()["kind"] == "NodeMetrics"
    assert (await client.get(f"{ROOT}/nodes/none")).status_code == 404


async def test_discovery_offers_the_group(client: httpx.AsyncClient) -> None:
    groups = [group["name"] for group in (await client.get("/apis")).json()["groups"]]
    assert "metrics.k8s.io" in groups
    listed = (await client.get(ROOT)).json()["resources"]
    assert [(entry["name"], entry["namespaced"]) for entry in listed] == [("nodes", False), ("pods", True)]
