"""Texts of so many tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.app.quickstart import model_folder
from penstock.kit.errors import InvalidInput, NotFound
from penstock.testing.load.text import Piece, Writer

PLAIN = Writer()


@pytest.mark.parametrize("tokens", [0, 1, 2, 4, 5, 100, 100_000])
def test_a_text_has_four_bytes_for_each_token(tokens: int) -> None:
    assert len(PLAIN.text([Piece("k", tokens)]).encode()) == 4 * tokens


def test_the_same_key_gives_the_same_text_and_another_key_another_from_its_first_word_on() -> None:
    first, again, other = (PLAIN.text([Piece(key, 50)]) for key in ("a", "a", "b"))
    assert first == again
    assert first.split()[0] != other.split()[0]
    assert PLAIN.salted("x").text([Piece("a", 50)]).split()[0] != first.split()[0]


def test_prompts_that_share_a_piece_share_its_text() -> None:
    shared = Piece("prefix", 64)
    one, other = (PLAIN.text([shared, Piece(f"own {n}", 16)]) for n in (1, 2))
    assert one[:256] == other[:256]
    assert one[256:] != other[256:]


@pytest.mark.parametrize("tokens", [1, 8, 40, 1500])
def test_with_a_tokenizer_a_text_has_as_many_tokens_as_that_counts(tokens: int) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    writer = Writer(model_folder())
    for key in range(20):
        text = writer.text([Piece(f"{key}", tokens)])
        assert abs(len(tokenizer.encode(text, add_special_tokens=False).ids) - tokens) <= 2


def test_a_tokenizer_that_is_missing_or_broken_is_said_so(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(NotFound, match="found no file"):
        Writer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"no tokenizer\.json"):
        Writer(tmp_path)
