"""Schemas that answers are forced into, on the real engine: none of them harms anybody else's answer."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from engine_process import TINY, EngineProcess, wait_until

from plain_http import PATIENT

CITIES: dict[str, Any] = {"enum": ["Lima", "Quito"]}
TOO_MUCH = {
    "properties": {f"p{i}": {"type": "string", "pattern": f"^[a-z]{{1,{i + 1}}}$"} for i in range(400)}
}
"""Takes the compiler minutes, or its process."""


@pytest.fixture
def client(engine: EngineProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine.url, **PATIENT) as client:
        yield client


def question(schema: Any) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    messages = [{"role": "user", "content": "Which city?"}]
    return {"model": "tiny", "messages": messages, "response_format": form, "max_tokens": 40}


def ask(client: httpx.Client, schema: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json=question(schema))


def answer(client: httpx.Client, schema: Any) -> Any:
    found = ask(client, schema)
    assert found.status_code == 200, found.text
    return json.loads(found.json()["choices"][0]["message"]["content"])


def error(client: httpx.Client, schema: Any) -> tuple[int, str]:
    found = ask(client, schema)
    return found.status_code, found.json()["error"]["code"]


def grammar_processes(engine: EngineProcess) -> list[psutil.Process]:
    children = psutil.Process(engine.process.pid).children()
    return [child for child in children if "penstock.engine.grammar" in child.cmdline()]


def has_worked(process: psutil.Process, before_s: float) -> bool:
    """Or has been ended for what it worked."""
    try:
        return process.cpu_times().user > before_s
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def stream(engine: EngineProcess) -> Iterator[Iterator[str]]:
    """Of somebody else, under way."""
    body = {"model": "tiny", "prompt": "Once", "stream": True, "max_tokens": 1900, "ignore_eos": True}
    with (
        httpx.Client(base_url=engine.url, **PATIENT) as other,
        other.stream("POST", "/v1/completions", json=body) as answer,
    ):
        lines = (line for line in answer.iter_lines() if line)
        next(lines)
        yield lines


def test_a_schema_that_cannot_be_followed_fails_its_own_request_only(
    client: httpx.Client, stream: Iterator[str]
) -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"type": "nonsense"},
        {"$ref": "#/x"},
        {"anyOf": []},
        {"type": "string", "pattern": "("},
    )
    for schema in wrong * 2:
        assert error(client, schema) == (400, "bad_schema")
        assert answer(client, CITIES) in CITIES["enum"]
    *_, last = stream
    assert last == "data: [DONE]"


def test_one_that_cannot_be_compiled_in_time_is_refused_and_holds_nobody_up(
    client: httpx.Client, stream: Iterator[str]
) -> None:
    assert error(client, TOO_MUCH) == (400, "bad_schema")
    assert error(client, TOO_MUCH) == (400, "bad_schema"), "which is remembered"
    assert answer(client, {"enum": ["Bern"]}) == "Bern"
    *_, last = stream
    assert last == "data: [DONE]"


def test_a_compilers_process_that_dies_takes_no_schema_with_it_but_the_one_it_compiled(
    engine: EngineProcess, client: httpx.Client
) -> None:
    assert answer(client, {"enum": ["Oslo"]}) == "Oslo"
    [idle] = grammar_processes(engine)
    idle.kill()
    wait_until(lambda: not idle.is_running() or idle.status() == psutil.STATUS_ZOMBIE)
    assert answer(client, {"enum": ["Rome"]}) == "Rome"
    [busy] = grammar_processes(engine)
    began_s = busy.cpu_times().user
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(error, client, {**TOO_MUCH, "title": "yet another"})
        wait_until(lambda: has_worked(busy, began_s))
        with contextlib.suppress(psutil.NoSuchProcess):
            busy.kill()
        assert asked.result() == (400, "bad_schema")
    assert answer(client, {"enum": ["Kyiv"]}) == "Kyiv"


def test_many_ask_with_one_new_schema_at_once(engine: EngineProcess) -> None:
    def one(_: int) -> Any:
        with httpx.Client(base_url=engine.url, **PATIENT) as client:
            return answer(client, {"enum": ["Riga", "Cork"]})

    with ThreadPoolExecutor(8) as pool:
        assert {*pool.map(one, range(8))} <= {"Riga", "Cork"}


def test_whoever_goes_away_while_a_schema_is_compiled_leaves_no_answer_to_the_next(
    client: httpx.Client, engine: EngineProcess
) -> None:
    assert answer(client, {"enum": ["Bonn"]}) == "Bonn"
    [compiler] = grammar_processes(engine)
    began_s = compiler.cpu_times().user
    body = json.dumps(question({**TOO_MUCH, "title": "another"})).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", engine.port), 30) as hasty:
        hasty.sendall(head + body)
        wait_until(lambda: has_worked(compiler, began_s))
    assert answer(client, {"enum": ["Graz"]}) == "Graz"
    assert error(client, {"type": "nonsense", "title": "once more"}) == (400, "bad_schema")


def test_the_compilers_process_ends_with_the_engine(tmp_path: Path) -> None:
    engine = EngineProcess(TINY, tmp_path / "log", tmp_path / "cache").wait_ready()
    try:
        assert answer(engine.client, CITIES) in CITIES["enum"]
        [compiler] = grammar_processes(engine)
        engine.process.kill()
        engine.process.wait()
        wait_until(lambda: not compiler.is_running() or compiler.status() == psutil.STATUS_ZOMBIE)
    finally:
        engine.close()
