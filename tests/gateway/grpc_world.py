"""Engines that speak V2 gRPC, and a gateway before them that Triton's own client asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from gateway_world import Gateway
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as stubs
from tritonclient.utils import InferenceServerException

from free_ports import free_port
from penstock.contracts.exchange import Endpoint, RevisionRoute, ServiceRoute

Infer = Callable[[pb.ModelInferRequest, Any], Awaitable[pb.ModelInferResponse]]


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


async def refused(calling: Awaitable[Any]) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        await calling
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


async def never(request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
    await asyncio.sleep(60)
    raise AssertionError
