"""What V2 gRPC does of engines that die, clients that dawdle and bodies that are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from gateway_world import until
from grpc_world import V2Engine, doubled, engines, free_port, gateway, never, refused, service, tensor
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as stubs

from penstock.contracts.exchange import Endpoint
from penstock.gateway.wire.message import Limits


async def test_another_endpoint_answers_for_one_that_refuses_connections(tmp_path: Path) -> None:
    gone = Endpoint(name="gone", address="127.0.0.1", port=1, grpc_port=free_port())
    async with engines(V2Engine()) as there, gateway(tmp_path, service(gone, *there)) as (_, client):
        for _ in range(8):
            assert (await client.infer("iris", tensor(1.0))).as_numpy("y")[0] == 2.0


async def test_without_another_endpoint_it_is_unavailable(tmp_path: Path) -> None:
    gone = Endpoint(name="gone", address="127.0.0.1", port=1, grpc_port=free_port())
    async with gateway(tmp_path, service(gone)) as (_, client):
        code, message = await refused(client.infer("iris", tensor(1.0)))
    assert code == "UNAVAILABLE"
    assert "no endpoint of default/iris answered: not sent" in message


async def test_an_engine_that_says_it_is_unavailable_is_quoted(tmp_path: Path) -> None:
    async def loading(request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the model is loading")
        raise AssertionError

    async with engines(V2Engine(script=loading)) as there, gateway(tmp_path, service(*there)) as (_, client):
        assert await refused(client.infer("iris", tensor(1.0))) == ("UNAVAILABLE", "the model is loading")


async def test_who_goes_away_cancels_the_engine(tmp_path: Path) -> None:
    engine = V2Engine(script=never)
    async with engines(engine) as there, gateway(tmp_path, service(*there)) as (_, client):
        asking = asyncio.create_task(client.infer("iris", tensor(1.0)))
        await until(lambda: engine.asked)
        asking.cancel()
        await until(engine.gone.is_set)
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_message_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    small = Limits(max_body_bytes=1000)
    async with engines(V2Engine()) as there, gateway(tmp_path, service(*there), limits=small) as (_, client):
        code, _ = await refused(client.infer("iris", tensor(*range(1000))))
        assert code == "RESOURCE_EXHAUSTED"
        assert (await client.infer("iris", tensor(1.0))).as_numpy("y")[0] == 2.0


class Crashing:
    """Accepts a call as an HTTP/2 server does, and dies of it."""

    async def __aenter__(self) -> Endpoint:
        self.calls = 0
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return Endpoint(name="crashing", address="127.0.0.1", port=1, grpc_port=port)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")  # SETTINGS
        while data := await reader.read(65536):
            if b"\x01\x04" in data:  # HEADERS
                self.calls += 1
                break
        writer.transport.abort()


async def test_another_endpoint_answers_for_one_that_dies_of_the_call(tmp_path: Path) -> None:
    crashing = Crashing()
    async with (
        crashing as bad,
        engines(V2Engine()) as there,
        gateway(tmp_path, service(bad, *there)) as (_, client),
    ):
        for _ in range(100):  # which of two equals is asked first is drawn for each call
            assert (await client.infer("iris", tensor(1.0))).as_numpy("y")[0] == 2.0
            if crashing.calls:
                break
    assert crashing.calls, "it was asked at least once"


async def test_a_stream_is_not_begun_again_elsewhere(tmp_path: Path) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "iris", "inputs": tensor(1.0)}

    crashing = Crashing()
    async with crashing as bad, gateway(tmp_path, service(bad)) as (_, client):
        with pytest.raises(grpc.aio.AioRpcError, match="may not run twice"):
            [answer async for answer in client.stream_infer(requests())]
    assert crashing.calls == 1


async def raw_call(target: str, method: str, *messages: bytes) -> tuple[grpc.StatusCode, str]:
    async with grpc.aio.insecure_channel(target) as channel:
        call = channel.stream_stream(method)()
        for message in messages:
            await call.write(message)
        await call.done_writing()
        return await call.code(), await call.details()


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ((), "ended without a message"),
        ((b"\xff\xff",), "no Protocol Buffers message"),
        ((b"",), "names no model"),
    ],
)
async def test_what_is_no_request_is_an_invalid_argument(
    tmp_path: Path, messages: tuple[bytes, ...], said: str
) -> None:
    async with gateway(tmp_path) as (running, _):
        code, details = await raw_call(running.grpc, "/inference.GRPCInferenceService/ModelInfer", *messages)
    assert (code, said in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)


async def test_who_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path, limits=Limits(body_s=0.2)) as (running, _),
        grpc.aio.insecure_channel(running.grpc) as channel,
    ):
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelInfer")()
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "no message came within 0.2 s" in await call.details()


async def test_first_messages_are_held_within_a_bound_and_its_room_is_given_back(tmp_path: Path) -> None:
    engine = V2Engine(script=never)
    limits = Limits(max_buffered_bytes=1000)
    async with engines(engine) as there, gateway(tmp_path, service(*there), limits=limits) as (_, client):
        asking = asyncio.create_task(client.infer("iris", tensor(*range(200))))
        await until(lambda: engine.asked)
        code, message = await refused(client.infer("iris", tensor(*range(100))))
        assert (code, "as many bytes" in message) == ("RESOURCE_EXHAUSTED", True)
        asking.cancel()
        await until(engine.gone.is_set)
        engine.script = doubled
        assert (await client.infer("iris", tensor(*range(100)))).as_numpy("y")[1] == 2.0
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_slow_reader_stops_the_engine_instead_of_filling_the_gateway(tmp_path: Path) -> None:
    sent = 0

    class Firehose(V2Engine):
        async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            nonlocal sent
            for _ in range(200):
                sent += 1
                piece = pb.ModelInferResponse(raw_output_contents=[bytes(1 << 20)])
                yield pb.ModelStreamInferResponse(infer_response=piece)

    async with engines(Firehose()) as there, gateway(tmp_path, service(*there)) as (running, _):
        options = [("grpc.max_receive_message_length", 8 << 20)]
        async with grpc.aio.insecure_channel(running.grpc, options=options) as channel:
            call = stubs.GRPCInferenceServiceStub(channel).ModelStreamInfer()
            await call.write(pb.ModelInferRequest(model_name="iris"))
            await call.done_writing()
            await call.read()
            await asyncio.sleep(0.5)
            assert sent < 60, "MB on their way while nobody reads"
            read = 1
            while await call.read() is not grpc.aio.EOF:
                read += 1
    assert read == sent == 200
