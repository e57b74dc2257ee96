"""Engines are asked over real sockets; one that does not answer is left out, and keeps nobody waiting."""

import asyncio

import pytest
from msgspec import structs

from penstock.controlplane import engine_metrics
from penstock.controlplane.engine_metrics import EngineMetrics
from penstock.kit.scrape import scrape
from penstock.resources.pod import Pod, PodStatus
from penstock.testing.factories import pod


def engine(name: str, port: int, dialect: str = "vllm") -> Pod:
    annotations = {"penstock.dev/metrics-dialect": dialect, "prometheus.kserve.io/port": str(port)}
    return structs.replace(pod(name, annotations=annotations), status=PodStatus(pod_ip="127.0.0.1"))


async def test_every_engine_that_tells_is_read_and_others_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.0 200 OK\r\n\r\nvllm:kv_cache_usage_perc{model_name="m"} 0.5\n')
        writer.close()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    answering = await asyncio.start_server(handle, "127.0.0.1", 0)
    silent = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with answering, silent:
        good, bad = (server.sockets[0].getsockname()[1] for server in (answering, silent))

        async def patient(host: str, port: int, path: str, *, timeout_s: float) -> str:
            assert timeout_s == 0.2
            return await scrape(host, port, path, timeout_s=timeout_s if port == bad else 30)

        monkeypatch.setattr(engine_metrics, "scrape", patient)
        pods = [
            engine("a", good),
            engine("b", bad),
            engine("c", good, "unheard-of"),
            pod("plain"),
            engine("d", good),
        ]
        assert await EngineMetrics(timeout_s=0.2).read(pods) == {"a": 0.5, "d": 0.5}
