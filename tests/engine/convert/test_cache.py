"""A model is converted once, found by its content, and never found half-made."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from checkpoints import decoder, safetensors
from gguf_files import write_gguf

from penstock.engine.convert import cache as cached
from penstock.engine.convert.cache import IR, loadable
from penstock.kit.errors import InvalidInput, NotFound, Unavailable

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 16,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(safetensors(decoder(CONFIG)))
    return folder


def test_a_model_is_converted_once_and_then_found(model: Path, tmp_path: Path) -> None:
    made = loadable(model, tmp_path / "cache")
    born = (made / IR).stat().st_mtime_ns
    assert (made / "openvino_model.bin").exists()
    assert loadable(model, tmp_path / "cache") == made
    assert (made / IR).stat().st_mtime_ns == born


def test_the_same_model_in_another_folder_is_the_same_model(model: Path, tmp_path: Path) -> None:
    made = loadable(model, tmp_path / "cache")
    assert loadable(model.rename(tmp_path / "moved"), tmp_path / "cache") == made


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_other_content_is_another_model(model: Path, tmp_path: Path, name: str) -> None:
    made = loadable(model, tmp_path / "cache")
    if name == "config.json":
        (model / name).write_text(json.dumps(CONFIG | {"rms_norm_eps": 1e-3}))
    else:
        data = bytearray((model / name).read_bytes())
        data[-1] ^= 1
        (model / name).write_bytes(bytes(data))
    assert loadable(model, tmp_path / "cache") != made


def test_replicas_that_start_together_share_one_conversion(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversions: list[Path] = []
    convert = cached._convert

    def counted(folder: Path, target: Path, build: Any) -> None:
        conversions.append(target)
        convert(folder, target, build)

    monkeypatch.setattr(cached, "_convert", counted)
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: loadable(model, tmp_path / "cache"), range(4)))
    assert len(made) == len(conversions) == 1


def test_a_conversion_that_fails_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    tensors = decoder(CONFIG)
    del tensors["lm_head.weight"], tensors["model.norm.weight"]
    (model / "model.safetensors").write_bytes(safetensors(tensors))
    with pytest.raises(InvalidInput, match=r"model\.norm\.weight"):
        loadable(model, tmp_path / "cache")
    left = list((tmp_path / "cache" / "openvino").iterdir())
    assert [path.suffix for path in left] == [".lock"]


def test_what_a_killed_conversion_left_is_cleared(model: Path, tmp_path: Path) -> None:
    made = loadable(model, tmp_path / "cache")
    made.rename(made.with_name(f".making-{made.name}"))
    (made.with_name(f".making-{made.name}") / IR).write_text("half")
    assert loadable(model, tmp_path / "cache") == made
    assert (made / IR).stat().st_size > 1000
    assert {path.suffix for path in made.parent.iterdir()} == {"", ".lock"}


def test_a_cache_that_is_no_folder_is_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(Unavailable, match="cannot be used as a cache") as refused:
        loadable(model, tmp_path / "cache")
    assert refused.value.code == "cache_unusable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(Unavailable, match="cannot be used as a cache"):
        loadable(model, tmp_path / "cache")


def test_openvino_and_gguf_are_taken_as_they_are(tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf", {"general.architecture": "llama", "tokenizer.ggml.model": "gpt2"})
    assert loadable(tmp_path, tmp_path / "cache") == tmp_path / "x.gguf"
    (tmp_path / IR).write_text("<net/>")
    (tmp_path / "openvino_model.bin").write_bytes(b"")
    assert loadable(tmp_path, tmp_path / "cache") == tmp_path
    assert not (tmp_path / "cache").exists()


def test_a_graph_without_its_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / IR).write_text("<net/>")
    with pytest.raises(NotFound, match=r"no openvino_model\.bin"):
        loadable(tmp_path, tmp_path / "cache")


def test_a_folder_with_neither_is_told_of_config_json(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"config\.json"):
        loadable(tmp_path, tmp_path / "cache")
