"""V2 gRPC through a real gateway, from Triton's own client to a scripted engine that speaks the real protocol."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from certificates import Authority
from gateway_world import ControlPlane, Gateway, until
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as stubs
from tritonclient.utils import InferenceServerException

from penstock.contracts.exchange import (
    Endpoint,
    KeyHash,
    KeyRoute,
    RateLimit,
    RevisionRoute,
    RouteTable,
    ServiceRoute,
)
from penstock.gateway.wire.message import Limits
from penstock.kit.api_keys import keyed_hash
from penstock.kit.errors import Unavailable

Infer = Callable[[pb.ModelInferRequest, Any], Awaitable[pb.ModelInferResponse]]
KEY = "psk-abc-" + "s" * 43


async def doubled(request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
    x = np.frombuffer(request.raw_input_contents[0], np.float32)
    answer = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
    answer.outputs.add(name="y", datatype="FP32", shape=[len(x)])
    answer.raw_output_contents.append((2 * x).tobytes())
    return answer


class V2Engine(stubs.GRPCInferenceServiceServicer):
    """Answers as `script` says; notes what it was asked, and under which metadata."""

    def __init__(self, name: str = "e", script: Infer = doubled) -> None:
        self.name, self.script = name, script
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.gone = asyncio.Event()

    def _note(self, model: str, context: Any) -> None:
        self.asked.append((model, dict(context.invocation_metadata())))

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        self._note(request.model_name, context)
        try:
            return await self.script(request, context)
        except asyncio.CancelledError:
            self.gone.set()
            raise

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Any) -> pb.ModelReadyResponse:
        self._note(request.name, context)
        return pb.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Any) -> pb.ModelMetadataResponse:
        return pb.ModelMetadataResponse(name=request.name, platform="test")

    async def RepositoryModelLoad(self, request: pb.RepositoryModelLoadRequest, context: Any) -> Any:
        self._note(request.model_name, context)
        return pb.RepositoryModelLoadResponse()

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            self._note(request.model_name, context)
            for _ in range(2):
                yield pb.ModelStreamInferResponse(infer_response=await self.script(request, context))


@asynccontextmanager
async def engines(*engines: V2Engine) -> AsyncIterator[list[Endpoint]]:
    servers, endpoints = [], []
    for engine in engines:
        server = grpc.aio.server()
        stubs.add_GRPCInferenceServiceServicer_to_server(engine, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        endpoints.append(Endpoint(name=engine.name, address="127.0.0.1", port=1, grpc_port=port))
    yield endpoints
    await asyncio.gather(*(server.stop(0) for server in servers))


def service(*endpoints: Endpoint, **fields: Any) -> ServiceRoute:
    revision = RevisionRoute(name="iris-1", weight_percent=100, endpoints=endpoints)
    given = {"namespace": "default", "name": "iris", "uid": "u", "engine_model": "iris", "phase": "Ready"}
    return ServiceRoute(**{**given, "revisions": (revision,), **fields})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@asynccontextmanager
async def gateway(
    folder: Path, *services: ServiceRoute, **settings: Any
) -> AsyncIterator[tuple[Gateway, triton.InferenceServerClient]]:
    port = free_port()
    async with (
        Gateway(folder, *services, grpc=("127.0.0.1", port), **settings) as running,
        triton.InferenceServerClient(f"127.0.0.1:{port}") as client,
    ):
        running.grpc = f"127.0.0.1:{port}"
        yield running, client


def tensor(*values: float) -> list[triton.InferInput]:
    made = triton.InferInput("x", [len(values)], "FP32")
    made.set_data_from_numpy(np.array(values, np.float32))
    return [made]


@pytest.mark.parametrize("name", ["iris", "default/iris", "flowers"])
async def test_a_model_is_inferred_under_any_of_its_names(tmp_path: Path, name: str) -> None:
    engine = V2Engine()
    async with engines(engine) as there:
        route = service(*there, engine_model="iris-v7", aliases=("flowers",))
        async with gateway(tmp_path, route) as (_, client):
            answer = await client.infer(name, tensor(1.0, 2.5), request_id="7")
            assert answer.as_numpy("y").tolist() == [2.0, 5.0]
            assert answer.get_response().id == "7"
            assert await client.is_model_ready(name)
            assert (await client.get_model_metadata(name)).platform == "test"
    assert {model for model, _ in engine.asked} == {"iris-v7"}


async def test_the_gateway_itself_is_live_and_ready_and_says_what_it_is(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (_, client):
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert (await client.get_server_metadata()).name == "penstock"


async def test_a_stream_goes_both_ways(tmp_path: Path) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for value in (1.0, 2.0):
            yield {"model_name": "default/iris", "inputs": tensor(value)}

    async with engines(V2Engine()) as there, gateway(tmp_path, service(*there)) as (_, client):
        answers = client.stream_infer(requests())
        got = [answer.as_numpy("y")[0] async for answer, error in answers if error is None]
    assert got == [2.0, 2.0, 4.0, 4.0]


async def test_metadata_passes_on_with_an_id_and_comes_back_with_one(tmp_path: Path) -> None:
    engine = V2Engine()
    async with engines(engine) as there, gateway(tmp_path, service(*there)) as (running, _):
        channel = grpc.aio.insecure_channel(running.grpc)
        own = (
            ("x-mine", "1"),
            ("x-mine-bin", b"\x00\xff"),
            ("x-request-id", "r-1"),
            ("authorization", "Bearer hf"),
        )
        call = stubs.GRPCInferenceServiceStub(channel).ModelReady(
            pb.ModelReadyRequest(name="iris"), metadata=own
        )
        assert (await call).ready
        back = dict(await call.initial_metadata())
        await channel.close()
    told = engine.asked[-1][1]
    assert (told["x-mine"], told["x-mine-bin"], told["authorization"]) == ("1", b"\x00\xff", "Bearer hf")
    assert (told["x-request-id"], told["x-forwarded-for"]) == ("r-1", "127.0.0.1")
    assert told["traceparent"].startswith("00-")
    assert (back["x-request-id"], back["x-penstock-endpoint"]) == ("r-1", "e")


async def refused(calling: Awaitable[Any]) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        await calling
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


async def test_an_unknown_model_is_not_found_and_the_nearest_is_named(tmp_path: Path) -> None:
    async with gateway(tmp_path, service()) as (_, client):
        code, message = await refused(client.infer("iriss", tensor(1.0)))
    assert code == "NOT_FOUND"
    assert "did you mean 'iris'" in message


async def test_what_speaks_no_grpc_and_what_the_gateway_does_not_know_is_unimplemented(
    tmp_path: Path,
) -> None:
    only_http = Endpoint(name="e", address="127.0.0.1", port=1)
    async with gateway(tmp_path, service(only_http)) as (_, client):
        assert (await refused(client.infer("iris", tensor(1.0))))[0] == "UNIMPLEMENTED"
        code, message = await refused(client.load_model("iris"))
        assert (code, "x-penstock-model" in message) == ("UNIMPLEMENTED", True)


async def test_metadata_reaches_methods_that_name_no_model(tmp_path: Path) -> None:
    engine = V2Engine()
    async with engines(engine) as there, gateway(tmp_path, service(*there)) as (_, client):
        await client.load_model("adapter", headers={"x-penstock-model": "default/iris"})
    assert engine.asked[0][0] == "adapter"
    assert "x-penstock-model" not in engine.asked[0][1]


async def test_the_engines_own_errors_pass_as_they_are(tmp_path: Path) -> None:
    async def refuses(request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "x: expected 4 values", (("x-why", "shape"),))
        raise AssertionError

    async with engines(V2Engine(script=refuses)) as there, gateway(tmp_path, service(*there)) as (_, client):
        assert await refused(client.infer("iris", tensor(1.0))) == (
            "INVALID_ARGUMENT",
            "x: expected 4 values",
        )


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


async def never(request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def test_the_services_time_is_a_limit_and_said(tmp_path: Path) -> None:
    engine = V2Engine(script=never)
    async with engines(engine) as there, gateway(tmp_path, service(*there, timeout_s=0.2)) as (_, client):
        code, message = await refused(client.infer("iris", tensor(1.0)))
        assert (code, "did not answer within 0.2 s" in message) == ("DEADLINE_EXCEEDED", True)
        await until(engine.gone.is_set)


async def test_the_callers_deadline_reaches_the_engine(tmp_path: Path) -> None:
    left: list[float] = []

    async def notes(request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        left.append(context.time_remaining())
        return await doubled(request, context)

    async with engines(V2Engine(script=notes)) as there, gateway(tmp_path, service(*there)) as (_, client):
        await client.infer("iris", tensor(1.0), client_timeout=30.0)
    assert 25.0 < left[0] <= 30.0


async def test_who_goes_away_cancels_the_engine(tmp_path: Path) -> None:
    engine = V2Engine(script=never)
    async with engines(engine) as there, gateway(tmp_path, service(*there)) as (_, client):
        asking = asyncio.create_task(client.infer("iris", tensor(1.0)))
        await until(lambda: engine.asked)
        asking.cancel()
        await until(engine.gone.is_set, within_s=1.0)
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_message_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    small = Limits(max_body_bytes=1000)
    async with engines(V2Engine()) as there, gateway(tmp_path, service(*there), limits=small) as (_, client):
        code, _ = await refused(client.infer("iris", tensor(*range(1000))))
        assert code == "RESOURCE_EXHAUSTED"
        assert (await client.infer("iris", tensor(1.0))).as_numpy("y")[0] == 2.0


async def test_a_sleeping_service_is_woken(tmp_path: Path) -> None:
    asleep = RouteTable(version=2, services=(service(phase="Sleeping"),))
    async with (
        engines(V2Engine()) as there,
        ControlPlane(tmp_path, asleep) as plane,
        gateway(tmp_path) as (_, client),
    ):
        asking = asyncio.create_task(client.infer("iris", tensor(1.0)))
        await until(lambda: any(s.wake for report in plane.reports for s in report.services))
        plane.send(RouteTable(version=3, services=(service(*there),)))
        assert (await asking).as_numpy("y")[0] == 2.0


def keyed(*limits: RateLimit, models: tuple[str, ...] = ("*",)) -> KeyRoute:
    proof = KeyHash(hash=keyed_hash(bytes(32), KEY.encode()).hex())
    return KeyRoute(
        id="abc", namespace="default", name="alice", hashes=(proof,), models=models, limits=limits
    )


@pytest.mark.parametrize(
    ("key", "given", "code"),
    [
        (keyed(), "", "UNAUTHENTICATED"),
        (keyed(), "psk-abc-wrong", "UNAUTHENTICATED"),
        (keyed(models=("*/other",)), KEY, "PERMISSION_DENIED"),
        (keyed(RateLimit(requests_per_minute=1)), KEY, "RESOURCE_EXHAUSTED"),
    ],
)
async def test_keys_hold_for_grpc_as_for_http(tmp_path: Path, key: KeyRoute, given: str, code: str) -> None:
    engine = V2Engine()
    headers = {"authorization": f"Bearer {given}"} if given else {}
    async with engines(engine) as there:
        table = RouteTable(version=2, services=(service(*there),), keys=(key,))
        async with (
            ControlPlane(tmp_path, table) as plane,
            gateway(tmp_path, require_keys=True) as (_, client),
        ):
            await until(lambda: plane.reports and plane.reports[-1].table_version == 2)
            assert await client.is_server_live()
            if key.limits:
                await client.infer("iris", tensor(1.0), headers=headers)
                assert "authorization" not in engine.asked[-1][1]
            assert (await refused(client.infer("iris", tensor(1.0), headers=headers)))[0] == code


async def test_a_gateway_that_stops_lets_calls_end_and_tells_the_rest(tmp_path: Path) -> None:
    async def slow(request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        await asyncio.sleep(0.2 if request.id == "short" else 60)
        return await doubled(request, context)

    engine = V2Engine(script=slow)
    async with engines(engine) as there, gateway(tmp_path, service(*there), drain_s=0.6) as (running, client):
        short = asyncio.create_task(client.infer("iris", tensor(1.0), request_id="short"))
        long = asyncio.create_task(refused(client.infer("iris", tensor(1.0), request_id="long")))
        await until(lambda: len(engine.asked) == 2)
        await running.stop()
        assert (await short).as_numpy("y")[0] == 2.0
        code, message = await long
    assert (code, "the gateway is stopping" in message) == ("UNAVAILABLE", True)


async def test_two_workers_share_the_port(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with engines(V2Engine()) as there:
        route = service(*there)
        async with (
            Gateway(tmp_path / "a", route, grpc=("127.0.0.1", port)),
            Gateway(tmp_path / "b", route, grpc=("127.0.0.1", port)) as second,
            triton.InferenceServerClient(f"127.0.0.1:{port}") as client,
        ):
            await second.stop()
            assert (await client.infer("iris", tensor(1.0))).as_numpy("y")[0] == 2.0


async def test_calls_are_counted_like_any_request(tmp_path: Path) -> None:
    async with engines(V2Engine()) as there, gateway(tmp_path, service(*there)) as (running, client):
        await client.infer("iris", tensor(1.0))
        await refused(client.infer("iriss", tensor(1.0)))
        told = (await running.raw(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")).decode()
    assert 'penstock_gateway_requests_total{namespace="default",service="iris",code="200"} 1' in told
    assert "model_not_found" in told


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


async def test_what_is_in_flight_is_demand(tmp_path: Path) -> None:
    engine = V2Engine(script=never)
    async with (
        engines(engine) as there,
        ControlPlane(tmp_path) as plane,
        gateway(tmp_path, service(*there)) as (_, client),
    ):
        asking = asyncio.create_task(client.infer("iris", tensor(1.0)))
        await until(lambda: any(s.in_flight > 0 for r in plane.reports for s in r.services))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: plane.reports[-1].services == ())


async def is_live(target: str, authority: bytes) -> bool:
    """Asked over a new connection by who trusts this authority only."""
    channel = grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(authority))
    call = stubs.GRPCInferenceServiceStub(channel).ServerLive(pb.ServerLiveRequest(), timeout=2.0)
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
