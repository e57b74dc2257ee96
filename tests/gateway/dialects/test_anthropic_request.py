"""Anthropic's requests in OpenAI's words, and what is told of those that have none."""

import json

import pytest
from dialect_world import PATHS, of, sent
from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.dialects.anthropic.dialect import Anthropic
from penstock.kit.errors import InvalidInput, NotFound

HELLO = {"role": "user", "content": "hello"}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBOR"}}
LINK = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"n": 12345678901234567890123, "a": "é"}}
CALL = {
    "id": "t1",
    "type": "function",
    "function": {"name": "f", "arguments": '{"n": 12345678901234567890123, "a": "\\u00e9"}'},
}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def translated(**fields: object) -> dict:
    body = {"model": "tiny", "max_tokens": 5, "messages": [HELLO]} | fields
    return sent(Anthropic().request("/v1/messages", json.dumps(body).encode()))


def refused(**fields: object) -> str:
    with pytest.raises(InvalidInput) as caught:
        translated(**fields)
    return f"{caught.value.message} ({caught.value.hint})"


MESSAGES = {
    "text is joined": (
        [{"role": "user", "content": [text("a"), text("b")]}],
        [{"role": "user", "content": "a\nb"}],
    ),
    "images are linked or put into the link": (
        [{"role": "user", "content": [text("what?"), PNG, LINK]}],
        [
            {
                "role": "user",
                "content": [
                    text("what?"),
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBOR"}},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                ],
            }
        ],
    ),
    "thoughts are dropped": (
        [
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, text("a"), USE],
            },
            HELLO,
        ],
        [{"role": "assistant", "content": "a", "tool_calls": [CALL]}, HELLO],
    ),
    "results stand before the words beside them": (
        [
            {
                "role": "user",
                "content": [text("and?"), {"type": "tool_result", "tool_use_id": "t1", "content": "4"}],
            }
        ],
        [{"role": "tool", "tool_call_id": "t1", "content": "4"}, {"role": "user", "content": "and?"}],
    ),
    "images of a result follow it": (
        [
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [text("see"), LINK]}],
            }
        ],
        [
            {"role": "tool", "tool_call_id": "t1", "content": "see"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
        ],
    ),
    "a tool that failed says so": (
        [
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "no", "is_error": True}],
            }
        ],
        [{"role": "tool", "tool_call_id": "t1", "content": "Error: no"}],
    ),
    "a result may be empty": (
        [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1"}]}],
        [{"role": "tool", "tool_call_id": "t1", "content": ""}],
    ),
    "a document of text is text": (
        [
            {
                "role": "user",
                "content": [
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}
                ],
            }
        ],
        [{"role": "user", "content": "d"}],
    ),
    "the system may speak in between": (
        [HELLO, {"role": "system", "content": [text("now")]}, HELLO],
        [HELLO, {"role": "system", "content": "now"}, HELLO],
    ),
}


@pytest.mark.parametrize(("given", "expected"), MESSAGES.values(), ids=MESSAGES.keys())
def test_messages(given: list, expected: list) -> None:
    assert translated(messages=given)["messages"] == expected


FIELDS = {
    "sampling": ({"temperature": 0.5, "top_p": 0.9, "top_k": 4}, {"temperature": 0.5, "top_p": 0.9, "top_k": 4}),
    "stop": ({"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}),
    "no stop": ({"stop_sequences": []}, {}),
    "user": ({"metadata": {"user_id": "u"}}, {"user": "u"}),
    "stream": ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
    "thinking": ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"chat_template_kwargs": {"enable_thinking": True}}),
    "no thinking": ({"thinking": {"type": "disabled"}}, {"chat_template_kwargs": {"enable_thinking": False}}),
    "auto": ({"tool_choice": {"type": "auto"}}, {"tool_choice": "auto"}),
    "any": ({"tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
    "none": ({"tool_choice": {"type": "none"}}, {"tool_choice": "none"}),
    "one": (
        {"tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True}},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": False},
    ),
    "tools": (
        {"tools": [{"name": "f", "type": "custom", "description": "d", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]},
    ),
    "a schema": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}}},
    ),
    "what nobody knows": ({"service_tier": "auto", "container": None, "later": {}}, {}),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), FIELDS.values(), ids=FIELDS.keys())
def test_fields(given: dict, expected: dict) -> None:
    assert translated(**given) == {"model": "tiny", "max_tokens": 5, "messages": [HELLO], **expected}


def test_a_system_prompt_of_blocks_comes_first() -> None:
    assert translated(system=[text("a"), text("b")])["messages"][0] == {"role": "system", "content": "a\nb"}


def test_an_answer_that_has_begun_is_continued() -> None:
    body = translated(messages=[HELLO, {"role": "assistant", "content": "The best is ("}])
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)


REFUSED = {
    "no limit": ({"max_tokens": None}, "'max_tokens': found null, expected int"),
    "a limit of nothing": ({"max_tokens": 0}, "'max_tokens': found 0, expected an integer of at least 1"),
    "no messages": ({"messages": []}, "'messages': found nothing, expected at least one message"),
    "no model": ({"model": ""}, "'model': found nothing, expected the name of a model"),
    "content of the wrong kind": (
        {"messages": [HELLO, {"role": "user", "content": 3}]},
        "'messages[1].content': found int, expected str | array",
    ),
    "an unknown role": (
        {"messages": [{"role": "asistant", "content": ""}]},
        "'messages[0].role': found 'asistant', expected one of user, assistant, system (did you mean 'assistant'?)",
    ),
    "an unknown block": (
        {"messages": [{"role": "user", "content": [text("a"), {"type": "imagee"}]}]},
        "'messages[0].content[1].type': found 'imagee', expected one of text, image, document, tool_result",
    ),
    "an unknown choice": (
        {"tool_choice": {"type": "required"}},
        "'tool_choice.type': found 'required', expected one of auto, any, none, tool",
    ),
    "a choice of no tool": ({"tool_choice": {"type": "tool"}}, "'tool_choice.name': found nothing"),
    "a tool of the server's": (
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "'tools[0].type': found 'web_search_20250305', expected custom",
    ),
    "a tool without a schema": ({"tools": [{"name": "f"}]}, "'tools[0].input_schema': found nothing"),
    "a file": (
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]},
        "'messages[0].content[0].source.type': found 'file', expected one of base64, url",
    ),
    "a result of nothing": (
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]},
        "'messages[0].content[0].tool_use_id': found nothing",
    ),
    "a block that an assistant cannot say": (
        {"messages": [{"role": "assistant", "content": [PNG]}]},
        "'messages[0].content[0].type': found 'image', expected one of text, tool_use",
    ),
    "a use without an id": (
        {"messages": [{"role": "assistant", "content": [USE | {"id": ""}]}]},
        "'messages[0].content[0].id': found nothing",
    ),
    "a use without a name": (
        {"messages": [{"role": "assistant", "content": [USE | {"name": ""}]}]},
        "'messages[0].content[0].name': found nothing",
    ),
    "text without text": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "'messages[0].content[0].text': found nothing",
    ),
    "an image that is nowhere": (
        {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
        "'messages[0].content[0].source': found nothing, expected where the image is",
    ),
    "an image without its kind": (
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "x"}}]}]},
        "'messages[0].content[0].source': found nothing, expected media_type and data",
    ),
    "a document that is nowhere": (
        {"messages": [{"role": "user", "content": [{"type": "document"}]}]},
        "'messages[0].content[0].source': found nothing, expected the document",
    ),
    "a document that is a file": (
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}]},
        "'messages[0].content[0].source.type': found 'base64', expected text",
    ),
    "an unknown way to think": (
        {"thinking": {"type": "enable"}},
        "'thinking.type': found 'enable', expected one of enabled, adaptive, disabled (did you mean 'enabled'?)",
    ),
    "an image in the system prompt": ({"system": [PNG]}, "'system[0].type': found 'image', expected one of text"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_is_told_with_its_path(given: dict, expected: str) -> None:
    assert expected in refused(**given)


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidInput, match="'max_tokens': found nothing"):
        Anthropic().request("/v1/messages", b'{"model":"tiny","messages":[]}')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
NAMES = (
    "type", "role", "content", "text", "source", "id", "name", "input", "tool_use_id", "messages", "system", "tools",
    "tool_choice", "images", "tool_calls", "function", "options", "format", "think", "prompt", "keep_alive", "stop",
)  # fmt: skip
names = st.sampled_from(NAMES)
shaped = st.recursive(
    json_values | st.sampled_from(["user", "text", "image", "tool_use", "tool_result", "tool", "assistant"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
)


@given(st.sampled_from(PATHS), st.dictionaries(names, shaped, max_size=6) | shaped, st.booleans())
def test_any_body_is_translated_or_refused(path: str, body: object, complete: bool) -> None:
    if complete and isinstance(body, dict):
        body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [body]}], **body}
    try:
        found = of(path).request(path, json.dumps(body).encode())
    except InvalidInput as error:
        assert error.message
    else:
        assert sent(found)["model"] == found.model


@given(st.sampled_from(PATHS), st.binary(max_size=40))
def test_any_bytes_are_refused(path: str, body: bytes) -> None:
    with pytest.raises(InvalidInput):
        of(path).request(path, body)


def test_a_body_that_is_nested_without_end_is_refused() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(InvalidInput, match="nested too deeply"):
        Anthropic().request("/v1/messages", b'{"model":"m","later":' + deep + b"}")


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/api/pull", "/api/generate/", "/v1/messages/"])
def test_the_rest_of_a_protocol_is_not_offered(path: str) -> None:
    with pytest.raises(NotFound, match=f"{path} of .+ API is not offered here"):
        of(path).request(path, b'{"model":"m","max_tokens":1,"messages":[],"prompt":"a","input":"a"}')
