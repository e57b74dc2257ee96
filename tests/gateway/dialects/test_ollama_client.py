"""Ollama's own client understands what is told it."""

import json

import ollama
import pytest
from dialect_world import World, completion, delta, sent, served, sse, tool_piece, usage_chunk

from penstock.contracts.exchange import ServiceRoute
from penstock.gateway.dialects.dialect import Translated
from penstock.gateway.dialects.ollama import catalogue
from penstock.gateway.dialects.ollama.dialect import Ollama
from penstock.kit.errors import InvalidInput
from plain_http import PLAIN

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


def client(url: str) -> ollama.AsyncClient:
    """Never through a proxy. Use within `async with`."""
    return ollama.AsyncClient(host=url, **PLAIN)


def world(answer: bytes, status: int = 200) -> World:
    return World(Ollama(), lambda _: (status, answer))


async def test_a_chat_comes_whole() -> None:
    engine = world(completion(content="Hi.", reasoning_content="greet"))
    async with served(engine) as url, client(url) as api:
        answer = await api.chat("tiny", HELLO, options={"num_predict": 9, "num_ctx": 512}, keep_alive="5m")
    assert (answer.model, answer.message.content, answer.message.thinking) == ("tiny", "Hi.", "greet")
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert (answer.prompt_eval_count, answer.eval_count) == (12, 5)
    assert answer.total_duration == answer.eval_duration == 250_000_000
    assert answer.created_at == "2027-01-15T08:00:00Z"
    assert sent(engine.asked[0]) == {"model": "tiny", "messages": HELLO, "max_tokens": 9}


async def test_a_chat_streams_text_and_whole_tool_calls() -> None:
    stream = sse(
        delta(role="assistant", content=""),
        delta(reasoning_content="hm"),
        delta(content="Loo"),
        delta(content="king."),
        delta(tool_calls=[tool_piece(0, '{"town":', id="call_1", name="weather")]),
        delta(tool_calls=[tool_piece(0, '"Ulm"}'), tool_piece(1, "", id="call_2", name="weather")]),
        delta(finish="tool_calls"),
        usage_chunk(20, 7),
    )
    engine = world(stream)
    async with served(engine) as url, client(url) as api:
        lines = [line async for line in await api.chat("tiny", HELLO, tools=[TOOL], stream=True)]
    assert "".join(line.message.content for line in lines) == "Looking."
    assert [line.message.thinking for line in lines if line.message.thinking] == ["hm"]
    calls = [call.function for line in lines for call in line.message.tool_calls or ()]
    assert [(call.name, call.arguments) for call in calls] == [("weather", {"town": "Ulm"}), ("weather", {})]
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    last = lines[-1]
    assert (last.done_reason, last.prompt_eval_count, last.eval_count) == ("stop", 20, 7)
    assert sent(engine.asked[0])["tools"][0]["function"]["name"] == "weather"


async def test_a_prompt_is_answered_through_the_models_chat_template() -> None:
    engine = world(sse(delta(content="blue"), delta(finish="length"), usage_chunk(3, 1)))
    async with served(engine) as url, client(url) as api:
        lines = [line async for line in await api.generate("tiny", "sky?", system="brief", stream=True)]
    assert "".join(line.response for line in lines) == "blue"
    assert lines[-1].done_reason == "length"
    assert engine.asked[0].path == "/v1/chat/completions"
    assert sent(engine.asked[0])["messages"] == [
        {"role": "system", "content": "brief"},
        {"role": "user", "content": "sky?"},
    ]


async def test_how_likely_a_token_was_is_told() -> None:
    likely = [
        {"token": "Hi", "logprob": -0.5, "bytes": [72], "top_logprobs": [{"token": "Ho", "logprob": -2.5}]}
    ]
    chunk = delta(content="Hi")
    chunk["choices"][0]["logprobs"] = {"content": likely, "refusal": None}
    async with served(world(sse(chunk, delta(finish="stop")))) as url, client(url) as api:
        lines = [
            line async for line in await api.chat("tiny", HELLO, logprobs=True, top_logprobs=1, stream=True)
        ]
    (first,) = lines[0].logprobs
    assert (first.token, first.logprob, first.top_logprobs[0].token) == ("Hi", -0.5, "Ho")
    assert lines[-1].logprobs is None
    async with (
        served(world(completion(content="Hi", more={"logprobs": {"content": likely}}))) as url,
        client(url) as api,
    ):
        answer = await api.chat("tiny", HELLO, logprobs=True)
    assert answer.logprobs[0].token == "Hi"


async def test_a_raw_prompt_is_completed_as_it_is() -> None:
    body = {"id": "cmpl-1", "choices": [{"index": 0, "text": "blue", "finish_reason": "stop"}]}
    engine = world(json.dumps(body).encode())
    async with served(engine) as url, client(url) as api:
        answer = await api.generate("tiny", "The sky is", raw=True)
    assert answer.response == "blue"
    assert engine.asked[0].path == "/v1/completions"
    assert sent(engine.asked[0]) == {"model": "tiny", "prompt": "The sky is"}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_empty_chat_loads_the_model(stream: bool) -> None:
    def never(asked: Translated) -> tuple[int, bytes]:
        raise AssertionError(f"the engine was asked {asked.path}")

    async with served(World(Ollama(), never)) as url, client(url) as api:
        found = await api.chat("tiny", [], stream=stream)
        last = [line async for line in found][-1] if stream else found
    assert (last.done, last.done_reason) == (True, "load")


async def test_texts_are_embedded() -> None:
    data = [{"index": 1, "embedding": [3.0, 4.0]}, {"index": 0, "embedding": [1.0, 2.0]}]
    engine = world(json.dumps({"data": data, "usage": {"prompt_tokens": 6}}).encode())
    async with served(engine) as url, client(url) as api:
        answer = await api.embed("tiny", ["a", "b"])
        older = await api.embeddings("tiny", "a")
    assert answer.embeddings == [[1.0, 2.0], [3.0, 4.0]]
    assert answer.prompt_eval_count == 6
    assert older.embedding == [1.0, 2.0]
    assert sent(engine.asked[0]) == {"model": "tiny", "input": ["a", "b"], "encoding_format": "float"}


async def test_an_engines_error_keeps_its_status() -> None:
    body = b'{"error":{"message":"the model is gone","type":"x","param":null,"code":null}}'
    async with served(world(body, 404)) as url, client(url) as api:
        with pytest.raises(ollama.ResponseError, match="the model is gone") as caught:
            await api.chat("tiny", HELLO, stream=False)
    assert caught.value.status_code == 404


async def test_an_error_in_a_stream_is_raised() -> None:
    stream = sse(delta(content="so"), {"error": {"message": "out of memory"}}, done=False)
    async with served(world(stream)) as url, client(url) as api:
        with pytest.raises(ollama.ResponseError, match="out of memory"):
            async for _ in await api.chat("tiny", HELLO, stream=True):
                pass


def test_what_is_served_is_listed_and_shown() -> None:
    service = ServiceRoute(
        namespace="default", name="tiny", uid="u-1", engine_model="x", created_at=1_800_000_000
    )
    listed = ollama.ListResponse.model_validate_json(catalogue.tags([("tiny", service), ("alias", service)]))
    assert [model.model for model in listed.models] == ["tiny", "alias"]
    shown = ollama.ShowResponse.model_validate_json(catalogue.show(service))
    assert shown.capabilities == ["completion"]
    assert json.loads(catalogue.version()) == {"version": catalogue.API_VERSION}


@pytest.mark.parametrize("body", [b'{"model":"tiny"}', b'{"name":"tiny","verbose":true}'])
def test_a_model_to_show_is_named_in_one_of_two_fields(body: bytes) -> None:
    assert catalogue.asked_for(body) == "tiny"


def test_a_model_to_show_has_to_be_named() -> None:
    with pytest.raises(InvalidInput, match="'model': found nothing"):
        catalogue.asked_for(b"{}")
