"""Writes GGUF files for tests: any head, or the model that ships as llama.cpp's converter would write it."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from engine_process import TINY

from penstock.engine.convert.safetensors import Weights

ALIGNMENT = 32
Arrays = dict[str, np.ndarray[Any, Any]]


def write_gguf(path: Path, metadata: dict[str, Any], tensors: Arrays | None = None) -> Path:
    """Tensors in float16 or float32. Numbers are written as u32, in lists as i32."""
    path.write_bytes(gguf_bytes(metadata, tensors or {}))
    return path


def gguf_bytes(metadata: dict[str, Any], tensors: Arrays) -> bytes:
    described, data = b"", b""
    for name, array in tensors.items():
        data += b"\0" * (-len(data) % ALIGNMENT)
        shape = array.shape[::-1]  # ggml counts the fastest dimension first
        kind = {"float32": 0, "float16": 1}[array.dtype.name]
        described += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(data))
        data += array.tobytes()
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    head += b"".join(string(key) + value(found) for key, found in metadata.items()) + described
    return head + b"\0" * (-len(head) % ALIGNMENT) + data if tensors else head


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(found: Any) -> bytes:
    if isinstance(found, str):
        return struct.pack("<I", 8) + string(found)
    if isinstance(found, bool):
        return struct.pack("<I?", 7, found)
    if isinstance(found, int):
        return struct.pack("<II", 4, found)
    if isinstance(found, float):
        return struct.pack("<If", 6, found)
    if found and isinstance(found[0], str):
        return struct.pack("<IIQ", 9, 8, len(found)) + b"".join(map(string, found))
    return struct.pack(f"<IIQ{len(found)}i", 9, 5, len(found), *found)


def tiny_metadata() -> dict[str, Any]:
    """Of the model that ships."""
    config = json.loads((TINY / "config.json").read_text())
    tokenizer = json.loads((TINY / "tokenizer.json").read_text())
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    names = {number: name for name, number in tokenizer["model"]["vocab"].items()}
    names |= {number: token["content"] for number, token in added.items()}
    kinds = [(3 if added[n]["special"] else 4) if n in added else 1 for n in range(len(names))]
    return {
        "general.architecture": "llama",
        "general.file_type": 1,
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.block_count": config["num_hidden_layers"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "llama.rope.freq_base": config["rope_theta"],
        "llama.rope.dimension_count": config["head_dim"],
        "llama.vocab_size": config["vocab_size"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [names[n] for n in range(len(names))],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in tokenizer["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": json.loads((TINY / "tokenizer_config.json").read_text())["chat_template"],
    }


def tiny_tensors() -> Arrays:
    """ggml turns neighbours where the original turns halves, so the rows of q and k change places."""
    config = json.loads((TINY / "config.json").read_text())
    hidden, inner, vocabulary = (config[name] for name in ("hidden_size", "intermediate_size", "vocab_size"))
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    kv = kv_heads * config["head_dim"]
    weights = Weights(TINY)
    found: Arrays = {
        "token_embd.weight": weights.array("model.embed_tokens.weight", (vocabulary, hidden)).astype("f2"),
        "output_norm.weight": weights.array("model.norm.weight", (hidden,)),
    }
    for n in range(config["num_hidden_layers"]):
        parts: list[tuple[str, str, tuple[int, ...]]] = [
            ("attn_norm", "input_layernorm", (hidden,)),
            ("ffn_norm", "post_attention_layernorm", (hidden,)),
            ("attn_q", "self_attn.q_proj", (hidden, hidden)),
            ("attn_k", "self_attn.k_proj", (kv, hidden)),
            ("attn_v", "self_attn.v_proj", (kv, hidden)),
            ("attn_output", "self_attn.o_proj", (hidden, hidden)),
            ("ffn_gate", "mlp.gate_proj", (inner, hidden)),
            ("ffn_up", "mlp.up_proj", (inner, hidden)),
            ("ffn_down", "mlp.down_proj", (hidden, inner)),
        ]
        for to, source, shape in parts:
            array = weights.array(f"model.layers.{n}.{source}.weight", shape)
            if to in {"attn_q", "attn_k"}:
                count = heads if to == "attn_q" else kv_heads
                array = array.reshape(count, 2, -1, hidden).swapaxes(1, 2).reshape(shape)
            found[f"blk.{n}.{to}.weight"] = array if len(shape) == 1 else array.astype("f2")
    return found
