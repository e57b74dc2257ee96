"""Makes Hugging Face folders with random weights, byte by byte: the reader under test has no part in it."""

import json
import struct
from typing import Any

import numpy as np


def safetensors(tensors: dict[str, np.ndarray[Any, Any]], kinds: dict[str, str] | None = None) -> bytes:
    """A file's bytes. `kinds` names what numpy has no type for (BF16 given as uint16)."""
    named = {"float16": "F16", "float32": "F32", "float64": "F64", "int8": "I8", "uint16": "BF16"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, array in tensors.items():
        kind = (kinds or {}).get(name, named[array.dtype.name])
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(a.tobytes() for a in tensors.values())


def decoder(
    config: dict[str, Any], *, bias: bool = False, norms: bool = False
) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors that a config asks for, with weights that give telling logits."""
    random = np.random.default_rng(3)
    h, f, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv, d = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]

    def matrix(rows: int, columns: int) -> np.ndarray[Any, Any]:
        return (random.standard_normal((rows, columns)) * columns**-0.5).astype(np.float32)

    def vector(size: int) -> np.ndarray[Any, Any]:
        return (1.0 + 0.2 * random.standard_normal(size)).astype(np.float32)

    tensors = {"model.embed_tokens.weight": matrix(v, h) * 3, "model.norm.weight": vector(h)}
    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}."
        for name, rows in (("q", heads * d), ("k", kv * d), ("v", kv * d)):
            tensors[f"{at}self_attn.{name}_proj.weight"] = matrix(rows, h)
            if bias:
                tensors[f"{at}self_attn.{name}_proj.bias"] = vector(rows) - 1
            if norms and name != "v":
                tensors[f"{at}self_attn.{name}_norm.weight"] = vector(d)
        tensors[f"{at}self_attn.o_proj.weight"] = matrix(h, heads * d)
        tensors[f"{at}mlp.gate_proj.weight"] = matrix(f, h)
        tensors[f"{at}mlp.up_proj.weight"] = matrix(f, h)
        tensors[f"{at}mlp.down_proj.weight"] = matrix(h, f)
        tensors[f"{at}input_layernorm.weight"] = vector(h)
        tensors[f"{at}post_attention_layernorm.weight"] = vector(h)
    if not config.get("tie_word_embeddings"):
        tensors["lm_head.weight"] = matrix(v, h)
    return tensors
