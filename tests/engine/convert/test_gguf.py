"""The head of a GGUF file: read exactly, and refused by name wherever it is cut, garbled or of another kind."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_files import gguf_bytes, write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.convert.gguf import Gguf, check_readable, read_gguf
from penstock.kit.errors import InvalidInput
from penstock.kit.gguf import MAX_ITEMS, Tensor

READABLE: dict[str, Any] = {"general.architecture": "llama", "tokenizer.ggml.model": "gpt2", "a": ["é", ""]}
TENSORS = {"x.weight": np.ones((3, 2), "f2"), "y.weight": np.ones(5, "f4")}
WHOLE = gguf_bytes(READABLE, TENSORS)
values = st.one_of(
    st.text(max_size=9),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.floats(width=32, allow_nan=False),
    st.lists(st.text(max_size=5), min_size=1, max_size=4),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf") / "model.gguf"


@given(st.dictionaries(st.text(max_size=9), values, max_size=6))
@settings(deadline=None)
def test_what_was_written_is_read(file: Path, metadata: dict[str, Any]) -> None:
    alignment = {"general.alignment": 32}
    assert read_gguf(write_gguf(file, metadata | alignment, TENSORS)).metadata == metadata | alignment


def test_tensors_are_described_and_not_read(file: Path) -> None:
    assert read_gguf(write_gguf(file, READABLE, TENSORS)).tensors == (
        Tensor("x.weight", (2, 3), 1, 0),
        Tensor("y.weight", (5,), 0, 32),
    )


def test_data_begins_where_the_alignment_says(file: Path) -> None:
    aligned = {"a": "x" * 8, "general.alignment": 256}
    head = len(gguf_bytes(aligned, {}))
    file.write_bytes(gguf_bytes(aligned, {"x": np.ones(64, "f4")}))
    with pytest.raises(InvalidInput, match="ends at byte 256 of its data"):
        read_gguf(file)
    with file.open("ab") as longer:
        longer.truncate(512)
    assert head < 256
    assert read_gguf(file).tensors[0].shape == (64,)


@given(st.integers(0, len(WHOLE) - 1))
@settings(deadline=None)
def test_a_file_that_was_cut_off_anywhere_is_refused_by_name(file: Path, size: int) -> None:
    file.write_bytes(WHOLE[:size])
    with pytest.raises(InvalidInput, match=r"model\.gguf is damaged or incomplete") as refused:
        read_gguf(file)
    assert refused.value.code == "corrupt_weights"


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=8))
@settings(deadline=None, max_examples=300)
def test_garbled_bytes_are_refused_or_read_as_something_and_never_crash(
    file: Path, place: int, garbage: bytes
) -> None:
    file.write_bytes((WHOLE[:place] + garbage + WHOLE[place + len(garbage) :])[: len(WHOLE)])
    try:
        check_readable(read_gguf(file))
    except InvalidInput as error:
        assert "model.gguf" in error.message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\3\4" + WHOLE[4:], "begins with"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 2**63, 0), f"counts {2**63} tensors"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**63), f"counts {2**63} keys"),
        (struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 2**63), "does not end within"),
        (struct.pack("<4sIQQQI", b"GGUF", 3, 0, 1, 0, 13), "a value of type 13"),
        (struct.pack("<4sIQQQIIQ", b"GGUF", 3, 0, 1, 0, 9, 4, MAX_ITEMS + 1), "items of a list"),
        (struct.pack("<4sIQQQIIQ", b"GGUF", 3, 0, 1, 0, 9, 9, 1), "a value of type 9"),
        (struct.pack("<4sIQQQ2s", b"GGUF", 3, 0, 1, 2, b"\xff\xff"), "not UTF-8"),
        (struct.pack("<4sIQQQI", b"GGUF", 3, 1, 0, 0, 9), "counts 9 dimensions"),
    ],
)
def test_a_head_that_lies_is_refused_before_anything_is_made_of_it(
    file: Path, content: bytes, says: str
) -> None:
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=says):
        read_gguf(file)


@pytest.mark.parametrize("version", [1, 4, 3 << 24])
def test_other_versions_and_byte_orders_are_refused(file: Path, version: int) -> None:
    file.write_bytes(WHOLE[:4] + struct.pack("<I", version) + WHOLE[8:])
    with pytest.raises(InvalidInput, match=f"GGUF version {version}, expected 2 or 3"):
        read_gguf(file)


def test_what_the_library_reads_passes(file: Path) -> None:
    check_readable(read_gguf(write_gguf(file, READABLE, TENSORS)))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"general.architecture": "gemma"}, "architecture 'gemma', expected llama, qwen2, qwen3"),
        ({"general.architecture": 7}, "general.architecture: found int, expected a string"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model 'llama', expected gpt2"),
        ({"llama.rope.scaling.type": "yarn"}, "RoPE scaling, which would be ignored"),
    ],
)
def test_what_would_load_wrongly_or_not_at_all_is_refused_by_name(
    file: Path, changed: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        check_readable(read_gguf(write_gguf(file, READABLE | changed)))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"rope_freqs.weight": np.ones(4, "f4")}, "RoPE scaling"),
        ({"w": np.ones((2, 2), "f4")}, "tensor 'w' is of ggml type F32, expected F16, Q4_0"),
    ],
)
def test_tensors_that_would_be_ignored_or_not_read_are_refused_by_name(
    file: Path, tensors: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        check_readable(read_gguf(write_gguf(file, READABLE, tensors)))


def test_a_quantisation_that_is_not_read_is_named_by_its_number(file: Path) -> None:
    with pytest.raises(InvalidInput, match="tensor 'q' is of ggml type Q5_K"):
        check_readable(Gguf(file, READABLE, (Tensor("q", (256, 2), 13, 0),)))


def test_values_are_of_the_type_that_is_asked_for(file: Path) -> None:
    gguf = Gguf(file, {"n": -1, "t": "x", "l": [1], "f": True}, ())
    assert (gguf.text("t"), gguf.text("none"), gguf.number("none"), gguf.flag("f")) == ("x", "", None, True)
    assert gguf.numbers("l") == [1]
    for ask in (
        lambda: gguf.number("n"),
        lambda: gguf.number("f"),
        lambda: gguf.flag("n"),
        lambda: gguf.text("l"),
        lambda: gguf.texts("l"),
        lambda: gguf.texts("none"),
    ):
        with pytest.raises(InvalidInput, match=r"model\.gguf is damaged"):
            ask()
