"""A text in chunks has the tokens that it has as a whole, whatever the tokenizer, and what was tokenized before is not tokenized again."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from penstock.engine.text import Text
from penstock.engine.tokenizing.chunks import CHUNK_CHARS, MESSAGE_CHARS, ChunkedTokenizer, Chunks

TINY = Path(__file__).parents[3] / "src/penstock/models/penstock-tiny"
PROSE = (
    "The mill stands by the river, and the river does not care. In 1887 they built a second wheel; it cost 340 pounds.\n"
    "She said: \"it's not what we'd hoped for\" - and left.\n\n\tdef wheel(turns):\n\t\treturn turns * 2  # twice\n"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<s>", "</s>"]


def trained(kind: str) -> Tokenizer:
    """Small ones of the kinds that there are, trained on some sentences."""
    model: models.Model = models.BPE(unk_token=None, byte_fallback=False)
    special = [AddedToken(token, special=True) for token in SPECIAL]
    trainer: trainers.Trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if "byte" in kind else [],
    )  # fmt: skip
    if kind == "wordpiece":
        model = models.WordPiece(unk_token="<s>")
        trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    tokenizer = Tokenizer(model)
    if kind.startswith("byte"):
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=kind == "byte-prefix", use_regex=kind != "byte-phrases"
        )
        tokenizer.decoder = decoders.ByteLevel()
    elif kind == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    elif kind == "metaspace-first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    elif kind == "prepend":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
        )
    elif kind == "wordpiece":
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator([PROSE] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))],
    )
    return tokenizer


KINDS = ("byte", "byte-prefix", "byte-phrases", "metaspace", "metaspace-first", "prepend", "wordpiece")
TRUTH = {kind: trained(kind) for kind in KINDS} | {"tiny": Text(TINY).tokenizer}
CUT = {
    kind: ChunkedTokenizer(Tokenizer.from_str(tokenizer.to_str()), Chunks(), number)
    for number, (kind, tokenizer) in enumerate(TRUTH.items())
}


def numbers(packed: bytes) -> list[int]:
    return array("I", packed).tolist()


WORDS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *PROSE.split(),
                *SPECIAL,
                "\n",
                " ",
                "  ",
                "\n\n",
                "you\u4f60",
                "\u00e9t\u00e9",
                "\U0001f642",
                "1234",
            ]
        ),
        st.text(max_size=12),
    ),
    max_size=12,
)


@pytest.mark.parametrize("kind", TRUTH)
@given(words=WORDS, times=st.integers(1, 60), glue=st.sampled_from([" ", "", "\n"]), special=st.booleans())
@settings(deadline=None, max_examples=25)
def test_chunks_have_the_tokens_of_the_whole(
    kind: str, words: list[str], times: int, glue: str, special: bool
) -> None:
    text = glue.join(words * times)
    for _ in range(2):
        packed, _ = CUT[kind].ids(text, special=special)
        assert numbers(packed) == TRUTH[kind].encode(text, add_special_tokens=special).ids


@pytest.mark.parametrize("kind", ["byte", "tiny", "metaspace"])
def test_what_follows_costs_only_itself(kind: str) -> None:
    tokenizer = ChunkedTokenizer(Tokenizer.from_str(TRUTH[kind].to_str()), Chunks())
    before = "".join(f"{PROSE}That was part {part}. " for part in range(40))
    _, cold = tokenizer.ids(before)
    packed, warm = tokenizer.ids(before + "and one more question?")
    assert cold >= 1000
    assert warm < cold / 10
    assert (
        numbers(packed) == TRUTH[kind].encode(before + "and one more question?", add_special_tokens=False).ids
    )


def test_a_message_behind_another_costs_hardly_more_than_itself_wherever_that_ends() -> None:
    tokenizer = ChunkedTokenizer(Tokenizer.from_str(TRUTH["byte"].to_str()), Chunks())
    for length in range(100, 1500, 37):
        before = f"<|im_start|>system\n{(PROSE * 9)[:length]}<|im_end|>"
        tokenizer.ids(f"{before}<|im_start|>user\nfirst question<|im_end|>")
        asked = "<|im_start|>user\nsecond question<|im_end|>"
        packed, fresh = tokenizer.ids(before + asked)
        whole = TRUTH["byte"].encode(before + asked, add_special_tokens=False).ids
        assert numbers(packed) == whole
        assert fresh < len(TRUTH["byte"].encode(asked, add_special_tokens=False).ids) + MESSAGE_CHARS


def test_what_comes_again_within_a_text_is_tokenized_once() -> None:
    tokenizer = ChunkedTokenizer(Tokenizer.from_str(TRUTH["byte"].to_str()), Chunks())
    packed, fresh = tokenizer.ids("a weir and a sluice " * 10_000)
    assert fresh < len(numbers(packed)) / 20
    assert numbers(packed)[:1000] == TRUTH["byte"].encode("a weir and a sluice " * 500).ids[1:1001]


def test_a_vocabulary_of_phrases_is_not_cut_between_words() -> None:
    assert not CUT["byte-phrases"].cuts_words
    assert CUT["byte"].cuts_words


def test_a_tokenizer_that_marks_each_beginning_is_not_cut_between_words() -> None:
    assert not CUT["prepend"].cuts_words


def test_chunks_are_bounded_and_the_latest_stay() -> None:
    chunks = Chunks(kept_bytes=10_000)
    for number in range(100):
        chunks.put(b"%d" % number, bytes(400))
        chunks.get(b"0")
    assert chunks.size_bytes <= 10_000
    assert chunks.get(b"0") is not None
    assert chunks.get(b"1") is None
    assert chunks.get(b"99") is not None


def test_two_tokenizers_do_not_take_each_other_s_chunks() -> None:
    chunks, text = Chunks(), "word " * CHUNK_CHARS
    one, two = (
        ChunkedTokenizer(Tokenizer.from_str(TRUTH[kind].to_str()), chunks, number)
        for number, kind in enumerate(("byte", "tiny"))
    )
    assert one.ids(text)[0] != two.ids(text)[0]
    assert numbers(two.ids(text)[0]) == TRUTH["tiny"].encode(text, add_special_tokens=False).ids


def test_a_tokenizer_that_pads_or_truncates_by_itself_gives_all_tokens_and_no_more() -> None:
    tokenizer = Tokenizer.from_str(TRUTH["byte"].to_str())
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=64)
    assert (
        numbers(ChunkedTokenizer(tokenizer, Chunks()).ids(PROSE)[0])
        == TRUTH["byte"].encode(PROSE, add_special_tokens=False).ids
    )
