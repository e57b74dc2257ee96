"""Chained hashes of a prompt's blocks."""

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.hashing import chain_seed, text_blocks, token_blocks, token_bytes

TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=70)
SEEDS = st.integers(0, 2**64 - 1)


@given(st.binary(max_size=300), st.integers(1, 40), SEEDS)
def test_each_whole_block_is_hashed_on_the_one_before_and_the_rest_is_not(data, size, seed):
    chained, expected = seed, []
    for start in range(0, len(data) - size + 1, size):
        chained = xxhash.xxh3_64_intdigest(data[start : start + size], chained)
        expected.append(chained)
    assert text_blocks(data, size, seed) == expected == text_blocks(memoryview(data), size, seed)


@given(TOKENS, TOKENS, TOKENS, st.integers(1, 5))
def test_prompts_share_as_many_hashes_as_they_share_whole_blocks_from_the_start(common, left, right, size):
    ours, theirs = token_blocks(common + left, size, 1), token_blocks(common + right, size, 1)
    shared = sum(1 for a, b in zip(ours, theirs, strict=False) if a == b)
    first, second = common + left, common + right
    expected = 0
    while (expected + 1) * size <= min(len(first), len(second)) and (
        first[: (expected + 1) * size] == second[: (expected + 1) * size]
    ):
        expected += 1
    assert shared == expected
    assert ours[:expected] == theirs[:expected]


@given(TOKENS)
def test_tokens_are_hashed_as_little_endian_numbers_of_four_bytes(tokens):
    assert token_bytes(tokens) == b"".join(token.to_bytes(4, "little") for token in tokens)


@pytest.mark.parametrize(("token", "error"), [(-1, OverflowError), (2**32, OverflowError), ("a", TypeError)])
def test_what_is_no_token_is_refused(token, error):
    with pytest.raises(error):
        token_blocks([token], 1, 0)


def test_other_models_adapters_and_salts_chain_on_other_seeds():
    seeds = [
        chain_seed(*words) for words in [("m",), ("m", "a"), ("m", "", "a"), ("ma",), ("m", "a", "a"), ("n",)]
    ]
    assert len(set(seeds)) == len(seeds)
    assert chain_seed("m") == chain_seed("m", "", "")


def test_the_hashes_never_change_between_versions():
    assert chain_seed("model", "adapter", "salt") == xxhash.xxh3_64_intdigest(b"model\0adapter\0salt")
    assert token_blocks([1, 2, 3, 4, 5], 2, 7) == text_blocks(
        bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]), 8, 7
    )
