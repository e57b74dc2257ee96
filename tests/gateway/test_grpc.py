"""V2 gRPC through a real gateway, from Triton's own client to a scripted engine that speaks the real protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from gateway_world import ControlPlane, until
from grpc_world import V2Engine, doubled, engines, gateway, never, refused, service, tensor
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as stubs

from penstock.contracts.exchange import Endpoint, KeyHash, KeyRoute, RateLimit, RouteTable
from penstock.kit.api_keys import keyed_hash

KEY = "psk-abc-" + "s" * 43
METRICS = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


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
        assert not await client.is_server_ready(), "all it has are routes of an earlier run"
        async with ControlPlane(tmp_path, RouteTable(version=1)) as control:
            await until(lambda: control.reports)
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


async def test_the_services_time_is_a_limit_and_said(tmp_path: Path) -> None:
    engine = V2Engine(script=never)
    async with engines(engine) as there, gateway(tmp_path, service(*there, timeout_s=0.2)) as (_, client):
        while not engine.asked:  # the time may also be over before that
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
    assert 10.0 < left[0] <= 30.2, "gRPC rounds up to a tenth"


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


async def test_calls_are_counted_like_any_request(tmp_path: Path) -> None:
    async with engines(V2Engine()) as there, gateway(tmp_path, service(*there)) as (running, client):
        await client.infer("iris", tensor(1.0))
        await refused(client.infer("iriss", tensor(1.0)))
        wanted = (
            b'penstock_gateway_requests_total{namespace="default",service="iris",code="200"} 1',
            b"model_not_found",
        )
        async with asyncio.timeout(30):
            told = b""
            while not all(one in told for one in wanted):
                told = await running.raw(METRICS)


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
