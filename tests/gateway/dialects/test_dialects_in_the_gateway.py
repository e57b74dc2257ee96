"""Anthropic's and Ollama's own clients through the real gateway, in front of an engine that knows OpenAI's protocol only."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import ollama
import pytest
from dialect_world import completion, cut, delta, sse, usage_chunk
from gateway_world import STREAM, Engine, Gateway, chunk, service

from plain_http import PLAIN

HELLO = [{"role": "user", "content": "hello"}]
HI = sse(delta(content="Hi"), delta(content="."), delta(finish="stop"), usage_chunk(12, 5, cached=4))
BROKEN = sse(delta(content="Hi"), done=False)


def sized(body: bytes, status: int = 200) -> bytes:
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def pieces(stream: bytes) -> bytes:
    return STREAM + b"".join(chunk(piece) for piece in cut(stream, list(range(0, len(stream), 5))) if piece)


@asynccontextmanager
async def world(folder: Path, answer: bytes, **fields: Any) -> AsyncIterator[tuple[Engine, str]]:
    """An engine that gives this answer, then ends the connection; and a gateway's URL."""

    async def script(
        engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    engine = Engine("e", script)
    await engine.start()
    async with Gateway(folder, service(engine, engine_model="inner", **fields)) as gateway:
        yield engine, gateway.url


def claude(url: str) -> anthropic.AsyncAnthropic:
    http = anthropic.DefaultAsyncHttpxClient(**PLAIN)
    return anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0, http_client=http)


def llama(url: str) -> ollama.AsyncClient:
    return ollama.AsyncClient(host=url, **PLAIN)


def asked(engine: Engine) -> tuple[bytes, dict]:
    """Path and body of the engine's only request."""
    ((head, body),) = engine.requests
    return head.split()[1], json.loads(body)


async def test_anthropics_client_gets_a_message(tmp_path: Path) -> None:
    async with world(tmp_path, sized(completion(content="Hi."))) as (engine, url), claude(url) as client:
        message = await client.messages.create(model="m", max_tokens=9, messages=HELLO)
    assert (message.content[0].text, message.model, message.stop_reason) == ("Hi.", "m", "end_turn")
    assert message.usage.cache_read_input_tokens == 4
    assert asked(engine) == (
        b"/v1/chat/completions",
        {"model": "inner", "messages": HELLO, "max_tokens": 9},
    )


async def test_anthropics_client_gets_a_stream(tmp_path: Path) -> None:
    async with (
        world(tmp_path, pieces(HI) + chunk(b"")) as (_, url),
        claude(url) as client,
        client.messages.stream(model="m", max_tokens=9, messages=HELLO) as events,
    ):
        message = await events.get_final_message()
    assert (message.content[0].text, message.usage.output_tokens) == ("Hi.", 5)


async def test_anthropics_client_is_told_when_the_engine_breaks_off(tmp_path: Path) -> None:
    async with world(tmp_path, pieces(BROKEN)) as (_, url), claude(url) as client:
        with pytest.raises(anthropic.APIStatusError, match="ended in the middle"):
            async with client.messages.stream(model="m", max_tokens=9, messages=HELLO) as events:
                await events.get_final_message()


async def test_anthropics_client_understands_refusals(tmp_path: Path) -> None:
    async with (
        world(tmp_path, sized(b'{"error":{"message":"no","code":null}}', 422)) as (_, url),
        claude(url) as client,
    ):
        with pytest.raises(anthropic.UnprocessableEntityError, match="no"):
            await client.messages.create(model="m", max_tokens=9, messages=HELLO)
        with pytest.raises(anthropic.NotFoundError, match="'n' does not exist") as unknown:
            await client.messages.create(model="n", max_tokens=9, messages=HELLO)
        with pytest.raises(anthropic.BadRequestError, match="'max_tokens': found 0"):
            await client.messages.create(model="m", max_tokens=0, messages=HELLO)
        with pytest.raises(anthropic.NotFoundError, match="is not offered here"):
            await client.post("/serving/default/m/v1/messages/batches", cast_to=object, body={"model": "m"})
    body = unknown.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")
    assert unknown.value.response.headers["x-request-id"] == body["request_id"]


async def test_tokens_are_counted_below_the_engines_root(tmp_path: Path) -> None:
    async with (
        world(tmp_path, sized(b'{"count":7}'), openai_prefix="/openai/v1") as (engine, url),
        claude(url) as client,
    ):
        assert (await client.messages.count_tokens(model="m", messages=HELLO)).input_tokens == 7
    assert asked(engine) == (b"/tokenize", {"model": "inner", "messages": HELLO})


async def test_an_engine_that_speaks_the_protocol_is_asked_in_it(tmp_path: Path) -> None:
    answer = b'{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"inner","usage":{}}'
    fields = {"protocols": ("openai", "anthropic")}
    async with world(tmp_path, sized(answer), **fields) as (engine, url), claude(url) as client:
        message = await client.messages.create(model="m", max_tokens=9, messages=HELLO)
    assert message.id == "msg_1"
    assert asked(engine) == (b"/v1/messages", {"model": "inner", "max_tokens": 9, "messages": HELLO})


async def test_ollamas_client_chats(tmp_path: Path) -> None:
    async with world(tmp_path, sized(completion(content="Hi."))) as (engine, url), llama(url) as client:
        answer = await client.chat("m:latest", HELLO)
    assert (answer.message.content, answer.done_reason, answer.eval_count) == ("Hi.", "stop", 5)
    assert asked(engine) == (b"/v1/chat/completions", {"model": "inner", "messages": HELLO})


async def test_ollamas_client_gets_a_stream(tmp_path: Path) -> None:
    async with world(tmp_path, pieces(HI) + chunk(b"")) as (_, url), llama(url) as client:
        lines = [line async for line in await client.generate("m", "hello", stream=True)]
    assert "".join(line.response for line in lines) == "Hi."
    assert (lines[-1].done, lines[-1].prompt_eval_count) == (True, 12)
    assert 0 < lines[-1].prompt_eval_duration <= lines[-1].total_duration


async def test_ollamas_client_is_told_when_the_engine_breaks_off(tmp_path: Path) -> None:
    async with world(tmp_path, pieces(BROKEN)) as (_, url), llama(url) as client:
        with pytest.raises(ollama.ResponseError, match="ended in the middle"):
            async for _line in await client.chat("m", HELLO, stream=True):
                pass


async def test_ollamas_client_understands_refusals(tmp_path: Path) -> None:
    async with world(tmp_path, sized(b'{"error":{"message":"no"}}', 400)) as (_, url), llama(url) as client:
        for model, words in (("m", "no"), ("n", "'n' does not exist")):
            with pytest.raises(ollama.ResponseError, match=words):
                await client.chat(model, HELLO)


async def test_a_model_is_loaded_without_asking_its_engine(tmp_path: Path) -> None:
    async with world(tmp_path, b"") as (engine, url), llama(url) as client:
        assert (await client.chat("m", [])).done_reason == "load"
    assert engine.requests == []


async def test_ollamas_client_sees_what_is_served(tmp_path: Path) -> None:
    async with world(tmp_path, b"") as (_, url), llama(url) as client:
        assert [model.model for model in (await client.list()).models] == ["m"]
        assert (await client.show("m")).capabilities == ["completion"]
        with pytest.raises(ollama.ResponseError, match="'n' does not exist"):
            await client.show("n")
