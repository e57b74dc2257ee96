"""The real engine over HTTP, as OpenAI's own client and others see it."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from engine_process import TINY, EngineProcess, wait_until

from penstock.engine.prefixes import BLOCK_TOKENS, block_hashes
from penstock.engine.text import Text
from plain_http import PATIENT

FRANCE: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
PARIS = "The capital of France is Paris."


@pytest.fixture(scope="module")
def client(engine: EngineProcess) -> Iterator[openai.OpenAI]:
    with httpx.Client(**PATIENT) as http:
        yield openai.OpenAI(base_url=f"{engine.url}/v1", api_key="none", http_client=http, max_retries=0)


def ask(engine: EngineProcess, **body: Any) -> httpx.Response:
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    base = {} if "prompt" in body else {"messages": FRANCE}
    return engine.client.post(path, json={"model": "tiny", "temperature": 0} | base | body)


def test_a_chat_is_answered(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=FRANCE, temperature=0)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", PARIS, "stop")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert (answer.object, answer.model) == ("chat.completion", "tiny")


def test_a_streamed_chat_is_the_same_answer_with_usage_at_its_end(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tiny", messages=FRANCE, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    *parts, last = chunks
    assert "".join(c.choices[0].delta.content or "" for c in parts) == PARIS
    assert parts[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in parts] == [None] * (len(parts) - 1) + ["stop"]
    assert len({c.id for c in chunks}) == 1
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 8
    assert all(c.usage is None for c in parts)


def test_a_completion_continues_text_and_may_echo_it(client: openai.OpenAI) -> None:
    prompt = "<|user|>\nWhat is the capital of France?\n<|assistant|>\n"
    answer = client.completions.create(model="tiny", prompt=prompt, temperature=0)
    assert answer.choices[0].text == PARIS
    echoed = client.completions.create(model="tiny", prompt=prompt, temperature=0, echo=True)
    assert echoed.choices[0].text == prompt + PARIS
    streamed = client.completions.create(model="tiny", prompt=prompt, temperature=0, stream=True)
    assert "".join(c.choices[0].text for c in streamed) == PARIS


def test_several_prompts_and_choices_are_numbered_in_order(client: openai.OpenAI) -> None:
    questions = ["What is the capital of France?", "What is the capital of Italy?"]
    prompts = [f"<|user|>\n{q}\n<|assistant|>\n" for q in questions]
    answer = client.completions.create(model="tiny", prompt=prompts, n=2, temperature=0)
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    assert [("France" in c.text, "Italy" in c.text) for c in answer.choices] == [(True, False)] * 2 + [
        (False, True)
    ] * 2
    streamed = client.completions.create(model="tiny", prompt=prompts, n=2, temperature=0, stream=True)
    texts: dict[int, str] = {}
    for chunk in streamed:
        texts[chunk.choices[0].index] = texts.get(chunk.choices[0].index, "") + chunk.choices[0].text
    assert texts == {c.index: c.text for c in answer.choices}


def test_an_answer_ends_before_a_stop_string_and_says_so(engine: EngineProcess) -> None:
    (choice,) = ask(engine, stop=[" is"]).json()["choices"]
    assert choice["message"]["content"] == "The capital of France"
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", " is")
    (choice,) = ask(engine).json()["choices"]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", None)


def test_an_answer_ends_at_its_most_tokens_and_says_so(engine: EngineProcess) -> None:
    answer = ask(engine, max_tokens=3, ignore_eos=True).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3


def texts(response: httpx.Response) -> list[str]:
    return [choice["message"]["content"] for choice in response.json()["choices"]]


def test_equal_seeds_give_equal_answers_also_in_a_crowd_and_no_seed_gives_others(
    engine: EngineProcess,
) -> None:
    wish = {"temperature": 2, "max_tokens": 12, "seed": 7}
    alone = texts(ask(engine, **wish))

    async def crowd() -> list[str]:
        async with httpx.AsyncClient(base_url=engine.url, **PATIENT) as http:
            bodies = [
                {"model": "tiny", "messages": FRANCE, **wish, "seed": 7 if i == 3 else 50 + i}
                for i in range(8)
            ]
            answers = await asyncio.gather(*(http.post("/v1/chat/completions", json=b) for b in bodies))
            return texts(answers[3])

    assert texts(ask(engine, **wish)) == alone
    assert asyncio.run(crowd()) == alone
    assert len(set(texts(ask(engine, **wish, n=4)))) > 1, "choices of one request differ"
    wish.pop("seed")
    assert len({text for _ in range(3) for text in texts(ask(engine, **wish))}) > 1


BOUNDS = {
    "temperature": (0, 2),
    "top_p": (1e-6, 1),
    "top_k": (-1, 1, 2**63),
    "min_p": (0, 1),
    "seed": (0, 2**63 - 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (1e-3, 10),
    "n": (1, 16),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in BOUNDS for value in BOUNDS[field]])
def test_the_bounds_themselves_are_allowed(engine: EngineProcess, field: str, value: float) -> None:
    answer = ask(engine, **{"temperature": 1, "max_tokens": 2, field: value})
    assert answer.status_code == 200, answer.text


def test_a_token_as_probable_as_the_most_probable_is_the_most_probable(engine: EngineProcess) -> None:
    answer = ask(engine, temperature=2, min_p=1)
    assert answer.json()["choices"][0]["message"]["content"] == PARIS


def test_logprobs_are_of_the_chosen_tokens(engine: EngineProcess) -> None:
    content = ask(engine, logprobs=True).json()["choices"][0]["logprobs"]["content"]
    assert "".join(row["token"] for row in content).startswith(PARIS)
    assert all(row["logprob"] <= 0 and bytes(row["bytes"]).decode() == row["token"] for row in content)
    prompt = "<|user|>\nWhat is the capital of France?\n<|assistant|>\n"
    (choice,) = ask(engine, prompt=prompt, logprobs=1).json()["choices"]
    found = choice["logprobs"]
    assert len(found["tokens"]) == len(found["token_logprobs"]) == len(found["text_offset"])
    for token, at in zip(found["tokens"][:-1], found["text_offset"], strict=False):
        assert choice["text"][at : at + len(token)] == token
    (echoed,) = ask(engine, prompt=prompt, logprobs=1, echo=True).json()["choices"]
    assert echoed["logprobs"]["text_offset"] == [len(prompt) + at for at in found["text_offset"]]


def test_cached_tokens_are_those_of_the_blocks_that_came_before(engine: EngineProcess) -> None:
    text = Text(TINY)
    seen: set[int] = set()
    before = engine.metric("prefix_cache_hits_total")
    told = 0
    for turn in ("one", "two", "two", "three"):
        prompt = text.encode("cached tokens are counted " * 30 + turn)
        usage = ask(engine, prompt=prompt, max_tokens=1).json()["usage"]
        hashes = block_hashes(prompt)
        found = next((i for i, h in enumerate(hashes) if h not in seen), len(hashes))
        assert usage["prompt_tokens_details"]["cached_tokens"] == min(found * BLOCK_TOKENS, len(prompt) - 1)
        told += usage["prompt_tokens_details"]["cached_tokens"]
        seen |= set(hashes)
    assert told > 300
    assert engine.metric("prefix_cache_hits_total") - before == told


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "gpt-4"}, 404, "model_not_found"),
        ({"messages": []}, 400, "invalid_value"),
        ({"temperature": 9}, 400, "invalid_value"),
        ({"max_tokens": 2049}, 400, "context_length_exceeded"),
        ({"prompt": [5] * 2048}, 400, "context_length_exceeded"),
        ({"prompt": "hello world " * 100_000}, 400, "context_length_exceeded"),
        ({"prompt": [5000]}, 400, "invalid_value"),
        ({"top_logprobs": 5, "logprobs": True}, 400, "unsupported_parameter"),
    ],
)
def test_what_cannot_be_done_is_refused_in_openais_shape(
    engine: EngineProcess, body: dict[str, Any], status: int, code: str
) -> None:
    answer = ask(engine, **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


def test_openais_client_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="this engine serves 'tiny'"):
        client.chat.completions.create(model="gpt-4", messages=FRANCE)
    with pytest.raises(openai.BadRequestError, match="maximum context length is 2048"):
        client.completions.create(model="tiny", prompt=[5] * 3000)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"x"'])
def test_a_body_that_is_no_json_object_is_refused(engine: EngineProcess, body: bytes) -> None:
    answer = engine.client.post("/v1/chat/completions", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def raw(engine: EngineProcess, *parts: bytes) -> bytes:
    """Bytes as they are, and all that comes back until the engine closes."""
    with socket.create_connection(("127.0.0.1", engine.port), 30) as connection:
        found = []
        with contextlib.suppress(
            ConnectionError
        ):  # it may have refused and gone before it was told everything
            for part in parts:
                connection.sendall(part)
        with contextlib.suppress(ConnectionError):
            found += iter(lambda: connection.recv(65536), b"")
        return b"".join(found)


@pytest.mark.parametrize("field", ["temperature", "tools", "stop", "response_format"])
def test_a_body_that_is_nested_too_deeply_is_refused(engine: EngineProcess, field: str) -> None:
    deep = "[" * 1000 + "]" * 1000
    value = {
        "tools": '[{"type": "function", "function": {"name": "x", "parameters": %s}}]',
        "response_format": '{"type": "json_schema", "json_schema": {"schema": {"x": %s}}}',
    }.get(field, "%s") % deep
    fields = {"model": '"tiny"', "messages": '[{"role": "user", "content": "x"}]', field: value}
    body = "{" + ", ".join(f'"{name}": {one}' for name, one in fields.items()) + "}"
    answer = engine.client.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] in ("too_deep", "invalid_messages")


def test_a_body_that_is_too_large_is_refused_by_its_announced_length(engine: EngineProcess) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (65 << 20)
    answer = raw(engine, head, b" " * (1 << 20))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_large"


def test_what_is_no_http_is_refused_and_the_connection_closed(engine: EngineProcess) -> None:
    answer = raw(engine, b"hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"


def test_whoever_asks_before_sending_is_told_to_go_on(engine: EngineProcess) -> None:
    head = b"POST /tokenize HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: 15\r\n\r\n"
    answer = raw(engine, head, b'{"prompt":"Hi"}')
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_requests_on_one_connection_are_answered_in_order(engine: EngineProcess) -> None:
    get = b"GET %b HTTP/1.1\r\nhost: x\r\nx-request-id: %b\r\n%b\r\n"
    answer = raw(
        engine,
        get % (b"/health", b"first", b"")
        + get % (b"/nothing", b"second", b"")
        + get % (b"/v1/models", b"third", b"connection: close\r\n"),
    )
    order = [answer.index(b"x-request-id: " + word) for word in (b"first", b"second", b"third")]
    assert order == sorted(order)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.count(b"HTTP/1.1 404") == 1


def test_the_model_is_listed_and_found_by_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


@pytest.mark.parametrize(
    "path", ["/health", "/healthz", "/health/ready", "/v2/health/live", "/v2/health/ready"]
)
def test_health_is_told_as_every_prober_asks(engine: EngineProcess, path: str) -> None:
    assert engine.client.get(path).status_code == engine.client.head(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/models/tiny:predict", "/v2/models/tiny/infer", "/v1/embeddings", "/nothing"]
)
def test_protocols_that_a_language_model_does_not_speak_are_refused(engine: EngineProcess, path: str) -> None:
    answer = engine.client.post(path, json={"instances": [1]})
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["code"] in ("unknown_path", "unsupported_operation")


def test_the_same_paths_are_served_under_openai(engine: EngineProcess) -> None:
    answer = engine.client.post(
        "/openai/v1/chat/completions", json={"model": "tiny", "messages": FRANCE, "temperature": 0}
    )
    assert texts(answer) == [PARIS]


def test_many_requests_at_once_are_all_answered_and_counted(engine: EngineProcess) -> None:
    finished = engine.metric("request_success_total")

    async def flood() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=engine.url, limits=limits, **PATIENT) as http:
            bodies = [
                {
                    "model": "tiny",
                    "temperature": 0,
                    "ignore_eos": True,
                    "max_tokens": 16 + i % 5,
                    "messages": FRANCE,
                }
                for i in range(32)
            ]
            return await asyncio.gather(*(http.post("/v1/chat/completions", json=b) for b in bodies))

    answers = asyncio.run(flood())
    assert [a.status_code for a in answers] == [200] * 32
    assert [a.json()["usage"]["completion_tokens"] for a in answers] == [16 + i % 5 for i in range(32)]
    assert all(text.startswith(PARIS) for a in answers for text in texts(a))
    assert engine.metric("request_success_total") - finished == 32
    wait_until(lambda: engine.metric("num_requests_running") == 0)


def test_whoever_goes_away_ends_the_generation(engine: EngineProcess) -> None:
    """What it asked for, the engine has for the better part of a minute to do."""

    def aborted() -> float:
        return engine.metric("request_success_total", finished_reason="abort")

    before, prompts = aborted(), [f"Story number {number}." for number in range(8)]
    body = {
        "model": "tiny",
        "prompt": prompts,
        "n": 16,
        "max_tokens": 1900,
        "ignore_eos": True,
        "stream": True,
    }
    with engine.client.stream("POST", "/v1/completions", json=body) as answer:
        lines = answer.iter_lines()  # kept: its end would close the connection
        assert next(lines).startswith("data: ")
        wait_until(lambda: engine.metric("num_requests_running") > 0)
    wait_until(lambda: engine.metric("num_requests_running") == 0)
    wait_until(lambda: engine.metric("kv_cache_usage_perc") == 0)
    assert aborted() > before


def test_metrics_count_what_was_asked_and_answered(engine: EngineProcess) -> None:
    names = ("prompt_tokens_total", "generation_tokens_total", "time_to_first_token_seconds_count")
    before = [engine.metric(name) for name in names]
    usage = ask(engine).json()["usage"]
    after = [engine.metric(name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [
        usage["prompt_tokens"],
        usage["completion_tokens"],
        1,
    ]


def test_the_tokens_of_a_prompt_are_counted_as_they_are_billed(engine: EngineProcess) -> None:
    for asked in ({"messages": FRANCE}, {"prompt": "The capital of France"}):
        billed = ask(engine, **asked, max_tokens=1).json()["usage"]["prompt_tokens"]
        counted = engine.client.post("/tokenize", json={"model": "tiny"} | asked).json()
        assert (counted["count"], len(counted["tokens"])) == (billed, billed)
    refused = engine.client.post("/tokenize", json={"prompt": [1]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")
