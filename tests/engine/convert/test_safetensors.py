"""Tensors come out as they were written; a damaged file is named, never half read."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import safetensors
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.convert.safetensors import Weights, weight_files
from penstock.kit.errors import InvalidInput, NotFound, PlatformError

GRID = np.arange(12, dtype=np.float32).reshape(3, 4) / 4


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_every_float_type_reads_as_float32(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors({"pad": GRID[0], "x": GRID.astype(kind)}))
    found = Weights(tmp_path).array("x", (3, 4))
    assert found.dtype == np.float32
    assert (found == GRID).all()


def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path: Path) -> None:
    upper = (GRID.view(np.uint32) >> 16).astype(np.uint16)
    (tmp_path / "model.safetensors").write_bytes(safetensors({"x": upper}))
    assert (Weights(tmp_path).array("x", (3, 4)) == GRID).all()


def test_a_model_in_parts_is_read_through_its_index(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(safetensors({"x": GRID}))
    (tmp_path / "b.safetensors").write_bytes(safetensors({"y": GRID}))
    (tmp_path / "stray.safetensors").write_bytes(b"not of this model")
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    weights = Weights(tmp_path)
    assert "x" in weights
    assert "y" in weights
    assert "z" not in weights


def test_an_index_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.safetensors").write_bytes(safetensors({"x": GRID}))
    index = {"weight_map": {"x": "../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(NotFound, match=r"secret\.safetensors: named by"):
        weight_files(folder)


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": []}', "{}"])
def test_a_damaged_index_is_named(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InvalidInput, match="is not a weight index"):
        weight_files(tmp_path)


def test_a_folder_without_weights_is_told_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as refused:
        Weights(tmp_path)
    assert "tokenizer.json" in refused.value.hint


def test_a_tensor_is_checked_against_what_config_says(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors({"x": GRID}))
    weights = Weights(tmp_path)
    with pytest.raises(InvalidInput, match=r"found shape \[3, 4\], expected \[4, 3\]"):
        weights.array("x", (4, 3))
    with pytest.raises(InvalidInput, match="no tensor 'y'"):
        weights.array("y", (4, 3))


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    broken = GRID.copy()
    broken[1, 1] = np.nan
    (tmp_path / "model.safetensors").write_bytes(safetensors({"x": broken}))
    with pytest.raises(InvalidInput, match="no numbers"):
        Weights(tmp_path).array("x", (3, 4))


def test_a_type_that_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors({"x": GRID.astype(np.int8)}))
    with pytest.raises(InvalidInput, match="has type I8") as refused:
        Weights(tmp_path)
    assert refused.value.code == "unsupported_weights"


def entry(**changed: Any) -> bytes:
    described = {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]} | changed
    text = json.dumps({"x": described}).encode()
    return struct.pack("<Q", len(text)) + text + GRID.tobytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}"[:1],
        struct.pack("<Q", 3) + b"{,}",
        entry(data_offsets=[0, 44]),
        entry(data_offsets=[4, 52]),
        entry(data_offsets=[-4, 44]),
        entry(data_offsets=[0]),
        entry(shape=[2**32, 2**32]),
        entry(shape="big"),
        entry()[:-1],
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"model\.safetensors is damaged") as refused:
        Weights(tmp_path)
    assert refused.value.code == "corrupt_weights"


@given(
    cut=st.integers(0, 150),
    at=st.integers(0, 149),
    byte=st.integers(0, 255),
)
def test_no_damage_raises_anything_but_the_platforms_errors(
    tmp_path_factory: pytest.TempPathFactory, cut: int, at: int, byte: int
) -> None:
    data = bytearray(safetensors({"x": GRID}))
    data[at % len(data)] = byte
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "model.safetensors").write_bytes(bytes(data[: len(data) - cut]))
    try:
        array = Weights(folder).array("x", (3, 4))
    except PlatformError:
        return
    assert array.shape == (3, 4)
