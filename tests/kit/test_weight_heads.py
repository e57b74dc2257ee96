"""Heads of weight files, from bytes that anybody may have written."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit import gguf, safetensors
from penstock.kit.errors import InvalidInput


def head(**tensors: object) -> bytes:
    return json.dumps(tensors).encode()


def described(dtype: str = "F16", shape: tuple[int, ...] = (2, 3), end: int = 12) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [0, end]}


def test_tensors_are_told_with_their_sizes() -> None:
    found = safetensors.tensors_of(head(w=described(), __metadata__={"format": "pt"}), "x")
    assert found == {"w": safetensors.Tensor("F16", (2, 3), 12)}


def test_four_and_six_bits_count_by_bits() -> None:
    assert safetensors.tensors_of(head(w=described("F4", (4, 2), 4)), "x")["w"].size_bytes == 4


def test_types_that_come_later_count_by_their_offsets() -> None:
    assert safetensors.tensors_of(head(w=described("F1", (8,), 1)), "x")["w"].size_bytes == 1


@pytest.mark.parametrize("prefix", [b"", b"1234567", struct.pack("<Q", 1), struct.pack("<Q", 1 << 40)])
def test_a_length_that_cannot_be_is_refused(prefix: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"m\.safetensors is damaged"):
        safetensors.head_bytes(prefix, "m.safetensors")


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"[" * 100_000, head(w=1), head(w={"dtype": "F16"}), head(w=described(end=13)), head(w=described(shape=(-2, 3))),
     head(w={"dtype": "F16", "shape": [2, 3], "data_offsets": [12, 0]}), head(w={"dtype": "F16", "shape": 3, "data_offsets": [0, 6]}),
     head(w={"dtype": "F16", "shape": [True, 3], "data_offsets": [0, 6]}), head(w={"dtype": "F16", "shape": [1.5], "data_offsets": [0, 3]})],
)  # fmt: skip
def test_a_header_that_lies_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="x is damaged or incomplete") as refused:
        safetensors.tensors_of(content, "x")
    assert refused.value.code == "corrupt_weights"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_refused(content: bytes) -> None:
    try:
        safetensors.tensors_of(content, "x")
    except InvalidInput:
        return
    assert isinstance(json.loads(content), dict)


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


GGUF = (
    struct.pack("<4sIQQ", b"GGUF", 3, 1, 2)
    + string(b"general.architecture") + struct.pack("<I", 8) + string(b"llama")
    + string(b"numbers") + struct.pack("<IIQ3i", 9, 5, 3, 1, 2, 3)
    + string(b"blk.0.w") + struct.pack("<IQQIQ", 2, 256, 4, 12, 0)
)  # fmt: skip


def test_metadata_and_tensors_come_with_where_the_head_ends() -> None:
    found = gguf.read_head(GGUF + b"data", "x")
    assert found.metadata == {"general.architecture": "llama", "numbers": [1, 2, 3]}
    assert found.tensors == (gguf.Tensor("blk.0.w", (256, 4), 12, 0),)
    assert (found.tensors[0].size_bytes, found.size_bytes) == (4 * 144, len(GGUF))


def test_a_type_that_is_not_known_has_no_size() -> None:
    assert gguf.Tensor("w", (4,), 999, 0).size_bytes is None


@given(st.integers(0, len(GGUF) - 1))
def test_a_head_of_which_there_is_too_little_is_cut_off_wherever_it_ends(end: int) -> None:
    with pytest.raises(gguf.CutOff):
        gguf.read_head(GGUF[:end], "x")


@given(st.integers(4, len(GGUF) - 1), st.binary(min_size=1, max_size=8))
def test_a_head_that_was_tampered_with_is_read_refused_or_cut_off(at: int, bytes_there: bytes) -> None:
    tampered = GGUF[:at] + bytes_there + GGUF[at + len(bytes_there) :]
    try:
        gguf.read_head(tampered, "x")
    except (InvalidInput, gguf.CutOff):
        return


def test_lists_are_bounded_also_together() -> None:
    one = string(b"k") + struct.pack("<IIQ", 9, 0, gguf.MAX_ITEMS) + bytes(gguf.MAX_ITEMS)
    with pytest.raises(InvalidInput, match="its lists have more than"):
        gguf.read_head(struct.pack("<4sIQQ", b"GGUF", 3, 0, 5) + one * 5, "x")
