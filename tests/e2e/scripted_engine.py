"""An engine for tests of clients, run as a pod: it doubles tensors over V2 (HTTP and gRPC), calls a tool, and echoes over WebSocket.

What it speaks is the real protocol: gRPC from Triton's own service definition, tensors as JSON and as the binary extension.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as stubs

LENGTH = "inference-header-content-length"
CALL = {"id": "call_1", "type": "function", "function": {"name": "turn", "arguments": '{"valve": 3}'}}


async def ready(request: Request) -> Response:
    return JSONResponse({"name": request.path_params.get("model", ""), "ready": True})


async def metadata(request: Request) -> Response:
    tensor = {"datatype": "FP32", "shape": [-1]}
    inputs, outputs = [{"name": "x", **tensor}], [{"name": "y", **tensor}]
    return JSONResponse(
        {"name": request.path_params["model"], "platform": "test", "inputs": inputs, "outputs": outputs}
    )


async def infer(request: Request) -> Response:
    """Answers in the form that it was asked in."""
    data = await request.body()
    size = int(request.headers.get(LENGTH, len(data)))
    asked = json.loads(data[:size])
    is_binary = LENGTH in request.headers
    [given] = asked["inputs"]
    x = np.frombuffer(data[size:], "<f4") if is_binary else np.array(given["data"], "<f4")
    y = (2 * x).tobytes()
    output = {"name": "y", "datatype": "FP32", "shape": given["shape"]}
    answer = {"model_name": request.path_params["model"], "id": asked.get("id", "")}
    if not is_binary:
        return JSONResponse({**answer, "outputs": [{**output, "data": (2 * x).tolist()}]})
    head = json.dumps(
        {**answer, "outputs": [{**output, "parameters": {"binary_data_size": len(y)}}]}
    ).encode()
    return Response(head + y, headers={LENGTH: str(len(head))}, media_type="application/octet-stream")


async def chat(request: Request) -> Response:
    """Calls a tool until it has the tool's answer."""
    asked = await request.json()
    last = asked["messages"][-1]
    shared = {"id": "c1", "created": 1, "model": asked["model"]}
    message: dict[str, Any] = {"role": "assistant", "content": f"done: {last['content']}"}
    if last["role"] != "tool":
        message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    reason = "stop" if message["content"] else "tool_calls"
    if not asked.get("stream"):
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return JSONResponse({**shared, "object": "chat.completion", "choices": [choice], "usage": usage})

    async def events() -> AsyncIterator[str]:
        function = CALL["function"]
        pieces = [{**CALL, "index": 0, "function": {**function, "arguments": ""}}]
        pieces += [{"index": 0, "function": {"arguments": part}} for part in ('{"val', 've": 3}')]
        deltas: list[dict[str, Any]] = [{"tool_calls": [piece]} for piece in pieces]
        for delta, end in [*((delta, None) for delta in deltas), ({}, reason)]:
            choice = {"index": 0, "delta": delta, "finish_reason": end}
            event = {**shared, "object": "chat.completion.chunk", "choices": [choice]}
            yield f"data: {json.dumps(event)}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def echo(socket: WebSocket) -> None:
    """Says under which name and path it was asked, then all that it hears."""
    await socket.accept(subprotocol=next(iter(socket.scope["subprotocols"]), None))
    session = {"id": "s1", "type": "realtime", "model": socket.query_params.get("model", "")}
    await socket.send_text(json.dumps({"type": "session.created", "event_id": "e1", "session": session}))
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        return


class V2(stubs.GRPCInferenceServiceServicer):
    async def ModelReady(self, request: pb.ModelReadyRequest, context: Any) -> Any:
        return pb.ModelReadyResponse(ready=True)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> Any:
        x = np.frombuffer(request.raw_input_contents[0], "<f4")
        answer = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
        answer.outputs.add(name="y", datatype="FP32", shape=request.inputs[0].shape)
        answer.raw_output_contents.append((2 * x).tobytes())
        return answer

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield pb.ModelStreamInferResponse(infer_response=await self.ModelInfer(request, context))


async def main() -> None:
    host = os.environ["POD_IP"]
    server = grpc.aio.server()
    stubs.add_GRPCInferenceServiceServicer_to_server(V2(), server)
    server.add_insecure_port(f"{host}:9000")
    await server.start()
    model = "/v2/models/{model}"
    routes = [
        Route("/v2/health/ready", ready),
        Route(model, metadata),
        Route(f"{model}/ready", ready),
        Route(f"{model}/infer", infer, methods=["POST"]),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        WebSocketRoute("/ws", echo),
        WebSocketRoute("/v1/realtime", echo),
    ]
    await uvicorn.Server(uvicorn.Config(Starlette(routes=routes), host, 8080, log_level="warning")).serve()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
