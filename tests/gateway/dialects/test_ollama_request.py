"""Ollama's requests in OpenAI's words, and what is told of those that have none."""

import json

import pytest
from dialect_world import sent

from penstock.gateway.dialects.dialect import Translated
from penstock.gateway.dialects.ollama.dialect import Ollama
from penstock.kit.errors import InvalidInput

HELLO = {"role": "user", "content": "hello"}
DIALECT = Ollama()


def asked(path: str, **fields: object) -> Translated:
    return DIALECT.request(path, json.dumps({"model": "tiny"} | fields).encode())


def chat(**fields: object) -> dict:
    return sent(asked("/api/chat", **({"messages": [HELLO], "stream": False} | fields)))


def calls(*names: str, **more: str) -> dict:
    made = [{"function": {"name": name, "arguments": {"n": 1}}} | more for name in names]
    return {"role": "assistant", "content": "", "tool_calls": made}


STREAM = {"stream": True, "stream_options": {"include_usage": True}}
FIELDS = {
    "a stream, unless it is refused": ({"stream": None}, STREAM),
    "a stream that is asked for": ({"stream": True}, STREAM),
    "sampling": (
        {"options": {"temperature": 0, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "seed": 7}},
        {"temperature": 0, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "seed": 7},
    ),
    "penalties": (
        {"options": {"repeat_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": 0.5}},
        {"repetition_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": 0.5},
    ),
    "a limit": ({"options": {"num_predict": 5, "stop": ["a"]}}, {"max_tokens": 5, "stop": ["a"]}),
    "no limit": ({"options": {"num_predict": -1, "top_k": 0, "stop": []}}, {}),
    "how to load a model": (
        {"options": {"num_ctx": 4096, "num_gpu": 1, "mirostat": 2}, "keep_alive": "5m"},
        {},
    ),
    "json": ({"format": "json"}, {"response_format": {"type": "json_object"}}),
    "no form": ({"format": ""}, {}),
    "a schema": (
        {"format": {"type": "object"}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
            }
        },
    ),
    "how likely": ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
    "not how likely": ({"logprobs": False, "top_logprobs": 2}, {}),
    "thinking": ({"think": True}, {"chat_template_kwargs": {"enable_thinking": True}}),
    "much thinking": (
        {"think": "high"},
        {"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": True}},
    ),
}


@pytest.mark.parametrize(("given", "expected"), FIELDS.values(), ids=FIELDS.keys())
def test_fields(given: dict, expected: dict) -> None:
    assert chat(**given) == {"model": "tiny", "messages": [HELLO], **expected}


def test_the_limit_is_known_to_the_gateway() -> None:
    found = asked("/api/chat", messages=[HELLO], options={"num_predict": 5})
    assert (found.max_tokens, found.streams, found.model) == (5, True, "tiny")


def test_results_of_tools_find_their_calls() -> None:
    turns = [
        HELLO,
        calls("f", "g"),
        {"role": "tool", "tool_name": "g", "content": "2"},
        {"role": "tool", "content": "1"},
        calls("f"),
        {"role": "tool", "tool_name": "f", "content": "3"},
        calls("f", id="own"),
        {"role": "tool", "tool_call_id": "own", "content": "4"},
    ]
    found = chat(messages=turns)["messages"]
    assert [call["id"] for turn in found for call in turn.get("tool_calls", ())] == [
        "call_0",
        "call_1",
        "call_2",
        "own",
    ]
    assert [turn["tool_call_id"] for turn in found if turn["role"] == "tool"] == [
        "call_1",
        "call_0",
        "call_2",
        "own",
    ]
    assert found[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"n": 1}'}


@pytest.mark.parametrize(
    ("image", "kind"), [("iVBORw0", "png"), ("/9j/4AA", "jpeg"), ("R0lGODlh", "gif"), ("UklGRiQ", "webp")]
)
def test_the_kind_of_an_image_is_read_off_it(image: str, kind: str) -> None:
    (turn,) = chat(messages=[HELLO | {"images": [image]}])["messages"]
    assert turn["content"] == [
        {"type": "text", "text": "hello"},
        {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{image}"}},
    ]


def test_the_middle_is_filled_in() -> None:
    found = asked("/api/generate", prompt="def f(", suffix="return 1", stream=False)
    assert found.path == "/v1/completions"
    assert sent(found) == {"model": "tiny", "prompt": "def f(", "suffix": "return 1"}


REFUSED = {
    "an image of no kind": (
        "/api/chat",
        {"messages": [HELLO | {"images": ["iVBORw0", "xx"]}]},
        "'messages[0].images[1]': found something else, expected a PNG",
    ),
    "an unknown role": ("/api/chat", {"messages": [{"role": "usr"}]}, "'messages[0].role': found 'usr'"),
    "a result without its call": (
        "/api/chat",
        {"messages": [HELLO, {"role": "tool", "content": "1"}]},
        "'messages[1].tool_call_id': found nothing",
    ),
    "an unknown form": ("/api/chat", {"messages": [HELLO], "format": "yaml"}, "'format': found 'yaml'"),
    "a number for a form": ("/api/chat", {"messages": [HELLO], "format": 3}, "'format': found '3'"),
    "an unknown effort": (
        "/api/chat",
        {"messages": [HELLO], "think": "huge"},
        "expected one of low, medium, high",
    ),
    "an option of the wrong kind": (
        "/api/chat",
        {"messages": [HELLO], "options": {"seed": "x"}},
        "'options.seed': found str, expected int | null",
    ),
    "to unload": (
        "/api/generate",
        {"keep_alive": 0},
        "'keep_alive': found 0 without a prompt, which unloads",
    ),
    "a template": ("/api/generate", {"prompt": "a", "template": "{{ x }}"}, "'template': found a template"),
    "a context": ("/api/generate", {"prompt": "a", "context": [1]}, "'context': found token ids"),
    "images beside raw": (
        "/api/generate",
        {"prompt": "a", "raw": True, "images": ["x"]},
        "'images': found images",
    ),
    "logprobs beside raw": (
        "/api/generate",
        {"prompt": "a", "raw": True, "logprobs": True},
        "'logprobs': found true",
    ),
    "nothing to embed": ("/api/embed", {}, "'input': found nothing"),
    "nothing to embed, older": ("/api/embeddings", {"input": "a"}, "'prompt': found nothing"),
    "no model": ("/api/chat", {"model": "", "messages": [HELLO]}, "'model': found nothing"),
}


@pytest.mark.parametrize(("path", "given", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_is_told_with_its_path(path: str, given: dict, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        asked(path, **given)
    assert expected in caught.value.message
