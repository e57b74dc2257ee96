"""Every field of a request is read as OpenAI says, or refused by its name with what is expected."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.text import Text
from penstock.engine.wishes import MAX_CHOICES, MAX_PROMPTS, Bounds, Wish, read_prompt, read_wish
from penstock.kit.errors import InvalidInput, NotFound, PlatformError

TEXT = Text(Path(__file__).parents[2] / "src/penstock/models/penstock-tiny")
BOUNDS = Bounds("tiny", context_tokens=2048, kv_blocks=1024, vocabulary=2048, structured=False)
HELLO = [{"role": "user", "content": "Hello"}]


def chat(bounds: Bounds = BOUNDS, **body: Any) -> Wish:
    return read_wish({"model": "tiny", "messages": HELLO} | body, TEXT, bounds, chat=True)


def complete(bounds: Bounds = BOUNDS, **body: Any) -> Wish:
    return read_wish({"model": "tiny", "prompt": "Hello"} | body, TEXT, bounds, chat=False)


def refusal(**body: Any) -> PlatformError:
    with pytest.raises(PlatformError) as refused:
        (complete if "prompt" in body else chat)(**body)
    return refused.value


def test_defaults_are_openais() -> None:
    wish = chat()
    assert (wish.sampling.temperature, wish.sampling.max_tokens, wish.choices) == (1.0, 1024, 1)
    assert (wish.stream, wish.include_usage, wish.stops, wish.tools) == (False, False, (), False)
    assert complete().sampling.max_tokens == 16


def test_null_is_as_good_as_nothing() -> None:
    fields = (
        "temperature",
        "top_p",
        "max_tokens",
        "n",
        "stop",
        "seed",
        "stream",
        "stream_options",
        "logprobs",
    )
    assert chat(**dict.fromkeys(fields)) == chat()


def test_what_is_given_is_taken() -> None:
    wish = chat(
        temperature=0,
        top_p=0.5,
        top_k=7,
        min_p=0.1,
        seed=3,
        presence_penalty=-1,
        frequency_penalty=1,
        repetition_penalty=1.5,
        max_completion_tokens=5,
        max_tokens=9,
        ignore_eos=True,
        logprobs=True,
        n=2,
        stop=["a", "b"],
        stream=True,
        stream_options={"include_usage": True},
    )
    s = wish.sampling
    assert (s.temperature, s.top_p, s.top_k, s.min_p, s.seed) == (0.0, 0.5, 7, 0.1, 3)
    assert (s.presence_penalty, s.frequency_penalty, s.repetition_penalty) == (-1.0, 1.0, 1.5)
    assert (s.max_tokens, s.ignore_eos, s.logprobs) == (5, True, True)
    assert (wish.choices, wish.stops, wish.stream, wish.include_usage) == (2, ("a", "b"), True, True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "hot"),
        ("temperature", True),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("top_p", 1.1),
        ("top_k", 0),
        ("min_p", 2),
        ("n", 0),
        ("n", MAX_CHOICES + 1),
        ("n", 1.5),
        ("max_tokens", 0),
        ("max_tokens", "5"),
        ("max_completion_tokens", -1),
        ("seed", -1),
        ("seed", 2**63),
        ("presence_penalty", 3),
        ("frequency_penalty", -3),
        ("repetition_penalty", 0),
        ("stop", 5),
        ("stop", ["a"] * 17),
        ("stop", [1]),
        ("stream", "yes"),
        ("ignore_eos", 1),
        ("logprobs", 3),
        ("response_format", {"type": "xml"}),
        ("response_format", {"type": "json_schema"}),
        ("response_format", "json"),
        ("messages", []),
        ("messages", "Hello"),
        ("messages", None),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_the_fields_name(field: str, value: Any) -> None:
    error = refusal(**{field: value})
    assert isinstance(error, InvalidInput)
    assert f"'{field}': found" in error.message
    assert "expected" in error.message


@pytest.mark.parametrize(
    "message",
    [
        "Hello",
        {"content": "Hello"},
        {"role": 5, "content": "Hello"},
        {"role": "user", "content": 5},
        {"role": "user", "content": ["Hello"]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "user", "content": [{"type": "text"}]},
    ],
)
def test_a_message_that_cannot_be_read_is_named_by_its_place(message: Any) -> None:
    assert "messages[1]" in refusal(messages=[*HELLO, message]).message


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert chat(messages=[{"role": "user", "content": parts}]).prompts == chat().prompts


@pytest.mark.parametrize(
    ("prompt", "count"), [("a", 1), (["a", "b"], 2), ([5, 6], 1), ([[5, 6], [7]], 2), (["a", [5]], 2)]
)
def test_a_prompt_is_text_or_tokens_or_several(prompt: Any, count: int) -> None:
    assert len(complete(prompt=prompt).prompts) == count


@pytest.mark.parametrize(
    "prompt",
    [None, [], 5, {}, [[]], [""], "", [[2048]], [[-1]], [[True]], [5, "a"], ["a"] * (MAX_PROMPTS + 1)],
)
def test_a_prompt_that_is_none_is_refused(prompt: Any) -> None:
    assert "prompt" in refusal(prompt=prompt).message


def test_an_unknown_model_is_told_which_there_is() -> None:
    error = refusal(model="gpt-4")
    assert isinstance(error, NotFound)
    assert error.code == "model_not_found"
    assert "'tiny'" in error.hint


@pytest.mark.parametrize("body", [None, [], "x", 5])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(InvalidInput, match="expected a JSON object"):
        read_wish(body, TEXT, BOUNDS, chat=True)


@pytest.mark.parametrize(
    ("kv_blocks", "limit", "reason"), [(1024, 2048, "context length"), (10, 256, "KV cache")]
)
def test_prompt_and_answer_fit_the_model_and_the_pool_to_the_token(
    kv_blocks: int, limit: int, reason: str
) -> None:
    bounds = Bounds("tiny", 2048, kv_blocks, 2048, structured=False)
    assert complete(bounds, prompt=[5] * (limit - 10), max_tokens=10).sampling.max_tokens == 10
    assert complete(bounds, prompt=[5] * (limit - 10)).sampling.max_tokens == 10
    assert complete(bounds, prompt=[5] * (limit - 1)).sampling.max_tokens == 1
    for prompt, tokens in ((limit - 10, 11), (limit, 1), (limit + 1, 1)):
        with pytest.raises(InvalidInput, match=f"maximum {reason} is {limit} tokens") as refused:
            complete(bounds, prompt=[5] * prompt, max_tokens=tokens)
        assert refused.value.code == "context_length_exceeded"


def test_a_text_that_cannot_fit_is_refused_before_it_is_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TEXT, "encode", lambda *_, **__: pytest.fail("it was tokenized"))
    long = "word " * (BOUNDS.context_tokens * TEXT.longest_token)
    for body in ({"prompt": long}, {"messages": [{"role": "user", "content": long}]}):
        error = refusal(**body)
        assert error.code == "context_length_exceeded"
        assert "at least" in error.message


def test_logprobs_of_other_tokens_are_not_to_be_had() -> None:
    assert refusal(logprobs=True, top_logprobs=2).code == "unsupported_parameter"
    assert refusal(prompt="a", logprobs=2).code == "unsupported_parameter"
    assert complete(logprobs=1).sampling.logprobs
    assert complete(logprobs=0).sampling.logprobs
    assert not complete().sampling.logprobs


def test_a_schema_is_refused_by_a_model_without_grammar_and_passed_on_by_one_with() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    assert refusal(response_format=form).code == "unsupported_parameter"
    able = Bounds("tiny", 2048, 1024, 2048, structured=True)
    assert chat(able, response_format=form).sampling.json_schema == '{"type": "object"}'
    assert chat(able, response_format={"type": "json_object"}).sampling.json_schema is not None
    assert chat(able, response_format={"type": "text"}).sampling.json_schema is None


def test_tools_count_unless_the_choice_is_none() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert chat(tools=tools).tools
    assert not chat(tools=tools, tool_choice="none").tools


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5000) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "messages",
    "prompt",
    "tools",
    "tool_choice",
    "n",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
    "response_format",
    "echo",
    "ignore_eos",
    "model",
]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6), st.booleans())
@settings(deadline=None, max_examples=300)
def test_no_body_raises_anything_but_the_platforms_errors(body: dict[str, Any], is_chat: bool) -> None:
    base: dict[str, Any] = {"messages": HELLO, "prompt": "Hello"}
    try:
        wish = read_wish(base | body, TEXT, BOUNDS, chat=is_chat)
    except PlatformError as error:
        assert error.status in (400, 404)
        return
    assert all(wish.prompts)
    assert wish.choices >= 1


def test_a_prompt_is_tokenized_as_it_is_when_it_is_answered() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    for asked in ({"messages": HELLO}, {"messages": HELLO, "tools": tools}):
        assert read_prompt(asked, TEXT, BOUNDS) == chat(**asked).prompts[0]
    assert read_prompt({"prompt": "Hello"}, TEXT, BOUNDS) == complete().prompts[0]


@pytest.mark.parametrize("asked", [{}, {"prompt": [1]}, {"messages": []}, {"messages": "x"}])
def test_what_is_no_prompt_is_not_tokenized(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"prompt|messages"):
        read_prompt(asked, TEXT, BOUNDS)
