"""One request through the whole gateway: names, shapes of errors, retries, cuts, cancellation, back-pressure, draining."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path

import httpx
import openai
import pytest
from gateway_world import OK, STREAM, Engine, Gateway, chunk, post, service, until
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from penstock.gateway import body
from penstock.kit.errors import InvalidInput
from plain_http import PLAIN


async def started(name: str = "e", script=None) -> Engine:
    engine = Engine(name, script) if script else Engine(name)
    await engine.start()
    return engine


async def ask(
    gateway: Gateway, model: str = "m", path: str = "/v1/chat/completions", **kwargs
) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30) as client:
        return await client.post(path, json={"model": model}, **kwargs)


async def test_names_aliases_and_namespaces_mean_the_service_and_the_engine_sees_its_own_name(
    tmp_path: Path,
) -> None:
    engine = await started()
    route = service(engine, aliases=("nick",), engine_model="inner")
    async with Gateway(tmp_path, route) as gateway:
        for name in ("m", "default/m", "nick"):
            assert (await ask(gateway, name)).status_code == 200
    assert [json.loads(seen)["model"] for _, seen in engine.requests] == ["inner"] * 3
    head = engine.requests[0][0].lower()
    assert b"x-request-id: " in head
    assert b"x-forwarded-for: 127.0.0.1" in head


async def test_an_adapter_is_asked_for_by_the_name_that_the_engine_knows(tmp_path: Path) -> None:
    engine = await started()
    route = service(engine, aliases=("french", "nick"), adapters=("french",), engine_model="inner")
    async with Gateway(tmp_path, route) as gateway:
        for name in ("m", "french", "nick"):
            assert (await ask(gateway, name)).status_code == 200
    assert [json.loads(seen)["model"] for _, seen in engine.requests] == ["inner", "french", "inner"]


async def test_paths_and_hosts_reach_the_engine_untouched(tmp_path: Path) -> None:
    engine = await started()
    async with (
        Gateway(tmp_path, service(engine, hosts=("m.default", "m-default"))) as gateway,
        httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30) as client,
    ):
        await client.get("/serving/default/m/any/path?q=1")
        await client.get("/whatever", headers={"host": "m.default.example.com"})
        await client.post("/v1/models/m:predict", json={"instances": [1]})
        await client.post("/v2/models/m/infer", json={"inputs": []})
        await client.post("/openai/v1/completions", json={"model": "m"})
    lines = [head.split(b"\r\n")[0] for head, _ in engine.requests]
    assert lines == [
        b"GET /any/path?q=1 HTTP/1.1",
        b"GET /whatever HTTP/1.1",
        b"POST /v1/models/m:predict HTTP/1.1",
        b"POST /v2/models/m/infer HTTP/1.1",
        b"POST /v1/completions HTTP/1.1",
    ]


async def test_an_engine_with_openais_api_elsewhere_is_asked_there(tmp_path: Path) -> None:
    engine = await started()
    async with Gateway(tmp_path, service(engine, openai_prefix="/openai/v1")) as gateway:
        await ask(gateway)
    assert engine.requests[0][0].startswith(b"POST /openai/v1/chat/completions ")


@pytest.mark.parametrize(
    ("path", "is_object"),
    [("/v1/chat/completions", True), ("/v1/models/none:predict", False), ("/v2/models/none/infer", False)],
)
async def test_errors_are_told_in_the_callers_shape_with_the_nearest_name(
    tmp_path: Path, path: str, is_object: bool
) -> None:
    async with Gateway(tmp_path, service(name="nine")) as gateway:
        answer = await ask(gateway, "none", path)
    assert answer.status_code == 404
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    text = error["message"] if is_object else error
    assert "nine" in text


async def test_an_endpoint_that_refuses_is_avoided_and_another_answers(tmp_path: Path) -> None:
    good, dead = await started("good"), Engine("dead")
    async with Gateway(tmp_path, service(dead, good)) as gateway:
        answers = [await ask(gateway) for _ in range(8)]
        assert {a.status_code for a in answers} == {200}
        assert {a.headers["x-penstock-endpoint"] for a in answers} == {"good"}


async def test_when_all_refuse_the_caller_is_told_when_to_come_again(tmp_path: Path) -> None:
    dead = Engine("dead")
    async with Gateway(tmp_path, service(dead)) as gateway:
        answer = await ask(gateway)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_endpoint_answered"
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_connection_that_the_engine_closed_while_idle_is_replaced_unseen(tmp_path: Path) -> None:
    async def answer_and_close(engine, head, reader, writer):
        writer.write(OK)
        await writer.drain()
        writer.close()

    engine = await started("e", answer_and_close)
    async with Gateway(tmp_path, service(engine)) as gateway:
        for _ in range(5):
            assert (await ask(gateway)).status_code == 200


async def test_engines_errors_are_passed_on_as_they_are(tmp_path: Path) -> None:
    async def refuse(engine, head, reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 4\r\nx-own: 1\r\n\r\nnope")

    engine = await started("e", refuse)
    async with Gateway(tmp_path, service(engine)) as gateway:
        answer = await ask(gateway)
    assert (answer.status_code, answer.text, answer.headers["x-own"]) == (400, "nope", "1")
    assert len(engine.requests) == 1, "a 4xx is never tried again"


async def test_a_stream_that_breaks_ends_with_an_error_object_for_the_openai_client(tmp_path: Path) -> None:
    event = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'

    async def die(engine, head, reader, writer):
        writer.write(STREAM + chunk(event))
        await writer.drain()
        writer.transport.abort()

    engine = await started("e", die)
    async with Gateway(tmp_path, service(engine)) as gateway:
        client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0)
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        said = []
        with pytest.raises(openai.APIError, match="ended in the middle of the answer"):
            async for part in stream:
                said.append(part.choices[0].delta.content)
        await client.close()
    assert said == ["hi"]
    assert len(engine.requests) == 1, "what had begun is never tried again"


async def test_an_answer_that_is_no_stream_is_cut_so_that_nobody_takes_it_for_whole(tmp_path: Path) -> None:
    async def die(engine, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.transport.abort()

    engine = await started("e", die)
    async with Gateway(tmp_path, service(engine)) as gateway:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(gateway)


async def test_a_client_that_goes_away_ends_the_engines_work_at_once(tmp_path: Path) -> None:
    async def endless(engine, head, reader, writer):
        writer.write(STREAM + chunk(b"data: {}\n\n"))
        await writer.drain()
        with contextlib.suppress(ConnectionError):
            await reader.read(1)
        writer.close()

    engine = await started("e", endless)
    async with Gateway(tmp_path, service(engine)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(post())
        await reader.readuntil(b"\r\n\r\n")
        assert not engine.gone.is_set()
        writer.close()
        await until(engine.gone.is_set)


async def test_a_reader_that_is_too_slow_stops_the_engine_instead_of_filling_memory(tmp_path: Path) -> None:
    sent = 0

    async def flood(engine, head, reader, writer):
        nonlocal sent
        writer.write(STREAM)
        piece = chunk(b"x" * 65536)
        while True:
            writer.write(piece)
            await writer.drain()
            sent += 65536

    engine = await started("e", flood)
    async with Gateway(tmp_path, service(engine), drain_s=0.1) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(post())
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        async with asyncio.timeout(30):  # or the engine goes on although nobody reads
            while sent != before or not sent:
                before = sent
                await asyncio.sleep(0.1)
        assert sent < 64 << 20
        writer.close()


async def test_streams_get_their_time_when_the_gateway_stops_and_then_an_error_object(tmp_path: Path) -> None:
    async def slow(engine, head, reader, writer):
        writer.write(STREAM)
        for _ in range(200):
            writer.write(chunk(b"data: {}\n\n"))
            await writer.drain()
            await asyncio.sleep(0.02)

    engine = await started("e", slow)
    gateway = Gateway(tmp_path, service(engine), drain_s=0.3)
    async with gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(post())
        await reader.readuntil(b"data: {}")
        began = time.monotonic()
        stopping = asyncio.create_task(gateway.stop())
        rest = await reader.read()
        assert time.monotonic() - began > 0.25
        assert b'"code":"gateway_draining"' in rest
        assert rest.endswith(b"0\r\n\r\n"), "a proper end"
        await stopping
        writer.close()


async def test_a_service_that_cannot_run_is_told_why_and_one_that_starts_is_waited_for(
    tmp_path: Path,
) -> None:
    failed = service(name="f", phase="Failed", message="no such folder", revisions=())
    starting = service(name="s", phase="Starting", message="its pods are starting", revisions=(), hold_s=0.2)
    async with Gateway(tmp_path, failed, starting) as gateway:
        answer = await ask(gateway, "f")
        assert (answer.status_code, "no such folder" in answer.json()["error"]["message"]) == (503, True)
        answer = await ask(gateway, "s")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready_in_time")
        assert "starting" in answer.json()["error"]["message"]


async def test_too_much_at_once_is_refused_with_429(tmp_path: Path) -> None:
    async def hang(engine, head, reader, writer):
        await asyncio.sleep(60)

    engine = await started("e", hang)
    async with Gateway(tmp_path, service(engine), max_in_flight=2, drain_s=0.05) as gateway:
        held = [asyncio.create_task(ask(gateway)) for _ in range(2)]
        await until(lambda: len(engine.requests) == 2)
        answer = await ask(gateway)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "gateway_full")
        assert answer.headers["retry-after"]
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_an_answer_that_does_not_come_is_given_up_in_time(tmp_path: Path) -> None:
    async def hang(engine, head, reader, writer):
        await asyncio.sleep(60)

    engine = await started("e", hang)
    async with Gateway(tmp_path, service(engine, timeout_s=0.2)) as gateway:
        answer = await ask(gateway)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")


async def test_metrics_parse_and_count(tmp_path: Path) -> None:
    engine = await started()
    async with Gateway(tmp_path, service(engine)) as gateway:
        await ask(gateway)
        await ask(gateway, "none")
        async with httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30) as client:
            text = (await client.get("/metrics")).text
            models = (await client.get("/v1/models")).json()["data"]
    samples = {
        (s.name, s.labels.get("service", s.labels.get("reason"))): s.value
        for f in text_string_to_metric_families(text)
        for s in f.samples
    }
    assert samples["penstock_gateway_requests_total", "m"] == 1
    assert samples["penstock_gateway_refused_total", "model_not_found"] == 1
    assert [m["id"] for m in models] == ["m"]


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b'{"model": 1}', b'{"model": ""}', b"\xff", b'{"messages": []}', b'{"model": "a"} x'],
)
async def test_a_body_without_a_model_is_refused(tmp_path: Path, raw: bytes) -> None:
    async with Gateway(tmp_path) as gateway:
        answer = await gateway.raw(post(raw))
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"x-request-id" in answer


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4), st.text(min_size=1), st.text(min_size=1), st.booleans())
def test_only_the_models_name_changes_in_a_body(fields: dict, name: str, other: str, ascii_: bool) -> None:
    document = {**fields, "model": name, "deep": {"model": name}}
    raw = json.dumps(document, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
    try:
        read = body.read(raw)
    except InvalidInput:
        assert not _is_utf8(raw) or "\ud800" <= max(name) <= "\udfff"
        return
    assert read.model == name
    assert json.loads(body.with_model(raw, other)) == {**document, "model": other}


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
