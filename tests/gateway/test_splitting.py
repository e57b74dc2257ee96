"""Through the whole gateway: sessions stay with their revision, and a tagged revision answers at its own address."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from gateway_world import ControlPlane, Engine, Gateway, service, until

from penstock.contracts.exchange import RevisionRoute, RouteTable, ServiceRoute
from plain_http import PLAIN


async def two(tmp_path: Path, **fields: object) -> ServiceRoute:
    new, old = Engine("new"), Engine("old")
    await new.start()
    await old.start()
    revisions = (
        RevisionRoute(name="m-2", weight_percent=30, endpoints=(new.endpoint,), tag="latest"),
        RevisionRoute(name="m-1", weight_percent=70, endpoints=(old.endpoint,), tag="prev"),
    )
    return service(**{"revisions": revisions, "hosts": ("m.default", "m-default"), **fields})


async def ask(
    gateway: Gateway, path: str = "/v1/chat/completions", model: str = "m", **headers: str
) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, verify=False, timeout=30) as client:
        return await client.post(path, json={"model": model}, headers=headers)


async def test_one_value_of_the_header_means_one_revision(tmp_path: Path) -> None:
    async with Gateway(tmp_path, await two(tmp_path, split_by="x-session")) as gateway:
        homes = {}
        for number in range(20):
            answers = [await ask(gateway, **{"X-Session": f"s{number}"}) for _ in range(3)]
            seen = {a.headers["x-penstock-endpoint"] for a in answers}
            assert len(seen) == 1
            homes[number] = seen.pop()
        assert set(homes.values()) == {"new", "old"}
        without = {(await ask(gateway)).headers["x-penstock-endpoint"] for _ in range(30)}
        assert without == {"new", "old"}, "who says nothing is drawn by request"


@pytest.mark.parametrize(
    ("path", "headers", "model"),
    [
        ("/v1/chat/completions", {"host": "prev-m.default.example.com"}, "m"),
        ("/v1/chat/completions", {"host": "prev-m-default.example.com"}, "m"),
        ("/serving/default/prev-m/v1/chat/completions", {}, "m"),
        ("/v2/models/default%2Fprev-m/infer", {}, "m"),
        ("/v1/chat/completions", {}, "default/prev-m"),
    ],
    ids=["host", "flat host", "path", "model's path", "model"],
)
@pytest.mark.parametrize("weight", [0, 70])
async def test_a_tagged_revision_answers_at_its_own_address_whatever_its_share(
    tmp_path: Path, path: str, headers: dict[str, str], model: str, weight: int
) -> None:
    known = await two(tmp_path)
    new, old = known.revisions
    revisions = (
        RevisionRoute(name="m-2", weight_percent=100 - weight, endpoints=new.endpoints),
        RevisionRoute(name="m-1", weight_percent=weight, endpoints=old.endpoints, tag="prev"),
    )
    async with Gateway(tmp_path, service(revisions=revisions, hosts=known.hosts)) as gateway:
        seen = {
            (await ask(gateway, path, model, **headers)).headers["x-penstock-endpoint"] for _ in range(10)
        }
    assert seen == {"old"}


async def test_a_service_of_that_name_comes_before_a_tag(tmp_path: Path) -> None:
    real = Engine("real")
    await real.start()
    named = service(real, name="prev-m", hosts=("prev-m.default",))
    async with Gateway(tmp_path, await two(tmp_path), named) as gateway:
        for path in ("/v1/chat/completions", "/serving/default/prev-m/v1/x"):
            assert (await ask(gateway, path, "default/prev-m")).headers["x-penstock-endpoint"] == "real"
        async with httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30) as client:
            models = (await client.get("/v1/models")).json()
    assert [m["id"] for m in models["data"]] == ["m", "prev-m"], "tags are no models of their own"


async def test_a_tagged_revision_without_endpoint_is_waited_for_and_wanted(tmp_path: Path) -> None:
    known = await two(tmp_path)
    new, old = known.revisions
    asleep = RevisionRoute(name="m-1", weight_percent=0, tag="prev")
    alone = RevisionRoute(name="m-2", weight_percent=100, endpoints=new.endpoints)
    async with (
        ControlPlane(tmp_path) as control,
        Gateway(tmp_path, service(revisions=(alone, asleep))) as gateway,
    ):
        await until(lambda: control.connections)
        asking = asyncio.create_task(ask(gateway, "/serving/default/prev-m/v1/x"))
        await until(lambda: any(r.services for r in control.reports))
        told = next(r.services[0] for r in control.reports if r.services)
        assert (told.name, told.wake, [(r.name, r.wanted) for r in told.revisions]) == (
            "m",
            True,
            [("m-1", True)],
        )
        assert (await ask(gateway)).headers["x-penstock-endpoint"] == "new", "nobody else waits"
        awake = RevisionRoute(name="m-1", weight_percent=0, tag="prev", endpoints=old.endpoints)
        control.send(RouteTable(version=2, services=(service(revisions=(alone, awake)),)))
        assert (await asking).headers["x-penstock-endpoint"] == "old"
