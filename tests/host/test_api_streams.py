"""What the API streams: watches, lists that watches go on from, and logs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from rest_cluster import api, serving

from penstock.host.cluster import EmbeddedCluster
from penstock.kit.errors import NotFound
from penstock.resources.pod import Pod
from penstock.testing.factories import config_map, memory_cluster, pod

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


class FakeLogs:
    """Says which options it was opened with."""

    async def open_log(self, pod: Pod, container: str, **options: Any) -> AsyncIterator[bytes]:
        if options["previous"]:
            raise NotFound(
                f'previous terminated container "{container}" in pod "{pod.metadata.name}" not found'
            )
        yield f"{container} {options['tail_lines']} {options['limit_bytes']} {options['timestamps']}\n".encode()
        if options["follow"]:
            await asyncio.Event().wait()


@pytest.fixture
def cluster() -> EmbeddedCluster:
    return memory_cluster()


@pytest.fixture
async def served(cluster: EmbeddedCluster) -> AsyncIterator[httpx.AsyncClient]:
    """Behind a real server: what streams needs one."""
    async with serving(api(cluster, logs=FakeLogs(), max_streams=3)) as client:
        yield client


async def lines(client: httpx.AsyncClient, url: str, **query: Any) -> AsyncIterator[Any]:
    async with client.stream("GET", url, params={"watch": "true", **query}) as response:
        async for line in response.aiter_lines():
            yield orjson.loads(line)


async def test_pages_carry_the_version_of_the_first_so_that_a_watch_misses_nothing(
    served: httpx.AsyncClient, cluster: EmbeddedCluster
) -> None:
    for name in "abcde":
        await cluster.create(config_map(name))
    first = (await served.get(MAPS, params={"limit": 2})).json()
    await cluster.create(config_map("aa"))
    second = (await served.get(MAPS, params={"limit": 9, "continue": first["metadata"]["continue"]})).json()
    names = [item["metadata"]["name"] for page in (first, second) for item in page["items"]]
    assert names == list("abcde")
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in second["metadata"]
    changes = lines(served, MAPS, resourceVersion=second["metadata"]["resourceVersion"])
    assert (await anext(changes))["object"]["metadata"]["name"] == "aa"
    await changes.aclose()  # type: ignore[attr-defined]
    assert (await served.get(MAPS, params={"continue": "nonsense"})).status_code == 400


async def test_a_watch_without_a_version_begins_with_what_is_there(
    served: httpx.AsyncClient, cluster: EmbeddedCluster
) -> None:
    await cluster.create(config_map("a"))
    changes = lines(served, MAPS, sendInitialEvents="true", allowWatchBookmarks="true")
    assert (await anext(changes))["object"]["metadata"]["name"] == "a"
    mark = await anext(changes)
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    await cluster.delete(type(config_map("a")), "a", "default")
    assert (await anext(changes))["type"] == "DELETED"
    await changes.aclose()  # type: ignore[attr-defined]


async def test_a_watch_can_be_a_table_and_ends_when_its_time_is_up(
    served: httpx.AsyncClient, cluster: EmbeddedCluster
) -> None:
    await cluster.create(config_map("a"))
    found = []
    async with served.stream(
        "GET", MAPS, params={"watch": "1", "timeoutSeconds": "1"}, headers=TABLE
    ) as response:
        async for line in response.aiter_lines():
            found.append(orjson.loads(line))
    assert [(event["type"], event["object"]["rows"][0]["cells"][:2]) for event in found] == [
        ("ADDED", ["a", 1])
    ]


async def test_a_watch_from_an_expired_version_is_an_error_event(served: httpx.AsyncClient) -> None:
    (event,) = [event async for event in lines(served, MAPS, resourceVersion="1")]
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    assert (await served.get(MAPS, params={"watch": "true", "resourceVersion": "x"})).status_code == 400


async def test_watches_are_bounded_in_number_and_free_their_place(served: httpx.AsyncClient) -> None:
    version = (await served.get(MAPS)).json()["metadata"]["resourceVersion"]
    query = {"watch": "true", "resourceVersion": version}
    async with (
        served.stream("GET", MAPS, params=query),
        served.stream("GET", MAPS, params=query),
        served.stream("GET", MAPS, params=query),
    ):
        refused = await served.get(MAPS, params=query)
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0
    async with asyncio.timeout(30):  # or closed watches keep their place
        while True:
            async with served.stream("GET", MAPS, params={**query, "timeoutSeconds": "1"}) as response:
                if response.status_code == 200:
                    return
            await asyncio.sleep(0.01)


async def test_logs_are_of_the_container_that_is_meant(
    served: httpx.AsyncClient, cluster: EmbeddedCluster
) -> None:
    await cluster.create(pod("a"))
    query = {"tailLines": 5, "limitBytes": 100, "timestamps": "true"}
    assert (await served.get(f"{PODS}/a/log", params=query)).text == "main 5 100 True\n"
    wrong = (await served.get(f"{PODS}/a/log", params={"container": "nope"})).json()
    assert wrong["code"] == 400
    assert "container nope is not valid for pod a" in wrong["message"]
    assert (await served.get(f"{PODS}/a/log", params={"previous": "true"})).status_code == 404
    assert (await served.get(f"{PODS}/b/log")).status_code == 404
    assert (await served.get(f"{PODS}/a/log", params={"tailLines": "-1"})).status_code == 400
    async with served.stream("GET", f"{PODS}/a/log", params={"follow": "true"}) as response:
        assert await anext(response.aiter_text()) == "main None None False\n"


async def test_a_pod_of_several_containers_needs_one_named_or_annotated(
    served: httpx.AsyncClient, cluster: EmbeddedCluster
) -> None:
    for name, annotations in (("plain", {}), ("marked", {"kubectl.kubernetes.io/default-container": "b"})):
        spec = {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]}
        await served.post(PODS, json={"metadata": {"name": name, "annotations": annotations}, "spec": spec})
    plain = (await served.get(f"{PODS}/plain/log")).json()
    assert "a container name must be specified for pod plain, choose one of: [a b]" in plain["message"]
    assert (await served.get(f"{PODS}/marked/log")).text.startswith("b ")
    both = await served.get(
        f"{PODS}/marked/log", params={"sinceSeconds": 1, "sinceTime": "2027-01-15T08:00:00Z"}
    )
    assert both.status_code == 400
