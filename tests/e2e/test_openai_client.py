"""The official client, as against OpenAI."""

from __future__ import annotations

import asyncio
import json
import re

import openai
import pytest
from platform_process import Platform, until

from plain_http import PATIENT

pytestmark = pytest.mark.timeout(180)
MESSAGES = [{"role": "user", "content": "What is Penstock?"}]


@pytest.fixture
def client(platform: Platform) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{platform.url}/v1", api_key="any", max_retries=0)


def test_a_chat_is_answered_in_a_sentence_with_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="quickstart", messages=MESSAGES)
    assert answer.choices[0].message.content.startswith("Penstock serves AI models")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "quickstart"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_streamed_chat_says_the_same_token_by_token(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="quickstart", messages=MESSAGES, temperature=0)
    stream = client.chat.completions.create(
        model="quickstart",
        messages=MESSAGES,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert "".join(texts) == whole.choices[0].message.content
    assert len(texts) > 5
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


async def test_the_asynchronous_client_asks_many_at_once_and_streams(platform: Platform) -> None:
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key="any", max_retries=0) as client:
        asked = {"model": "quickstart", "messages": MESSAGES, "temperature": 0}
        answers = await asyncio.gather(*(client.chat.completions.create(**asked) for _ in range(4)))
        stream = await client.chat.completions.create(**asked, stream=True)
        streamed = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
    assert {answer.choices[0].message.content for answer in answers} == {streamed}


def test_a_model_that_calls_no_tool_answers_in_words(client: openai.OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "turn", "parameters": {"type": "object"}}}
    asked = {"model": "quickstart", "messages": MESSAGES, "tools": [tool]}
    whole = client.chat.completions.create(**asked).choices[0]
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0]
    for choice in (whole, streamed):
        assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
        assert choice.message.content


def test_completions_and_models_answer(client: openai.OpenAI) -> None:
    assert client.completions.create(model="quickstart", prompt="Penstock is", max_tokens=8).choices[0].text
    assert "quickstart" in [model.id for model in client.models.list()]
    assert client.models.retrieve("quickstart").id == "quickstart"


def test_the_kserve_path_of_openai_answers_too(platform: Platform) -> None:
    client = openai.OpenAI(base_url=f"{platform.url}/openai/v1", api_key="any")
    assert client.chat.completions.create(model="default/quickstart", messages=MESSAGES).choices


def test_an_answer_follows_a_schema(client: openai.OpenAI) -> None:
    schema = {"enum": ["a turbine", "a valve"]}
    form = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}}
    answer = client.chat.completions.create(
        model="quickstart", messages=MESSAGES, response_format=form, max_tokens=60
    )
    assert json.loads(answer.choices[0].message.content) in schema["enum"]


def test_a_schema_that_is_none_fails_its_own_request_only(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    for _ in range(20):
        with pytest.raises(openai.BadRequestError, match="response_format") as caught:
            client.chat.completions.create(model="quickstart", messages=MESSAGES, response_format=form)
        assert caught.value.code == "bad_schema"
    assert client.chat.completions.create(model="quickstart", messages=MESSAGES).choices


def test_embeddings_are_refused_with_what_to_do(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="makes no embeddings; serve an embedding model"):
        client.embeddings.create(model="quickstart", input="x")


def test_an_unknown_model_is_not_found_and_the_nearest_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean 'quickstart'") as caught:
        client.chat.completions.create(model="quickstrat", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    assert caught.value.response.headers["x-request-id"]


def test_a_wrong_parameter_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        client.chat.completions.create(model="quickstart", messages=MESSAGES, max_tokens=-1)


def test_a_cancelled_stream_ends_in_the_engine(platform: Platform, client: openai.OpenAI) -> None:
    pod = platform.objects("pods", "serving.kserve.io/inferenceservice=quickstart")[0]
    engine = openai.OpenAI(base_url=f"http://{pod['status']['podIP']}:8080", api_key="any")

    def metric(series: str) -> float:
        text = engine.get("/metrics", cast_to=str)
        return sum(float(value) for value in re.findall(rf"^vllm:{series} (\S+)$", text, re.M))

    broken_off = 'request_success_total{.*finished_reason="abort".*}'
    before = metric(broken_off)
    stream = client.completions.create(
        model="quickstart",
        prompt=[f"Story number {number}." for number in range(8)],
        n=16,
        stream=True,
        max_tokens=1900,
        extra_body={"ignore_eos": True},
    )  # of which the engine has for the better part of a minute to do
    next(iter(stream))
    stream.close()
    until("nothing runs in the engine", lambda: metric("num_requests_running{.*}") == 0, within_s=30)
    assert metric(broken_off) > before


def test_bodies_that_are_no_json_or_too_big_are_refused_in_openais_shape(platform: Platform) -> None:
    import httpx

    url = f"{platform.url}/v1/chat/completions"
    headers = {"content-type": "application/json"}
    broken = httpx.post(url, content=b"{nonsense", headers=headers, **PATIENT)
    assert (broken.status_code, broken.json()["error"]["type"]) == (400, "invalid_request_error")
    big = httpx.post(url, content=b"[" + b" " * (64 << 20) + b"]", headers=headers, **PATIENT)
    assert big.status_code == 413, big.text
    assert big.headers["x-request-id"]
