"""From the API to a gateway's verdict over the real feed: keys work, and stop to work, within a second on every worker."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from penstock.contracts.controller import Controller
from penstock.contracts.exchange import DemandReport, RouteTable
from penstock.controlplane.controllers.api_keys import ApiKeyController
from penstock.controlplane.events import EventRecorder
from penstock.controlplane.feed import Feed
from penstock.controlplane.informer import InformerCache
from penstock.controlplane.manager import Manager
from penstock.controlplane.routes import RouteController
from penstock.gateway.access import Access
from penstock.gateway.feed import Feed as GatewayFeed
from penstock.host.api.app import build_api
from penstock.kit.clock import SystemClock
from penstock.kit.errors import Unauthorized
from penstock.kit.tasks import end
from penstock.testing.factories import memory_cluster

WITHIN_S = 1.0
WORKERS = 3
PEPPER = b"p" * 32
KEYS = "/apis/penstock.dev/v1alpha1/namespaces/default/apikeys"
DOCUMENT = {"apiVersion": "penstock.dev/v1alpha1", "kind": "ApiKey", "metadata": {"name": "app"}}
MERGE = {"Content-Type": "application/merge-patch+json"}


class Worker:
    """The part of a gateway that keys go through."""

    def __init__(self, folder: Path, number: int) -> None:
        clock = SystemClock()
        self.access = Access(PEPPER, True, clock)
        self.kept = folder / f"table-{number}.json"
        self.version = 0
        self.feed = GatewayFeed(folder / "feed.sock", self.kept, clock, self.apply, self.report)

    def apply(self, table: RouteTable) -> bool:
        self.access.apply(table)
        self.version = table.version
        return True

    def report(self, window_s: float) -> DemandReport:
        return DemandReport(gateway="g", at=0.0, window_s=window_s)

    def takes(self, token: str) -> bool:
        try:
            return self.access.caller([(b"authorization", f"Bearer {token}".encode())]) is not None
        except Unauthorized:
            return False


class Platform:
    """API, controllers and feed of a control plane, and some workers."""

    def __init__(self, client: httpx.AsyncClient, workers: list[Worker]) -> None:
        self.client = client
        self.workers = workers

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        answer = await self.client.request(method, path, content=msgspec.json.encode(body), headers=headers)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def token(self, overlap_s: int = 0) -> str:
        answer = await self.ask("POST", f"{KEYS}/app/token", {"spec": {"overlapSeconds": overlap_s}})
        return str(answer["status"]["token"])

    async def agree(self, token: str, *, taken: bool) -> float:
        """Seconds until every worker takes the token, or none does."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(30):
            while any(worker.takes(token) is not taken for worker in self.workers):
                await asyncio.sleep(0.005)
        return loop.time() - began


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    clock, stop = SystemClock(), asyncio.Event()
    cluster = memory_cluster()
    cache = InformerCache(cluster, clock)
    recorder, feed = EventRecorder(cluster, clock), Feed(clock)
    controllers: list[Controller] = [
        RouteController(cache, feed, clock),
        ApiKeyController(cluster, cache, recorder.named("api-keys"), clock),
    ]
    workers = [Worker(tmp_path, number) for number in range(WORKERS)]
    running = [
        asyncio.create_task(Manager(controllers, cache=cache, recorder=recorder).run(stop)),
        asyncio.create_task(feed.serve(tmp_path / "feed.sock", stop)),
    ]
    gateways = [asyncio.create_task(worker.feed.run()) for worker in workers]
    transport = httpx.ASGITransport(build_api(cluster.objects, token="t", pepper=PEPPER, version="0"))
    headers = {"Authorization": "Bearer t"}
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=headers
        ) as client:
            made = Platform(client, workers)
            await made.ask("POST", KEYS, DOCUMENT)
            async with asyncio.timeout(30):
                while not all(worker.version for worker in workers):
                    await asyncio.sleep(0.005)
            yield made
    finally:
        await end(gateways)
        stop.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*running)


async def test_issuing_rotating_revoking_and_deleting_reach_every_worker_within_a_second(
    platform: Platform,
) -> None:
    first = await platform.token()
    assert await platform.agree(first, taken=True) < WITHIN_S
    second = await platform.token(overlap_s=3600)
    assert await platform.agree(second, taken=True) < WITHIN_S
    assert await platform.agree(first, taken=True) < WITHIN_S
    third = await platform.token(overlap_s=0)
    assert await platform.agree(third, taken=True) < WITHIN_S
    assert await platform.agree(first, taken=False) < WITHIN_S
    assert await platform.agree(second, taken=False) < WITHIN_S
    await platform.client.patch(f"{KEYS}/app", json={"spec": {"disabled": True}}, headers=MERGE)
    assert await platform.agree(third, taken=False) < WITHIN_S
    await platform.client.patch(f"{KEYS}/app", json={"spec": {"disabled": False}}, headers=MERGE)
    assert await platform.agree(third, taken=True) < WITHIN_S
    await platform.client.delete(f"{KEYS}/app")
    assert await platform.agree(third, taken=False) < WITHIN_S


async def test_a_disk_that_hangs_keeps_no_key_alive(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, works = await platform.token(), threading.Event()
    await platform.agree(token, taken=True)
    monkeypatch.setattr(GatewayFeed, "_keep", lambda *_: works.wait(60))
    try:
        for disabled in (True, False, True):
            await platform.client.patch(f"{KEYS}/app", json={"spec": {"disabled": disabled}}, headers=MERGE)
            assert await platform.agree(token, taken=not disabled) < WITHIN_S
    finally:
        works.set()


async def test_no_worker_keeps_a_secret_on_its_disk(platform: Platform, tmp_path: Path) -> None:
    token = await platform.token()
    await platform.agree(token, taken=True)
    kept = [worker.kept for worker in platform.workers]
    async with asyncio.timeout(30):
        while not all(path.exists() and b'"keys"' in path.read_bytes() for path in kept):
            await asyncio.sleep(0.005)
    secret = token.split("-", 2)[2].encode()
    for path in tmp_path.iterdir():
        with contextlib.suppress(FileNotFoundError):  # a draft, which has become one of the others
            if path.is_file():
                assert secret not in path.read_bytes()
                assert path.stat().st_mode & 0o77 == 0
