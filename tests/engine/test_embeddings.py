"""Embeddings: the graph against numpy, and the official client against a running engine with a tiny encoder made here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from math import erf
from pathlib import Path

import numpy as np
import openai
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from free_ports import free_port

SIZE, WIDE, LAYERS, HEADS, WORDS, PLACES = 32, 64, 2, 4, 40, 24


def write_encoder(
    folder: Path, architecture: str = "BertModel", *, first_token: bool = False, unit: bool = True
) -> dict[str, np.ndarray]:
    """A random encoder in a Hugging Face folder; its tensors."""
    chance = np.random.default_rng(7)
    folder.mkdir(parents=True)
    shapes = {
        "embeddings.word_embeddings.weight": (WORDS, SIZE),
        "embeddings.position_embeddings.weight": (PLACES, SIZE),
    }
    shapes |= {
        "embeddings.token_type_embeddings.weight": (2, SIZE),
        "embeddings.LayerNorm.weight": (SIZE,),
        "embeddings.LayerNorm.bias": (SIZE,),
    }
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        for name in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        ):
            shapes |= {f"{at}{name}.weight": (SIZE, SIZE), f"{at}{name}.bias": (SIZE,)}
        shapes |= {f"{at}intermediate.dense.weight": (WIDE, SIZE), f"{at}intermediate.dense.bias": (WIDE,)}
        shapes |= {f"{at}output.dense.weight": (SIZE, WIDE), f"{at}output.dense.bias": (SIZE,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{at}{name}.weight": (SIZE,), f"{at}{name}.bias": (SIZE,)}
    tensors = {name: chance.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    header, offset, blobs = {}, 0, []
    for name, array in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
        blobs.append(array.tobytes())
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + b"".join(blobs))
    config = {
        "architectures": [architecture], "hidden_act": "gelu", "hidden_size": SIZE, "intermediate_size": WIDE,
        "layer_norm_eps": 1e-12, "max_position_embeddings": PLACES, "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS, "type_vocab_size": 2, "vocab_size": WORDS, "pad_token_id": 1,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"pooling_mode_cls_token": first_token, "pooling_mode_mean_tokens": not first_token})
    )
    kinds = ["Transformer", "Pooling", *(["Normalize"] if unit else [])]
    (folder / "modules.json").write_text(
        json.dumps([{"type": f"sentence_transformers.models.{k}"} for k in kinds])
    )
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, **{f"w{i}": i for i in range(4, WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return tensors


def expected(
    t: dict[str, np.ndarray],
    ids: list[int],
    *,
    first_place: int = 0,
    first_token: bool = False,
    unit: bool = True,
) -> np.ndarray:
    """The same by hand, in double precision."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * t[f"{name}.weight"]
            + t[f"{name}.bias"]
        )

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ t[f"{name}.weight"].T.astype(np.float64) + t[f"{name}.bias"]

    places = np.arange(len(ids)) + first_place
    x = (
        t["embeddings.word_embeddings.weight"][ids].astype(np.float64)
        + t["embeddings.position_embeddings.weight"][places]
    )
    x = norm(x + t["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        q, k, v = (
            linear(x, f"{at}attention.self.{n}").reshape(len(ids), HEADS, -1).transpose(1, 0, 2)
            for n in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(SIZE // HEADS)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        x = norm(
            x + linear(mixed.transpose(1, 0, 2).reshape(len(ids), SIZE), f"{at}attention.output.dense"),
            f"{at}attention.output.LayerNorm",
        )
        wide = linear(x, f"{at}intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(erf)(wide / np.sqrt(2)))
        x = norm(x + linear(wide, f"{at}output.dense"), f"{at}output.LayerNorm")
    pooled = x[0] if first_token else x.mean(0)
    return pooled / np.linalg.norm(pooled) if unit else pooled


@pytest.mark.parametrize(("architecture", "first_place"), [("BertModel", 0), ("RobertaModel", 2)])
@pytest.mark.parametrize(("first_token", "unit"), [(False, True), (True, True), (False, False)])
def test_the_graph_computes_what_the_paper_says(
    tmp_path: Path, architecture: str, first_place: int, first_token: bool, unit: bool
) -> None:
    from penstock.engine.child import silence_telemetry

    silence_telemetry()
    from penstock.engine.embeddings import Embedder

    tensors = write_encoder(tmp_path / "m", architecture, first_token=first_token, unit=unit)
    embedder = Embedder(tmp_path / "m", tmp_path / "cache", 1)
    texts = [[2, 5, 6, 3], [2, 9, 3], [2, *range(4, 20), 3]]
    found = embedder.embed(texts)
    for row, ids in zip(found, texts, strict=True):
        wanted = expected(tensors, ids, first_place=first_place, first_token=first_token, unit=unit)
        assert np.abs(row - wanted).max() < 5e-3 * max(1.0, float(np.abs(wanted).max())), (
            "weights are kept in half precision"
        )


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("embedder")
    write_encoder(folder / "m")
    port = free_port()
    engine = subprocess.Popen(
        [sys.executable, "-m", "penstock.engine", f"--model_dir={folder / 'm'}", "--model_name=e", f"--http_port={port}", "--host=127.0.0.1"],
        env={**os.environ, "PENSTOCK_CACHE_DIR": str(folder / "cache")}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0)
    try:
        asyncio.run(until_up(port))
        yield client
        engine.send_signal(signal.SIGTERM)
        assert engine.wait(30) == 0
    finally:
        client.close()
        engine.kill()
        engine.wait()


async def until_up(port: int) -> None:
    async with asyncio.timeout(40):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return


def test_the_official_client_gets_one_vector_for_each_text(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="e", input=["w5 w6", "w7"])
    assert [len(d.embedding) for d in answer.data] == [SIZE, SIZE]
    assert answer.usage.prompt_tokens == 7
    again = client.embeddings.create(model="e", input=[[2, 5, 6, 3]], encoding_format="float")
    assert np.allclose(again.data[0].embedding, answer.data[0].embedding, atol=1e-5)
    assert np.isclose(np.linalg.norm(again.data[0].embedding), 1.0, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [[WORDS]]}, "token ids below"),
        ({"input": "w5 " * 100}, "at most 24"),
        ({"input": "w5", "dimensions": 8}, "dimensions"),
        ({"input": "w5", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_field(client: openai.OpenAI, fields: dict, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        client.post("/embeddings", body={"model": "e", **fields}, cast_to=object)


def test_a_model_that_embeds_does_not_chat(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="generates no text"):
        client.chat.completions.create(model="e", messages=[{"role": "user", "content": "x"}])
