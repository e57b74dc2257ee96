"""What goes wrong around an engine: it ends in order, and says in one line why it cannot serve."""

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import zmq
from engine_process import END_S, TINY, EngineProcess, wait_until

from free_ports import free_port
from penstock.engine.prefixes import block_hashes
from penstock.engine.text import Text
from plain_http import PATIENT

HELLO = [{"role": "user", "content": "Tell me a story."}]
HOPELESS = {
    "model": "tiny",
    "prompt": [f"Story number {number}." for number in range(8)],
    "n": 16,
    "stream": True,
    "max_tokens": 1900,
    "ignore_eos": True,
}
"""The engine has for the better part of a minute to do."""
Start = Callable[..., EngineProcess]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def start(tmp_path: Path, cache: Path) -> Iterator[Start]:
    started: list[EngineProcess] = []

    def one(folder: Path = TINY, **options: Any) -> EngineProcess:
        started.append(EngineProcess(folder, tmp_path / f"log{len(started)}", cache, **options))
        return started[-1]

    yield one
    for engine in started:
        engine.close()


@contextlib.contextmanager
def long_stream(engine: EngineProcess, tokens: int) -> Iterator[Iterator[str]]:
    body = {
        "model": "tiny",
        "messages": HELLO,
        "stream": True,
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }
    with stream(engine, "/v1/chat/completions", body) as lines:
        yield lines


@contextlib.contextmanager
def hopeless_stream(engine: EngineProcess) -> Iterator[Iterator[str]]:
    with stream(engine, "/v1/completions", HOPELESS) as lines:
        yield lines


@contextlib.contextmanager
def stream(engine: EngineProcess, path: str, body: dict[str, Any]) -> Iterator[Iterator[str]]:
    with engine.client.stream("POST", path, json=body) as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert next(lines).startswith("data: ")
        yield lines


def alive(number: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_completes_what_runs_and_takes_nothing_new(start: Start, number: int) -> None:
    engine = start().wait_ready()
    child = engine.child()
    second = httpx.Client(base_url=engine.url, **PATIENT)
    assert second.get("/health").status_code == 200
    with long_stream(engine, 1900) as lines:
        for target in (engine.process.pid, child):  # as a terminal does, to all of a group
            os.kill(target, number)
        with pytest.raises(httpx.TransportError):
            deadline = time.monotonic() + END_S
            while time.monotonic() < deadline:
                second.get("/health").raise_for_status()
                time.sleep(0.005)
        rest = list(lines)
    assert rest[-1] == "data: [DONE]"
    assert json.loads(rest[-2].removeprefix("data: "))["usage"]["completion_tokens"] == 1900
    assert engine.process.wait(END_S) == 0
    wait_until(lambda: not alive(child))
    assert "Traceback" not in engine.text


def test_when_the_pipelines_process_dies_streams_say_so_and_the_engine_ends(start: Start) -> None:
    engine = start().wait_ready()
    with hopeless_stream(engine) as lines:
        os.kill(engine.child(), signal.SIGKILL)
        *_, last = lines
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["type"] == "server_error"
    assert engine.process.wait(END_S) == 3
    assert "error: the pipeline's process ended with code -9" in engine.text
    assert "Traceback" not in engine.text


def test_who_reads_late_is_told_too_that_the_pipelines_process_died(start: Start) -> None:
    engine = start().wait_ready()
    body = json.dumps(HOPELESS | {"logprobs": 1}).encode()  # in many bytes, more than the system keeps for it
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with socket.socket() as late:
        late.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what it does not read is not sent
        late.settimeout(END_S)
        late.connect(("127.0.0.1", engine.port))
        late.sendall(head + body)
        wait_until(lambda: engine.metric("generation_tokens_total") > 10_000)
        os.kill(engine.child(), signal.SIGKILL)
        time.sleep(0.5)
        found = b"".join(iter(lambda: late.recv(65536), b""))
    assert b'"server_error"' in found.rpartition(b"data: ")[2]
    assert found.endswith(b"0\r\n\r\n")
    assert engine.process.wait(END_S) == 3


def test_when_the_engine_is_killed_its_pipeline_does_not_stay(start: Start) -> None:
    engine = start().wait_ready()
    child = engine.child()
    engine.process.kill()
    engine.process.wait()
    wait_until(lambda: not alive(child))
    assert "Traceback" not in engine.text


def test_asked_to_stop_while_it_loads_it_stops(start: Start) -> None:
    engine = start()
    wait_until(lambda: "loading" in engine.text or engine.process.poll() is not None)
    engine.process.send_signal(signal.SIGTERM)
    assert engine.process.wait(END_S) in (0, -signal.SIGTERM), engine.text
    assert "Traceback" not in engine.text


def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def garbled_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 64) + b"x" * 100)


def other_architecture(folder: Path) -> None:
    (folder / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')


def other_sizes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 400}))


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def broken_graph(folder: Path) -> None:
    (folder / "openvino_model.xml").write_text("<net")
    (folder / "openvino_model.bin").write_bytes(b"")


def broken_gguf(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model.gguf").write_bytes(b"GGUF but not really")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut_weights, "model.safetensors is damaged or incomplete"),
        (garbled_header, "model.safetensors is damaged or incomplete"),
        (other_architecture, "architecture GPT2LMHeadModel is not supported"),
        (other_sizes, "found shape [384, 128], expected [400, 128] by config.json"),
        (no_tokenizer, "tokenizer.json: there is no such file"),
        (no_weights, "no *.safetensors file"),
        (broken_graph, "the model cannot be loaded: "),
        (broken_gguf, "model.gguf is damaged or incomplete"),
    ],
)
def test_a_model_that_cannot_be_served_is_told_in_one_line(
    start: Start, tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    folder = copy(tmp_path)
    damage(folder)
    engine = start(folder)
    assert engine.process.wait(END_S) == 2, engine.text
    (line,) = [line for line in engine.text.splitlines() if line.startswith("error: ")]
    assert says in line
    assert "Traceback" not in engine.text


def test_a_folder_that_is_not_there_is_named(start: Start, tmp_path: Path) -> None:
    engine = start(tmp_path / "nowhere")
    assert engine.process.wait(END_S) == 2
    assert f"error: --model_dir: {tmp_path / 'nowhere'} is no folder" in engine.text


def test_a_port_that_is_taken_is_named(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        engine = start(http_port=port)
        assert engine.process.wait(END_S) == 2
    assert f"error: cannot listen on 127.0.0.1:{port}" in engine.text
    assert "Traceback" not in engine.text


def test_an_openvino_folder_is_served_as_it_is_and_needs_its_tokenizer(
    start: Start, tmp_path: Path, cache: Path
) -> None:
    first = start().wait_ready()  # converts into the cache
    assert first.end() == 0
    (made,) = (path.parent for path in cache.glob("openvino/*/openvino_model.xml"))
    folder = tmp_path / "ir"
    shutil.copytree(made, folder)
    bare = start(folder)
    assert bare.process.wait(END_S) == 2
    assert "tokenizer.json: there is no such file" in bare.text
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(TINY / name, folder)
    (folder / "config.json").write_text('{"architectures": ["Unheard"], "max_position_embeddings": 99}')
    served = start(folder).wait_ready()
    body = {
        "model": "tiny",
        "temperature": 0,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
    }
    answer = served.client.post("/v1/chat/completions", json=body).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert served.client.get("/v1/models").json()["data"][0]["max_model_len"] == 99


def test_a_small_pool_serves_more_than_it_can_hold_at_once_and_refuses_what_it_never_can(
    start: Start,
) -> None:
    engine = start(kv_blocks=16).wait_ready()
    refused = engine.client.post("/v1/completions", json={"model": "tiny", "prompt": [7] * 460})
    assert (refused.status_code, "KV cache" in refused.json()["error"]["message"]) == (400, True)
    body = {
        "model": "tiny",
        "prompt": [[7 + i] * 150 for i in range(8)],
        "max_tokens": 100,
        "ignore_eos": True,
        "temperature": 0,
    }
    answer = engine.client.post("/v1/completions", json=body).json()
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["length"] * 8
    assert answer["usage"]["completion_tokens"] == 800


def test_kv_events_of_a_running_engine_tell_what_it_has_cached(start: Start) -> None:
    events, replay = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    engine = start(kv_blocks=48, kv_events_endpoint=events, kv_events_replay_endpoint=replay).wait_ready()
    prompts = [Text(TINY).encode(f"the story of {name} " * 40) for name in ("Ada", "Bob", "Cleo", "Dan")]
    for prompt in prompts * 2:
        body = {"model": "tiny", "prompt": prompt, "max_tokens": 3, "temperature": 0}
        engine.client.post("/v1/completions", json=body).raise_for_status()
    question = zmq.Context.instance().socket(zmq.DEALER)
    known: set[int] = set()
    try:
        question.connect(replay)
        question.send_multipart([b"", bytes(8)])
        while True:
            assert question.poll(30_000), "no answer to the replay"
            _, number, payload = question.recv_multipart()
            if not payload:
                assert number == b"\xff" * 8
                break
            for kind, hashes, *_ in msgspec.msgpack.decode(payload)[1]:
                known = known | set(hashes) if kind == "BlockStored" else known - set(hashes)
    finally:
        question.close(0)
    assert known
    hashes = block_hashes(prompts[-1])
    expected = next((i for i, h in enumerate(hashes) if h not in known), len(hashes))
    body = {"model": "tiny", "prompt": prompts[-1], "max_tokens": 1, "temperature": 0}
    usage = engine.client.post("/v1/completions", json=body).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == min(expected * 32, len(prompts[-1]) - 1)
    assert engine.end() == 0, engine.text
    assert "Traceback" not in engine.text


def test_events_that_cannot_be_published_are_told_in_one_line(start: Start) -> None:
    engine = start(kv_events_endpoint="tcp://256.0.0.1:1")
    assert engine.process.wait(END_S) == 2
    assert "error: cannot publish KV events at tcp://256.0.0.1:1" in engine.text
