"""Text and tokens: no broken character is ever shown, stop strings cut exactly, templates cannot do harm."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.text import Stops, Text
from penstock.kit.errors import InvalidInput, NotFound

TINY = Path(__file__).parents[2] / "src/penstock/models/penstock-tiny"
TEXT = Text(TINY)


def with_settings(folder: Path, **changed: object) -> Path:
    shutil.copy(TINY / "tokenizer.json", folder)
    found = json.loads((TINY / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(found | changed))
    return folder


@given(st.text(max_size=60))
@settings(deadline=None)
def test_a_streamed_text_is_the_text_whatever_its_characters(text: str) -> None:
    decode = TEXT.decoder()
    shown = [decode(token) for token in TEXT.encode(text)]
    assert "".join(shown) == text


@given(st.text(alphabet="aé€🙂👨‍👩‍👧 ", max_size=30))
@settings(deadline=None)
def test_characters_that_span_tokens_come_whole(text: str) -> None:
    decode, seen = TEXT.decoder(), ""
    for token in TEXT.encode(text):
        piece = decode(token)
        assert "\ufffd" not in piece
        seen += piece
        assert text.startswith(seen)


@given(st.lists(st.integers(0, TEXT.size - 1), max_size=60))
@settings(deadline=None)
def test_any_tokens_whatever_give_text_that_can_be_sent(tokens: list[int]) -> None:
    decode = TEXT.decoder()
    for token in tokens:
        decode(token).encode()
        TEXT.piece(token).encode()


def test_special_tokens_are_not_shown_in_answers_and_are_named_in_logprobs() -> None:
    decode = TEXT.decoder()
    assert decode(TEXT.eos[0]) == ""
    assert TEXT.piece(TEXT.eos[0]) == "<|end|>"


def cut(stops: list[str], pieces: list[str]) -> str:
    machine = Stops(stops)
    shown = "".join(machine.push(piece) for piece in pieces)
    return shown if machine.stopped else shown + machine.rest()


stop_strings = st.lists(st.text(alphabet="ab", min_size=1, max_size=4), min_size=1, max_size=3)


@given(stop_strings, st.lists(st.text(alphabet="abc", max_size=4), max_size=12))
def test_text_ends_just_before_the_first_stop_wherever_pieces_are_cut(
    stops: list[str], pieces: list[str]
) -> None:
    whole = "".join(pieces)
    reached = min((whole.find(s) + len(s) for s in stops if s in whole), default=None)
    if reached is None:
        assert cut(stops, pieces) == whole
    else:
        shown = cut(stops, pieces)
        assert whole.startswith(shown)
        assert any(whole[len(shown) :].startswith(stop) for stop in stops)
        assert not any(stop in shown for stop in stops)


@given(stop_strings, st.text(alphabet="abc", max_size=30))
def test_no_more_is_held_back_than_may_become_a_stop(stops: list[str], text: str) -> None:
    machine, shown = Stops(stops), ""
    for character in text:
        shown += machine.push(character)
        if machine.stopped:
            return
    held = text[len(shown) :]
    assert not held or any(stop.startswith(held) for stop in stops)


def test_without_stops_nothing_is_held_back() -> None:
    assert Stops([""]).push("abc") == "abc"


def test_the_chat_template_puts_turns_and_the_answers_beginning() -> None:
    prompt = TEXT.render([{"role": "user", "content": "Hi"}], None)
    assert prompt == "<|user|>\nHi\n<|assistant|>\n"


def test_a_template_that_refuses_says_why(tmp_path: Path) -> None:
    text = Text(with_settings(tmp_path, chat_template="{{ raise_exception('roles must alternate') }}"))
    with pytest.raises(InvalidInput, match="roles must alternate"):
        text.render([{"role": "user", "content": "Hi"}], None)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ messages[0].content + 1 }}",
        "{{ messages[0].nothing.at.all }}",
        "{{ 1 // 0 }}",
    ],
)
def test_a_template_cannot_reach_out_and_its_faults_are_the_requests_errors(
    tmp_path: Path, template: str
) -> None:
    text = Text(with_settings(tmp_path, chat_template=template))
    with pytest.raises(InvalidInput, match="chat template"):
        text.render([{"role": "user", "content": "Hi"}], None)


def test_a_template_that_is_none_is_refused_when_the_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="chat template is not valid"):
        Text(with_settings(tmp_path, chat_template="{% for %}"))


def test_the_template_may_be_a_file_or_the_default_of_several(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    text = Text(with_settings(tmp_path, chat_template=several))
    assert text.render([{"role": "user", "content": "Hi"}], None) == "yes"
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert Text(tmp_path).render([], None) == "from the file"


def test_a_model_without_template_says_what_to_use(tmp_path: Path) -> None:
    text = Text(with_settings(tmp_path, chat_template=None))
    with pytest.raises(InvalidInput, match="no chat template") as refused:
        text.render([{"role": "user", "content": "Hi"}], None)
    assert refused.value.hint == "use /v1/completions"


def test_every_end_token_is_known_from_wherever_it_is_said(tmp_path: Path) -> None:
    assert Text(with_settings(tmp_path)).eos == (2,), "by the tokenizer's eos_token"
    (tmp_path / "config.json").write_text('{"eos_token_id": 5}')
    assert Text(tmp_path).eos == (5,)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 6]}')
    assert Text(tmp_path).eos == (2, 6)


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"tokenizer\.json: there is no such file"):
        Text(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"model": {"type": "Secret"}}'])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InvalidInput, match=r"tokenizer\.json is damaged"):
        Text(tmp_path)
