"""The port for V2 gRPC: who shares it, what secures it, and how it is given back."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc.aio as triton
from certificates import Authority
from gateway_world import Gateway, until
from grpc_world import V2Engine, doubled, engines, free_port, gateway, refused, service, tensor
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as stubs
from tritonclient.utils import InferenceServerException

from penstock.gateway.grpc import handover
from penstock.kit.errors import Unavailable


async def test_a_gateway_that_stops_lets_calls_end_and_tells_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "AGE_S", 0.2)
    stops = asyncio.Event()

    async def slow(request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        await (stops.wait() if request.id == "short" else asyncio.sleep(60))
        return await doubled(request, context)

    engine = V2Engine(script=slow)
    async with engines(engine) as there, gateway(tmp_path, service(*there), drain_s=3.0) as (running, client):
        short = asyncio.create_task(client.infer("iris", tensor(1.0), request_id="short"))
        long = asyncio.create_task(refused(client.infer("iris", tensor(1.0), request_id="long")))
        await until(lambda: len(engine.asked) == 2)
        stopping = asyncio.create_task(running.stop())
        await asyncio.sleep(0.2)
        stops.set()
        assert (await short).as_numpy("y")[0] == 2.0
        code, message = await long
        await stopping
    assert (code, "the gateway is stopping" in message) == ("UNAVAILABLE", True)


async def test_no_call_is_cancelled_that_arrived_before_the_gateway_stops(tmp_path: Path) -> None:
    """grpcio hands calls over one by one, and cancels those that wait when it is stopped."""
    async with (
        engines(V2Engine()) as there,
        gateway(tmp_path, service(*there), drain_s=30.0) as (running, client),
    ):
        await client.infer("iris", tensor(1.0))
        asked = [asyncio.create_task(client.infer("iris", tensor(1.0))) for _ in range(50)]
        await asyncio.sleep(0)
        time.sleep(0.2)  # they arrive while nobody takes them
        stopping = asyncio.create_task(running.stop())
        assert {(await each).as_numpy("y")[0] for each in asked} == {2.0}
        await client.close()
        await stopping


async def test_connections_are_told_to_go_elsewhere_before_calls_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "AGE_S", 0.5)
    async with (
        engines(V2Engine()) as there,
        gateway(tmp_path, service(*there), drain_s=30.0) as (running, client),
    ):
        began = time.monotonic()
        await client.infer("iris", tensor(1.0))
        stopping, refusals, answers = asyncio.create_task(running.stop()), [], 0
        while not stopping.done():
            try:
                await client.infer("iris", tensor(1.0))
                answers += 1
            except InferenceServerException as error:
                refusals.append((error.status(), time.monotonic() - began))
                await asyncio.sleep(0.01)
    assert answers > 0
    assert min(after_s for _, after_s in refusals) >= 0.5 * (1 - handover.SPREAD), (
        "its connection's time was over"
    )
    assert {code for code, _ in refusals} == {"StatusCode.UNAVAILABLE"}, "nobody listens any more"


async def test_a_stream_outlives_the_time_of_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "AGE_S", 0.2)

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for _ in range(4):
            yield {"model_name": "iris", "inputs": tensor(1.0)}
            await asyncio.sleep(0.2)

    async with engines(V2Engine()) as there, gateway(tmp_path, service(*there)) as (_, client):
        answers = [
            error or result.as_numpy("y")[0] async for result, error in client.stream_infer(requests())
        ]
    assert answers == [2.0] * 8


async def test_two_workers_share_the_port(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with engines(V2Engine()) as there:
        route = service(*there)
        async with (
            Gateway(tmp_path / "a", route, grpc=("127.0.0.1", port)),
            Gateway(tmp_path / "b", route, grpc=("127.0.0.1", port), drain_s=0.1) as second,
            triton.InferenceServerClient(f"127.0.0.1:{port}") as client,
        ):
            await second.stop()
            assert (await client.infer("iris", tensor(1.0))).as_numpy("y")[0] == 2.0


async def is_live(target: str, authority: bytes) -> bool:
    """Asked over a new connection by who trusts this authority only."""
    channel = grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(authority))
    call = stubs.GRPCInferenceServiceStub(channel).ServerLive(pb.ServerLiveRequest(), timeout=30.0)
    try:
        return bool((await call).live)
    except grpc.aio.AioRpcError:
        return False
    finally:
        await channel.close()


async def test_tls_is_that_of_the_http_port_and_a_changed_certificate_is_taken(tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "tls", "old"), Authority(tmp_path / "new", "new")
    certificate, key = old.issue("gateway")
    trusts_old, trusts_new = old.file.read_bytes(), new.file.read_bytes()
    tls = {"tls_certificate": certificate, "tls_key": key}
    async with gateway(tmp_path, **tls) as (running, client):
        assert await is_live(running.grpc, trusts_old)
        assert not await is_live(running.grpc, trusts_new)
        with pytest.raises(InferenceServerException):
            await client.is_server_live(client_timeout=1.0)
        key.write_text("no key")
        os.utime(key, (1, 1))
        assert await is_live(running.grpc, trusts_old), "what cannot be used is not taken"
        for file, made in zip((certificate, key), new.issue("gateway"), strict=True):
            file.write_bytes(made.read_bytes())
            os.utime(file, (2, 2))
        assert await is_live(running.grpc, trusts_new)


async def test_a_port_that_another_program_has_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Unavailable) as caught:
        async with Gateway(tmp_path, grpc=("127.0.0.1", taken.getsockname()[1])):
            pass
    assert (caught.value.code, "PENSTOCK_GRPC_ADDR" in caught.value.hint) == ("port_taken", True)
