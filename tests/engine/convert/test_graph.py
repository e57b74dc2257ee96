"""The converted graph computes what the architecture's papers say, written down here a second time in numpy."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from checkpoints import decoder, safetensors

from penstock.engine.convert.config import ModelConfig, _config, _rope
from penstock.engine.convert.graph import build_model, rope_frequencies
from penstock.engine.convert.safetensors import Weights
from penstock.kit.errors import InvalidInput

Array = np.ndarray[Any, Any]
SHAPE: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {}),
    "llama, tied": ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "llama 3 rope": ("LlamaForCausalLM", {"rope_scaling": LLAMA3}),
    "llama, one head each": ("LlamaForCausalLM", {"num_key_value_heads": 4}),
    "mistral": ("MistralForCausalLM", {}),
    "qwen 2": ("Qwen2ForCausalLM", {}),
    "qwen 3": ("Qwen3ForCausalLM", {}),
}


def rounded(matrix: Array) -> Array:
    """Eight bits per row with a half-precision scale, as the converter stores weights."""
    scale = np.maximum(np.abs(matrix).max(axis=1, keepdims=True) / 127, 1e-8).astype(np.float16)
    return np.rint(matrix / scale.astype(np.float32)).clip(-127, 127) * scale.astype(np.float32)


def reference(c: ModelConfig, w: dict[str, Array], ids: list[int]) -> Array:
    """Logits of one sequence, [tokens, vocabulary]."""

    def linear(x: Array, name: str) -> Array:
        return x @ rounded(w[f"{name}.weight"]).T + w.get(f"{name}.bias", 0.0)

    def norm(x: Array, name: str) -> Array:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + c.eps) * w[name]

    angles = np.arange(len(ids))[:, None] * rope_frequencies(c).astype(np.float64)

    def turn(x: Array) -> Array:
        one, two = x[..., : c.head_dim // 2], x[..., c.head_dim // 2 :]
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        return np.concatenate([one * cos - two * sin, two * cos + one * sin], -1)

    x = rounded(w["model.embed_tokens.weight"])[ids]
    for i in range(c.layers):
        at = f"model.layers.{i}."
        h = norm(x, at + "input_layernorm.weight")
        q, k, v = (
            linear(h, f"{at}self_attn.{n}_proj").reshape(len(ids), -1, c.head_dim) for n in ("q", "k", "v")
        )
        if c.qk_norm:
            q, k = (
                norm(q, at + "self_attn.q_norm.weight"),
                norm(k, at + "self_attn.k_norm.weight"),
            )
        q, k = turn(q), turn(k)
        k, v = (np.repeat(a, c.heads // c.kv_heads, axis=1) for a in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(c.head_dim)
        scores = np.where(np.tri(len(ids), dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        x = x + linear(np.einsum("hqk,khd->qhd", shares, v).reshape(len(ids), -1), f"{at}self_attn.o_proj")
        h = norm(x, at + "post_attention_layernorm.weight")
        gate = linear(h, f"{at}mlp.gate_proj")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, f"{at}mlp.up_proj"), f"{at}mlp.down_proj")
    head = "model.embed_tokens" if c.tied else "lm_head"
    return linear(norm(x, "model.norm.weight"), head)


def logits(request: Any, ids: list[int], past: int) -> Array:
    inputs = {
        "input_ids": np.array([ids]),
        "attention_mask": np.ones((1, past + len(ids)), dtype=np.int64),
        "position_ids": np.arange(past, past + len(ids))[None],
        "beam_idx": np.array([0], dtype=np.int32),
    }
    return next(iter(request.infer(inputs).values())).copy()[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_computes_what_the_architecture_says_also_in_two_parts(tmp_path: Path, family: str) -> None:
    architecture, changed = FAMILIES[family]
    document = SHAPE | changed
    config = _config(document, architecture)
    tensors = decoder(document, bias=config.qkv_bias, norms=config.qk_norm)
    (tmp_path / "model.safetensors").write_bytes(safetensors(tensors))
    model = build_model(config, Weights(tmp_path))
    precise = {
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
    request = ov.Core().compile_model(model, "CPU", precise).create_infer_request()
    ids = [int(n) for n in np.random.default_rng(5).integers(0, config.vocab_size, 40)]
    expected = reference(config, tensors, ids)
    whole = logits(request, ids, 0)
    request.reset_state()
    parts = np.concatenate([logits(request, ids[:23], 0), logits(request, ids[23:], 23)])
    assert np.abs(expected).max() > 1, "logits that say nothing would prove nothing"
    np.testing.assert_allclose(whole, expected, atol=2e-3)
    np.testing.assert_allclose(parts, expected, atol=2e-3)


def test_llama3_leaves_high_frequencies_and_divides_low_ones() -> None:
    document = SHAPE | {"head_dim": 64, "rope_scaling": LLAMA3}
    plain = rope_frequencies(_config(SHAPE | {"head_dim": 64}, "LlamaForCausalLM"))
    stretched = rope_frequencies(_config(document, "LlamaForCausalLM"))
    length = 2 * np.pi / plain
    high, low = length < 32 / 4.0, length > 32 / 1.0
    assert high.any()
    assert low.any()
    np.testing.assert_allclose(stretched[high], plain[high], rtol=1e-6)
    np.testing.assert_allclose(stretched[low], plain[low] / 4.0, rtol=1e-6)
    assert _rope(document)["factor"] == 4.0


def test_a_tensor_that_is_missing_is_named(tmp_path: Path) -> None:
    tensors = decoder(SHAPE)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    (tmp_path / "model.safetensors").write_bytes(safetensors(tensors))
    with pytest.raises(InvalidInput, match=r"no tensor 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        build_model(_config(SHAPE, "LlamaForCausalLM"), Weights(tmp_path))
