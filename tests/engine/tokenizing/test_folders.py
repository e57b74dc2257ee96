"""A request has the tokens that the engine gives it, and whatever is wrong with it or with the tokenizer is told."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest

from penstock.contracts.tokenizing import BYTES_TOKENIZER, TOLD, Ask, Told, framed
from penstock.engine.simulated.byte_text import ByteText
from penstock.engine.text import Text
from penstock.engine.tokenizing.__main__ import serve
from penstock.engine.tokenizing.folders import LOOK_S, Tokenizers
from penstock.engine.wishes import Bounds, read_prompt, read_wish
from penstock.kit.hashing import token_blocks

TINY = Path(__file__).parents[3] / "src/penstock/models/penstock-tiny"
TEXT = Text(TINY)
BOUNDS = Bounds("m", 1 << 30, 1 << 30, TEXT.size)
TOOLS = [
    {
        "type": "function",
        "function": {"name": "look", "description": "looks at \u4e16\u754c", "parameters": {}},
    }
]
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "You are terse. " * 60},
    {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "a weir?"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "look", "arguments": '{"x": 1}'}}],
    },
    {"role": "tool", "content": "a low dam"},
    {"role": "user", "content": "And <|end|> a sluice?"},
]


def asked(body: object, folder: str = str(TINY), **more: Any) -> Told:
    given = {"block_tokens": 16, "seed": 7, "max_tokens": 1 << 17} | more
    return Tokenizers().answer(Ask(folder, json.dumps(body).encode(), **given))


@pytest.mark.parametrize("turns", range(1, len(TALK) + 1))
@pytest.mark.parametrize("tools", [None, TOOLS])
def test_a_chat_has_the_engine_s_tokens(turns: int, tools: list[Any] | None) -> None:
    body = {"model": "m", "messages": TALK[:turns], "tools": tools, "max_tokens": 1}
    truth = read_wish(body, TEXT, BOUNDS, chat=True).prompts[0]
    told = asked(body)
    assert told.tokens == len(truth)
    assert array("Q", told.hashes).tolist() == token_blocks(truth, 16, 7)


@pytest.mark.parametrize(
    "prompt", ["a weir is " * 50, ["a weir is " * 50], [*range(5, 100)], [[*range(5, 100)]]]
)
def test_a_completion_has_the_engine_s_tokens(prompt: object) -> None:
    truth = read_wish({"model": "m", "prompt": prompt, "max_tokens": 1}, TEXT, BOUNDS, chat=False).prompts[0]
    told = asked({"prompt": prompt})
    assert told.tokens == len(truth)
    assert array("Q", told.hashes).tolist() == token_blocks(truth, 16, 7)


def test_the_simulated_engine_s_own_tokens_need_no_files() -> None:
    body = {"messages": [{"role": "user", "content": "a weir is " * 50}]}
    truth = read_prompt({**body, "model": "m"}, ByteText(), BOUNDS)
    told = asked(body, BYTES_TOKENIZER)
    assert told.tokens == len(truth)
    assert array("Q", told.hashes).tolist() == token_blocks(truth, 16, 7)


def test_no_more_is_hashed_than_asked_for() -> None:
    told = asked({"prompt": "a weir is " * 500}, max_tokens=160)
    assert told.tokens > 1000
    assert len(told.hashes) == 10 * 8


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"messages": []},
        {"messages": "hello"},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"prompt": None},
        {"prompt": ["two", "prompts"]},
        {"prompt": [-1]},
        {"prompt": [1 << 32]},
        {"prompt": [True]},
    ],
)
def test_what_is_wrong_with_a_request_is_told_and_not_the_tokenizer_s_fault(body: object) -> None:
    told = asked(body)
    assert told.error
    assert not told.broken


def test_a_body_that_is_no_json_is_told() -> None:
    assert Tokenizers().answer(Ask(str(TINY), b"{", 16, 7, 100)).error == "invalid_json"


def test_a_template_that_fails_is_told(tmp_path: Path) -> None:
    shutil.copy(TINY / "tokenizer.json", tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    assert asked({"messages": TALK}, str(tmp_path)).error == "invalid_messages"


def test_a_folder_without_tokenizer_and_a_damaged_one_are_told(tmp_path: Path) -> None:
    assert Tokenizers().answer(Ask(str(tmp_path / "nowhere"))).broken == "missing_tokenizer"
    assert Tokenizers().answer(Ask(str(tmp_path))).broken == "missing_tokenizer"
    (tmp_path / "tokenizer.json").write_text("{")
    assert Tokenizers().answer(Ask(str(tmp_path))).broken == "corrupt_tokenizer"


def test_a_file_that_changes_is_read_again_soon(tmp_path: Path) -> None:
    now = [0.0]
    tokenizers, body = Tokenizers(lambda: now[0]), json.dumps({"messages": TALK[:1]}).encode()
    shutil.copy(TINY / "tokenizer.json", tmp_path)
    (tmp_path / "chat_template.jinja").write_text("one")
    one = tokenizers.answer(Ask(str(tmp_path), body, 16, 7, 100)).tokens
    (tmp_path / "chat_template.jinja").write_text("one and two")
    now[0] = LOOK_S
    assert tokenizers.answer(Ask(str(tmp_path), body, 16, 7, 100)).tokens > one


class Line(io.BytesIO):
    """What is read is what was put in; what is written is kept apart."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.written = b""

    def write(self, data: Any) -> int:
        self.written += data
        return len(data)


@pytest.mark.parametrize("cut", [0, 2, 30])
def test_the_process_answers_in_order_until_the_other_side_ends(cut: int) -> None:
    asks = [Ask(str(TINY)), Ask("/nowhere"), Ask(str(TINY), b'{"prompt": "x"}', 16, 7, 100)]
    line = Line(b"".join(map(framed, asks)) + framed(asks[2])[:cut])
    serve(line, Tokenizers().answer)
    told, rest = [], line.written
    while rest:
        length = int.from_bytes(rest[:4], "big")
        told.append(TOLD.decode(rest[4 : 4 + length]))
        rest = rest[4 + length :]
    assert [(bool(t.broken), t.tokens > 0) for t in told] == [(False, False), (True, False), (False, True)]


def test_the_process_ends_without_a_word_when_the_other_side_ends_before_it_is_told() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock.engine.tokenizing"],
            stdin=theirs,
            stderr=subprocess.PIPE,
        )
    with ours:
        ours.sendall(framed(Ask(str(TINY))))
    _, said = process.communicate(timeout=50)
    assert (process.returncode, said) == (0, b"")
