"""Triton's clients over HTTP and gRPC, tool calls and WebSockets, against a pod that speaks those protocols."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
import websockets
from client_page import run
from platform_process import Platform, running_platform, until
from tritonclient.utils import InferenceServerException

from free_ports import free_port

pytestmark = pytest.mark.timeout(180)

ENGINE = Path(__file__).parent / "scripted_engine.py"
RETRIES = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    (
        "grpc.service_config",
        json.dumps(
            {
                "methodConfig": [
                    {
                        "name": [{"service": "inference.GRPCInferenceService"}],
                        "retryPolicy": {
                            "maxAttempts": 5,
                            "initialBackoff": "0.2s",
                            "maxBackoff": "1s",
                            "backoffMultiplier": 2,
                            "retryableStatusCodes": ["UNAVAILABLE"],
                        },
                    }
                ]
            }
        ),
    ),
]
"""As gRFC A6 has it, and the page about clients."""
MESSAGES: list[Any] = [{"role": "user", "content": "Turn on valve 3."}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "turn",
            "parameters": {"type": "object", "properties": {"valve": {"type": "integer"}}},
        },
    }
]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """With gRPC, and the scripted engine as `iris`."""
    port = free_port()
    ports = [{"containerPort": 8080, "name": "http1"}, {"containerPort": 9000, "name": "grpc"}]
    container = {"name": "kserve-container", "command": [sys.executable, str(ENGINE)], "ports": ports}
    probe = {"readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1}}
    manifest = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris"},
        "spec": {"predictor": {"minReplicas": 1, "containers": [{**container, **probe}]}},
    }
    home = tmp_path_factory.mktemp("home")
    with running_platform(home, "--no-quickstart", PENSTOCK_GRPC_ADDR=f"127.0.0.1:{port}") as running:
        running.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        running.wait_ready("iris")
        yield running


def tensor(kind: Any, **how: Any) -> Any:
    made = kind.InferInput("x", [3], "FP32")
    made.set_data_from_numpy(np.array([1.0, 2.0, 3.5], np.float32), **how)
    return made


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_http_client_infers_with_binary_tensors_and_with_json(
    platform: Platform, binary: bool
) -> None:
    with over_http.InferenceServerClient(platform.url.removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("iris")
        assert client.get_model_metadata("iris")["inputs"][0]["name"] == "x"
        wanted = over_http.InferRequestedOutput("y", binary_data=binary)
        answer = client.infer(
            "iris", [tensor(over_http, binary_data=binary)], outputs=[wanted], request_id="7"
        )
    assert answer.as_numpy("y").tolist() == [2.0, 4.0, 7.0]
    assert answer.get_response()["id"] == "7"


def test_tritons_grpc_client_infers_and_streams(platform: Platform) -> None:
    heard: list[Any] = []
    with over_grpc.InferenceServerClient(platform.environment["PENSTOCK_GRPC_ADDR"]) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("default/iris")
        answer = client.infer("iris", [tensor(over_grpc)], request_id="7")
        client.start_stream(lambda result, error: heard.append(error or result.as_numpy("y").tolist()))
        for _ in range(3):
            client.async_stream_infer("iris", [tensor(over_grpc)])
        client.stop_stream()
        with pytest.raises(InferenceServerException, match="did you mean 'iris'") as caught:
            client.infer("irsi", [tensor(over_grpc)])
    assert answer.as_numpy("y").tolist() == [2.0, 4.0, 7.0]
    assert heard == [[2.0, 4.0, 7.0]] * 3
    assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_a_tool_is_called_and_its_answer_is_used(platform: Platform) -> None:
    client = openai.OpenAI(base_url=f"{platform.url}/v1", api_key="any", max_retries=0)
    whole = client.chat.completions.create(model="iris", messages=MESSAGES, tools=TOOLS).choices[0]
    assert whole.finish_reason == "tool_calls"
    [call] = whole.message.tool_calls
    assert json.loads(call.function.arguments) == {"valve": 3}
    with client.chat.completions.stream(model="iris", messages=MESSAGES, tools=TOOLS) as stream:
        streamed = stream.get_final_completion().choices[0].message
    assert streamed.tool_calls[0].function.arguments == call.function.arguments
    told = {"role": "tool", "tool_call_id": call.id, "content": "it is open"}
    messages = [*MESSAGES, whole.message.to_dict(), told]
    answer = client.chat.completions.create(model="iris", messages=messages, tools=TOOLS)
    assert answer.choices[0].message.content == "done: it is open"


async def test_a_websocket_under_a_services_path_carries_texts_and_bytes_both_ways(
    platform: Platform,
) -> None:
    url = platform.url.replace("http", "ws", 1)
    async with websockets.connect(
        f"{url}/serving/default/iris/ws",
        subprotocols=["echo"],
        proxy=None,
        open_timeout=30,
        close_timeout=30,
    ) as socket:
        assert socket.subprotocol == "echo"
        assert json.loads(await socket.recv())["type"] == "session.created"
        for message in ("hello", b"\x00\xff" * 70_000, ""):
            await socket.send(message)
            assert await socket.recv() == message
        await (await socket.ping())
    assert socket.close_code == 1000


async def test_openais_realtime_client_finds_its_model_by_the_query(platform: Platform) -> None:
    client = openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key="any")
    async with asyncio.timeout(30), client.realtime.connect(model="iris") as connection:
        event = await connection.recv()
        assert (event.type, event.session.model) == ("session.created", "iris")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("Triton over HTTP", "[2. 4. 7.]"),
        ("Triton over gRPC", "[2. 4. 7.]"),
        ("WebSockets", "session.created"),
    ],
)
def test_what_the_page_about_clients_prints_works(platform: Platform, section: str, said: str) -> None:
    assert said in run(platform, section)


def test_workers_are_replaced_while_grpc_calls_go_on(platform: Platform) -> None:
    """The last test of this file. A connection that is being made as its worker ends may be lost: gRPC's clients have a policy for that."""
    before = {process.pid for process in platform.children("penstock.app.gateway")}
    address = platform.environment["PENSTOCK_GRPC_ADDR"]
    over, found = threading.Event(), list[str]()

    def lane() -> None:
        with over_grpc.InferenceServerClient(address, channel_args=RETRIES) as client:
            while not over.is_set() or len(found) <= 20:
                answer = client.infer("iris", [tensor(over_grpc)])
                found.append(str(answer.as_numpy("y").tolist()))

    caller = threading.Thread(target=lane)
    caller.start()
    assert platform.process
    os.kill(platform.process.pid, signal.SIGUSR2)
    until(
        "the worker is a new one",
        lambda: (now := {p.pid for p in platform.children("penstock.app.gateway")}) and not now & before,
    )
    over.set()
    caller.join(60)
    assert not caller.is_alive()
    assert len(found) > 20
    assert set(found) == {"[2.0, 4.0, 7.0]"}
    with over_grpc.InferenceServerClient(address) as client:
        assert client.is_model_ready("iris")
