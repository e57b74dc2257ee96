"""Clients that were made for other servers: Anthropic's, Ollama's, LangChain's and curl, as people use them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import ollama
import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from platform_process import Platform

from plain_http import PLAIN

pytestmark = pytest.mark.timeout(180)
CURL = shutil.which("curl")
QUESTION = "What is Penstock?"
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
ANSWER = "Penstock serves AI models"


@pytest.fixture
def claude(platform: Platform) -> Iterator[anthropic.Anthropic]:
    http = anthropic.DefaultHttpxClient(**PLAIN)
    with anthropic.Anthropic(base_url=platform.url, api_key="any", max_retries=0, http_client=http) as client:
        yield client


def test_anthropics_client_gets_the_same_whole_streamed_and_counted(claude: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {"model": "quickstart", "max_tokens": 60, "messages": MESSAGES}
    whole = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        texts = list(stream.text_stream)
        streamed = stream.get_final_message()
    counted = claude.messages.count_tokens(model="quickstart", messages=MESSAGES)
    assert whole.content[0].text.startswith(ANSWER)
    assert len(texts) > 5
    assert "".join(texts).startswith(ANSWER)
    assert whole.usage.input_tokens == streamed.usage.input_tokens == counted.input_tokens


def test_anthropics_client_raises_its_own_errors_with_the_requests_id(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="did you mean 'quickstart'") as caught:
        claude.messages.create(model="quickstrat", max_tokens=5, messages=MESSAGES)
    assert caught.value.request_id


def test_ollamas_client_lists_and_chats(platform: Platform) -> None:
    with ollama.Client(host=platform.url, **PLAIN) as client:
        assert "quickstart" in [model.model for model in client.list().models]
        assert client.chat("quickstart:latest", MESSAGES).message.content.startswith(ANSWER)
        assert "completion" in client.show("quickstart").capabilities
        lines = list(client.chat("quickstart", MESSAGES, stream=True))
        assert client.generate("quickstart", QUESTION).response.startswith(ANSWER)
        with pytest.raises(ollama.ResponseError, match="did you mean 'quickstart'"):
            client.chat("quickstrat", MESSAGES)
    assert "".join(line.message.content for line in lines).startswith(ANSWER)
    assert lines[-1].done_reason == "stop"


async def test_langchain_invokes_streams_and_batches(platform: Platform) -> None:
    async with httpx.AsyncClient(**PLAIN) as http:
        with httpx.Client(**PLAIN) as blocking:
            chat = ChatOpenAI(
                model="quickstart",
                base_url=f"{platform.url}/v1",
                api_key="any",
                stream_usage=True,
                http_client=blocking,
                http_async_client=http,
            )
            whole = chat.invoke([HumanMessage(QUESTION)])
            chunks = [chunk async for chunk in chat.astream(QUESTION)]
            both = await chat.abatch([QUESTION, QUESTION])
    assert str(whole.content).startswith(ANSWER)
    assert "".join(str(chunk.content) for chunk in chunks).startswith(ANSWER)
    usage = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert usage[0]["output_tokens"] > 5
    assert whole.usage_metadata["input_tokens"] == usage[0]["input_tokens"]
    assert all(str(answer.content).startswith(ANSWER) for answer in both)


def curl(*arguments: str) -> str:
    if CURL is None:
        pytest.skip("curl is not installed")
    command = [CURL, "--silent", "--show-error", "--noproxy", "*", "--max-time", "40", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=True).stdout


@pytest.mark.parametrize("offer", [(), ("--http2",), ("-H", "Expect: 100-continue")])
def test_curl_asks_whatever_else_it_offers(platform: Platform, offer: tuple[str, ...]) -> None:
    """An upgrade to HTTP/2 is an offer (RFC 9110 7.8): the gateway goes on in HTTP/1.1."""
    body = json.dumps({"model": "quickstart", "messages": MESSAGES})
    url = f"{platform.url}/v1/chat/completions"
    told = curl(url, "--json", body, "--write-out", "\n%{http_code} %{http_version}", *offer)
    answer, _, last = told.rpartition("\n")
    assert last == "200 1.1"
    assert json.loads(answer)["choices"][0]["message"]["content"].startswith(ANSWER)


def test_curl_streams(platform: Platform) -> None:
    body = json.dumps({"model": "quickstart", "messages": MESSAGES, "stream": True})
    events = curl("-N", f"{platform.url}/v1/chat/completions", "--json", body).split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]).startswith(
        ANSWER
    )
