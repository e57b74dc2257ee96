"""Answers that cannot be read, errors, and whose words they are told in."""

import json
from contextlib import suppress

import pytest
from dialect_world import INFO, PATHS, completion, of
from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.dialects.dialect import Translated
from penstock.kit.errors import InvalidInput, NotFound


def test_the_gateways_own_refusals_are_told_in_the_callers_shape() -> None:
    error = NotFound("the model 'x' does not exist", code="model_not_found", hint="did you mean 'y'?")
    both = "the model 'x' does not exist; did you mean 'y'?"
    assert json.loads(of("/v1/messages").error_body(error, "r")) == {
        "type": "error",
        "error": {"type": "not_found_error", "message": both},
        "request_id": "r",
    }
    assert json.loads(of("/api/chat").error_body(error, "r")) == {"error": both}


CALL = [{"id": "c", "function": {"name": "f", "arguments": '{"a":'}}]


@pytest.mark.parametrize("path", ["/v1/messages", "/api/chat", "/api/embed", "/v1/messages/count_tokens"])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"choices":[]}', b'{"choices":7}'])
def test_an_answer_that_cannot_be_read_is_a_502(path: str, body: bytes) -> None:
    status, told = of(path).whole(200, body, Translated(asked=path, path="/x", model="m", body=b""), INFO)
    assert status == 502
    assert b"cannot be read" in told


@pytest.mark.parametrize("path", ["/v1/messages", "/api/chat"])
@pytest.mark.parametrize(("finish", "expected"), [("tool_calls", 502), ("length", 200)])
def test_arguments_that_are_no_json_are_an_error_unless_the_limit_cut_them(
    path: str, finish: str, expected: int
) -> None:
    status, _ = of(path).whole(
        200, completion(finish, tool_calls=CALL), Translated(asked=path, path="/x", model="m", body=b""), INFO
    )
    assert status == expected


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"object":"error","message":"too long","code":400}', "too long"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b'{"error":"plain"}', "plain"),
        (b"Bad Gateway", "Bad Gateway"),
        (b"", "the engine gave no reason"),
        (b'{"detail":[{"msg":"x"}]}', '{"detail":[{"msg":"x"}]}'),
    ],
)
def test_an_engines_own_words_are_found(body: bytes, words: str) -> None:
    request = Translated(asked="/api/chat", path="/x", model="m", body=b"")
    assert of("/api/chat").whole(422, body, request, INFO) == (
        422,
        json.dumps({"error": words}, separators=(",", ":")).encode(),
    )


NAMES = (
    "choices", "message", "content", "reasoning_content", "refusal", "tool_calls", "function", "name", "arguments", "id",
    "index", "finish_reason", "stop_reason", "usage", "prompt_tokens", "prompt_tokens_details", "error", "detail", "count",
    "data", "embedding", "code", "logprobs",
)  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("{}")
shaped = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
)


@given(st.sampled_from(PATHS), st.sampled_from([200, 400, 404, 503]), shaped)
def test_any_answer_is_told_or_is_an_error(path: str, status: int, body: object) -> None:
    asked = Translated(asked=path, path="/x", model="m", body=b"")
    found, told = of(path).whole(status, json.dumps(body).encode(), asked, INFO)
    assert found in ((200, 502) if status == 200 else (status,))
    assert ("error" in json.loads(told)) == (found != 200)


@given(
    st.integers(900, 1100),
    st.sampled_from(PATHS),
    st.sampled_from([b"[%b]", b'{"error":%b}', b'{"error":{"message":%b}}']),
)
def test_answers_and_requests_may_be_nested_as_they_like(depth: int, path: str, around: bytes) -> None:
    deep = around % (b"[" * depth + b"]" * depth)
    asked = Translated(asked=path, path="/x", model="m", body=b"")
    assert of(path).whole(500, deep, asked, INFO)[0] == 500
    body = b'{"model":"m","max_tokens":1,"input":"a","prompt":"a","messages":[{"role":"user","content":"a"}],"format":%b}'
    for value in (deep, b'{"a":%b}' % deep):
        with suppress(InvalidInput):
            of(path).request(path, body % value)
