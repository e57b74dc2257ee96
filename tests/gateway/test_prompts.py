"""Turns of a conversation share what they begin with, nothing else does, and no body whatever makes routing fail."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prompt_calls import SERVICE, call_of, shared

from penstock.contracts.exchange import RoutingRoute
from penstock.gateway.body import SLICE_BYTES, ModelRequest, read, read_large, with_model
from penstock.gateway.prompts import MAX_HASHED_TOKENS, Prompts
from penstock.kit.errors import InvalidInput

BLOCK = RoutingRoute().block_tokens * 4


def talk(turns: int, words: int = 300) -> list[dict[str, str]]:
    roles = ("system", "user", "assistant")
    return [{"role": roles[min(i, 1 + (i + 1) % 2)], "content": f"turn {i} " * words} for i in range(turns)]


def chat(messages: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": messages, **more}


@given(turns=st.integers(1, 6), further=st.integers(1, 3))
@settings(deadline=None, max_examples=20)
def test_a_later_turn_begins_with_the_blocks_of_the_earlier_ones(turns: int, further: int) -> None:
    earlier, later = (Prompts().of(call_of(chat(talk(n))), SERVICE) for n in (turns, turns + further))
    assert shared(earlier, later) >= len(earlier.hashes) - 1 > 0
    assert len(later.hashes) > len(earlier.hashes)


TOOLS = [{"type": "function", "function": {"name": "look", "description": "looks " * 200}}]


@pytest.mark.parametrize(
    "other",
    [
        chat(talk(3), tools=TOOLS),
        chat(talk(3), tools=[*TOOLS, *TOOLS]),
        chat(talk(3), cache_salt="a tenant's"),
        chat(talk(3)) | {"model": "an-adapter"},
        chat([{"role": "system", "content": "another " * 100}, *talk(2)]),
        {"model": "m", "prompt": "turn 0 " * 900},
    ],
)
def test_other_tools_salt_adapter_or_words_share_nothing(other: dict[str, Any]) -> None:
    one, two = (Prompts().of(call_of(body), SERVICE) for body in (chat(talk(3)), other))
    assert one.hashes
    assert two.hashes
    assert shared(one, two) == 0


def test_more_tools_than_before_share_nothing_though_the_lists_begin_alike() -> None:
    one, two = (
        Prompts().of(call_of(chat(talk(3), tools=tools)), SERVICE) for tools in (TOOLS, [*TOOLS, *TOOLS])
    )
    assert shared(one, two) == 0


def test_conversations_with_the_same_tools_share_them() -> None:
    talks = (talk(1), [{"role": "user", "content": "something else " * 99}])
    one, two = (Prompts().of(call_of(chat(messages, tools=TOOLS)), SERVICE) for messages in talks)
    blocks = len(json.dumps(TOOLS)) // BLOCK
    assert 0 < blocks <= shared(one, two) <= blocks + 1


@pytest.mark.parametrize("nothing", [None, [], ""])
def test_fields_that_say_nothing_count_as_absent(nothing: object) -> None:
    plain, other = (
        Prompts().of(call_of(body), SERVICE) for body in (chat(talk(2)), chat(talk(2), tools=nothing))
    )
    assert plain.hashes == other.hashes


def test_other_settings_of_the_same_prompt_change_nothing() -> None:
    plain = Prompts().of(call_of(chat(talk(2))), SERVICE)
    other = Prompts().of(call_of({"temperature": 1, **chat(talk(2)), "max_tokens": 7}), SERVICE)
    assert plain.hashes == other.hashes
    assert other.output_tokens == 7


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "prompt": "word " * 500},
        {"model": "m", "input": "word " * 500},
        {"model": "m", "input": ["word " * 500, "other"]},
        {"model": "m", "prompt": list(range(1000))},
        {"model": "m", "system": "word " * 500, "messages": []},
        {"model": "m", "instructions": "word " * 500, "input": "x"},
    ],
)
def test_every_way_to_say_a_prompt_is_read(body: dict[str, Any]) -> None:
    prompt = Prompts().of(call_of(body), SERVICE)
    assert len(prompt.hashes) >= 8
    assert prompt.tokens >= 500


def test_only_whole_blocks_are_hashed_and_none_where_they_are_of_no_use() -> None:
    text = "x" * (3 * BLOCK - 3)
    prompts = Prompts()
    assert len(prompts.of(call_of({"model": "m", "prompt": text}), SERVICE).hashes) == 2
    assert len(prompts.of(call_of({"model": "m", "prompt": text + "x"}), SERVICE).hashes) == 3
    sized, whole = (
        prompts.sized(call_of({"prompt": text}), SERVICE),
        prompts.of(call_of({"prompt": text}), SERVICE),
    )
    assert (sized.hashes, sized.tokens) == ((), whole.tokens)


def test_the_session_is_the_header_s_else_the_cache_key_s() -> None:
    prompts = Prompts()
    body = chat(talk(1), prompt_cache_key="k")
    assert prompts.of(call_of(body), SERVICE).session == "k"
    assert prompts.of(call_of(body, session="h"), SERVICE).session == "h"
    assert prompts.of(call_of(chat(talk(1), prompt_cache_key=["k"])), SERVICE).session == ""
    long = prompts.of(call_of(chat(talk(1), prompt_cache_key="k" * 100_000)), SERVICE).session
    assert 0 < len(long) <= 256


def test_who_has_time_says_so_by_header_or_tier() -> None:
    prompts = Prompts()
    assert not prompts.of(call_of(chat(talk(1))), SERVICE).is_batch
    assert prompts.of(call_of(chat(talk(1)), batch=True), SERVICE).is_batch
    assert prompts.of(call_of(chat(talk(1), service_tier="flex")), SERVICE).is_batch
    assert not prompts.of(call_of(chat(talk(1), service_tier="auto")), SERVICE).is_batch


def test_what_answers_say_of_their_prompts_tells_how_long_the_next_is() -> None:
    prompts, body = Prompts(), chat(talk(4))
    for _ in range(100):
        call = call_of(body)
        prompts.of(call, SERVICE)
        call.service, call.prompt_tokens = SERVICE, 5000
        prompts.answered(call)
    prompt = prompts.of(call_of(body), SERVICE)
    assert prompt.tokens == pytest.approx(5000, rel=0.05)
    assert len(prompt.hashes) * prompt.block_tokens == pytest.approx(5000, rel=0.1)


def test_a_draw_is_the_request_s_own() -> None:
    prompts = Prompts()
    draws = {prompts.of(call_of(chat(talk(1)), id=name), SERVICE).draw for name in ("a", "b", "a")}
    assert len(draws) == 2


async def test_a_prompt_of_many_megabytes_costs_no_more_than_the_longest_that_is_hashed() -> None:
    body = json.dumps(chat([{"role": "user", "content": "word " * 2_000_000}])).encode()
    call = call_of(body)
    await call.read_large()
    prompt = Prompts().of(call, SERVICE)
    assert len(prompt.hashes) == MAX_HASHED_TOKENS // RoutingRoute().block_tokens
    assert prompt.tokens == pytest.approx(len(body) / 4, rel=0.01)


async def test_large_bodies_are_read_in_turns_and_hash_as_small_ones_do() -> None:
    messages = talk(3)
    small = Prompts().of(call_of(chat(messages)), SERVICE)
    large = call_of(chat([*messages, {"role": "user", "content": "more " * 300_000}]))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    read = await large.read_large()
    task.cancel()
    assert turns > 3
    assert read.model == "m"
    assert shared(small, Prompts().of(large, SERVICE)) >= len(small.hashes) - 1


def test_a_large_body_that_was_not_looked_into_counts_as_long_as_it_is() -> None:
    body = json.dumps(chat([{"role": "user", "content": "word " * 400_000}])).encode()
    prompt = Prompts().of(call_of(body), SERVICE)
    assert not prompt.hashes
    assert prompt.tokens == pytest.approx(len(body) / 4, rel=0.01)


def test_a_body_that_is_nested_too_deeply_is_refused_as_any_that_is_no_json() -> None:
    with pytest.raises(InvalidInput, match="not a JSON object"):
        read(b'{"model": "m", "messages": ' + b"[" * 200_000 + b"]" * 200_000 + b"}")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("slice_bytes", [3, 7, 64, SLICE_BYTES])
@example(said={"stream": -(2**63) - 1, "max_tokens": 2**64}, indent=None, escaped=False)
@given(
    said=st.dictionaries(st.sampled_from(ModelRequest.__struct_fields__) | st.text(max_size=9), VALUES),
    indent=st.sampled_from([None, 1]),
    escaped=st.booleans(),
)
@settings(deadline=None)
def test_a_body_reads_the_same_in_slices_as_at_once(
    slice_bytes: int, said: dict[str, Any], indent: int | None, escaped: bool
) -> None:
    raw = json.dumps(said | {"model": "m"}, indent=indent, ensure_ascii=escaped).encode()
    with asyncio.Runner() as runner, patch("penstock.gateway.body.SLICE_BYTES", slice_bytes):
        assert runner.run(read_large(raw)) == read(raw)


LONG = st.sampled_from(
    ['"model": "x"', '{"model": {"model": 1}}', "\\u0065", "model", '"', "\\", "[1, 2]", "\u00e9"]
).map(lambda piece: [{"said": piece, "model": piece}] * 40)


@given(
    st.dictionaries(
        st.sampled_from(["messages", "tools", "prompt", "input", "metadata", "user"]), VALUES | LONG
    ),
    st.booleans(),
    st.booleans(),
)
@settings(deadline=None)
def test_the_request_s_own_model_is_renamed_and_no_other(
    said: dict[str, Any], is_last: bool, is_twice: bool
) -> None:
    own = {"model": "m"}
    raw = json.dumps(said | own if is_last else own | said).encode()
    if is_twice:
        raw = b'{"model": "first", ' + raw[1:]
    renamed = with_model(raw, "other", read(raw))
    assert json.loads(renamed) == {**said, "model": "other"}
    assert renamed.count(b'"other"') == 1
    assert len(renamed) == len(raw) + len('"other"') - len('"m"')


@pytest.mark.parametrize("run", [1, 63, 64, 65, 127, 128, 129, 400_000, 400_001])
async def test_backslashes_before_a_quote_are_counted_however_many_there_are(run: int) -> None:
    raw = b'{"user": "' + b"\\" * run + (b'"' if run % 2 else b"") + b'", "model": "m"}'
    assert (await read_large(raw)).model == "m"
    with pytest.raises(InvalidInput):
        await read_large(raw.replace(b'"m"', b'"m'))


HOSTILE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b'{"messages": "\\ud800"}',
    b'{"messages": {"a": 1}, "prompt": 7, "tools": true, "cache_salt": [1]}',
    b'{"messages": ' + b"[" * 200_000,
    b'{"messages": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    b'{"messages": [], "messages": null, "prompt_cache_key": "\\u00zz"}',
    b'{"prompt_cache_key": "\xff"}',
    b'{"tools": "' + b"x" * 2_000_000,
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_bodies_give_a_prompt_all_the_same(body: bytes) -> None:
    prompt = Prompts().of(call_of(body), SERVICE)
    assert prompt.tokens >= 0
    assert prompt.draw > 0


FIELDS = ("messages", "prompt", "input", "system", "tools", "cache_salt", "prompt_cache_key", "service_tier")


@given(body=st.dictionaries(st.sampled_from(FIELDS), VALUES), cut=st.integers(0, 30))
@settings(deadline=None)
def test_whatever_stands_in_its_fields_a_body_gives_a_prompt(body: dict[str, Any], cut: int) -> None:
    raw = json.dumps(body).encode()
    prompt = Prompts().of(call_of(raw[: len(raw) - cut]), SERVICE)
    assert len(prompt.hashes) * BLOCK <= len(raw)
