"""The tokenizer in a GGUF file splits and merges as the model's tokenizer.json does."""

from pathlib import Path
from typing import Any

import pytest
from engine_process import TINY
from gguf_files import tiny_metadata
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from penstock.engine.convert.gguf import Gguf
from penstock.engine.convert.gguf_tokenizer import (
    gguf_context_tokens,
    gguf_eos,
    gguf_settings,
    gguf_tokenizer,
)
from penstock.kit.errors import InvalidInput

TINY_METADATA = tiny_metadata()
EXPECTED = Tokenizer.from_file(str(TINY / "tokenizer.json"))
FOUND = gguf_tokenizer(Gguf(Path("tiny.gguf"), TINY_METADATA, ()))
ALPHABET = sorted(ByteLevel.alphabet())
BYTES = {
    "tokenizer.ggml.tokens": [*ALPHABET, "<s>", "</s>", "he"],
    "tokenizer.ggml.token_type": [1] * 256 + [3, 3, 1],
    "tokenizer.ggml.merges": [],
    "tokenizer.ggml.bos_token_id": 256,
    "tokenizer.ggml.eos_token_id": 257,
}
words = st.sampled_from(
    [
        "<|user|>",
        "<|end|>",
        "<|unused1450|>",
        "<|",
        "The capital",
        " 12",
        "'LL",
        "\r\n",
        "  ",
        "é",
        "e\u0301",
        "🙂",
    ]
)


def gguf(**changed: Any) -> Gguf:
    """A vocabulary of bytes."""
    named = {f"tokenizer.ggml.{key}": found for key, found in changed.items()}
    return Gguf(Path("model.gguf"), BYTES | named, ())


@given(st.lists(st.one_of(words, st.text(max_size=12)), max_size=8).map("".join))
@settings(deadline=None, max_examples=400)
def test_texts_become_the_tokens_that_tokenizer_json_makes_of_them(text: str) -> None:
    ids = EXPECTED.encode(text, add_special_tokens=True).ids
    assert FOUND.encode(text, add_special_tokens=True).ids == ids
    for skip in (True, False):
        assert FOUND.decode(ids, skip_special_tokens=skip) == EXPECTED.decode(ids, skip_special_tokens=skip)


def test_the_vocabulary_is_the_same() -> None:
    assert FOUND.get_vocab() == EXPECTED.get_vocab()


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("gpt-2", ["He", "'", "LL", " pay", " 12345", "€", "\n\n ", " ok", "!!", "\n"]),
        ("llama-bpe", ["He", "'LL", " pay", " ", "123", "45", "€\n\n", " ", " ok", "!!\n"]),
        ("qwen2", ["He", "'LL", " pay", " ", "1", "2", "3", "4", "5", "€\n\n", " ", " ok", "!!\n"]),
    ],
)
def test_a_text_is_split_by_the_rule_that_is_named(pre: str, pieces: list[str]) -> None:
    text = "He'LL pay 12345€\n\n  ok!!\n"
    split = gguf_tokenizer(gguf(pre=pre)).pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in split] == pieces


@pytest.mark.parametrize("pre", ["tekken", ""])
def test_a_rule_that_is_not_known_is_refused_by_name(pre: str) -> None:
    with pytest.raises(
        InvalidInput, match=f"tokenizer.ggml.pre is {pre or 'absent'!r}, expected gpt-2"
    ) as refused:
        gguf_tokenizer(gguf(pre=pre))
    assert refused.value.hint == "put the model's tokenizer.json beside it"


@pytest.mark.parametrize(
    ("pre", "said", "begins"),
    [
        ("llama-bpe", {}, True),
        ("llama-bpe", {"add_bos_token": False}, False),
        ("qwen2", {}, False),
        ("qwen2", {"add_bos_token": True}, True),
    ],
)
def test_a_text_begins_with_bos_if_the_file_says_so_or_its_kind_does(
    pre: str, said: dict[str, bool], begins: bool
) -> None:
    tokenizer = gguf_tokenizer(gguf(pre=pre, **said))
    ids = [*([256] if begins else []), ALPHABET.index("x")]
    assert tokenizer.encode("x").ids == ids
    assert tokenizer.encode("x", add_special_tokens=False).ids == ids[-1:]


def test_llamas_rule_takes_whole_words_that_are_tokens_though_no_merge_makes_them() -> None:
    assert gguf_tokenizer(gguf(pre="llama-bpe", add_bos_token=False)).encode("he").ids == [258]
    assert len(gguf_tokenizer(gguf(pre="qwen2")).encode("he").ids) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"tokens": ["a", "a"], "token_type": [1, 1]},
        {"tokens": ["a"], "token_type": []},
        {"tokens": "a"},
        {"token_type": None},
        {"merges": ["zz zz"]},
        {"merges": ["nospace"]},
        {"bos_token_id": 259, "add_bos_token": True},
    ],
)
def test_a_damaged_tokenizer_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"model\.gguf is damaged or incomplete"):
        gguf_tokenizer(gguf(**{"pre": "qwen2"} | changed))


def test_every_end_that_is_named_ends_an_answer_once() -> None:
    assert gguf_eos(gguf()) == (257,)
    assert gguf_eos(gguf(eot_token_id=258, eom_token_id=257)) == (257, 258)
    assert gguf_eos(gguf(eos_token_id=None)) == ()
    with pytest.raises(InvalidInput, match="eos_token_id is 259, there are 259 tokens"):
        gguf_eos(gguf(eos_token_id=259))


def test_settings_are_those_of_tokenizer_config_json() -> None:
    found = gguf_settings(Gguf(Path("tiny.gguf"), TINY_METADATA, ()))
    assert found == {
        "bos_token": "<|bos|>",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "chat_template": TINY_METADATA["tokenizer.chat_template"],
    }


def test_the_context_is_the_architectures() -> None:
    assert gguf_context_tokens(Gguf(Path("tiny.gguf"), TINY_METADATA, ())) == 2048
    assert gguf_context_tokens(gguf()) is None
