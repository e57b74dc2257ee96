"""How large are a model's weights, by its config.json alone?

For a model whose files cannot be asked: counted as its layers are built (attention, feed-forward or experts, embeddings). Headers of the
weight files say it exactly, and go before this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock.decide.model_config import (
    EXPERT_SIZE,
    EXPERTS,
    FEED_FORWARD,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    VOCABULARY,
    attention_part,
    number,
    quantization_of,
    text_part,
)
from penstock.decide.model_shape import Weights, added
from penstock.decide.quantization import quantized_bytes

UNGATED = frozenset(
    [
        "opt",
        "gpt2",
        "gptj",
        "gpt_neo",
        "gpt_neox",
        "gpt_bigcode",
        "falcon",
        "bloom",
        "phi",
        "mpt",
        "starcoder2",
        "nemotron",
        "bert",
        "roberta",
        "xlm-roberta",
    ]
)
"""Feed-forwards of two matrices; the others have three."""
TIED = frozenset(
    [
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "gemma3n_text",
        "gpt2",
        "gpt_bigcode",
        "opt",
        "falcon",
        "bloom",
        "mpt",
        "cohere",
        "cohere2",
    ]
)
"""The embedding is the output as well, unless the configuration says otherwise."""
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
WIDTH_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


class Parameters(NamedTuple):
    """Numbers of them: in matrices that quantisers make smaller, and in all others (embeddings, routers, norms)."""

    linear: int
    other: int


def parameters(config: Mapping[str, Any]) -> Parameters:
    """Raises InvalidInput, naming the field, for what cannot be."""
    text = text_part(config)
    model_type = str(text.get("model_type") or "")
    hidden, layers = number(text, HIDDEN), number(text, LAYERS)
    matrices = 2 if model_type in UNGATED else 3
    experts = number(text, EXPERTS)
    dense = number(text, FEED_FORWARD, 4 * hidden) * hidden * matrices
    sparse_layers = _sparse_layers(text, layers) if experts else 0
    expert = number(text, EXPERT_SIZE) * hidden * matrices
    shared = _shared_experts(text) * hidden * matrices
    linear = layers * _attention(text, hidden) + (layers - sparse_layers) * dense
    linear += sparse_layers * (experts * expert + shared)
    tied = text.get("tie_word_embeddings")
    tables = 1 if (tied if isinstance(tied, bool) else model_type in TIED) else 2
    norms = (2 * layers + 1) * hidden
    return Parameters(
        linear, tables * number(text, VOCABULARY) * hidden + norms + sparse_layers * experts * hidden
    )


def weights_of(config: Mapping[str, Any]) -> tuple[Weights, ...]:
    """In the type that the configuration names, or as its quantisation stores them. Nothing if it does not say how large the model is."""
    text, count = text_part(config), parameters(config)
    dtype = DTYPES.get(str(text.get("torch_dtype") or text.get("dtype") or "bfloat16"), "BF16")
    method = quantization_of(text)
    linear = count.linear * WIDTH_BYTES[dtype]
    if method:
        details = text.get("quantization_config")
        bits = details.get("bits") if isinstance(details, Mapping) else None
        linear = quantized_bytes(count.linear, method, bits if type(bits) is int else 0)
    return added(
        (
            Weights(dtype=method or dtype, size_bytes=linear, is_linear=True),
            Weights(dtype=dtype, size_bytes=count.other * WIDTH_BYTES[dtype]),
        )
    )


def _attention(text: Mapping[str, Any], hidden: int) -> int:
    heads = number(text, HEADS)
    if not heads:
        return 0
    if rank := number(text, ("kv_lora_rank",)):
        rope = number(text, ("qk_rope_head_dim",))
        key, value = number(text, ("qk_nope_head_dim",)), number(text, ("v_head_dim",))
        low = number(text, ("q_lora_rank",))
        query = low * (hidden + heads * (key + rope)) if low else hidden * heads * (key + rope)
        return query + hidden * (rank + rope) + rank * heads * (key + value) + heads * value * hidden
    head_dim = number(text, HEAD_DIM) or hidden // heads
    kv_heads = number(attention_part(text), KV_HEADS, heads)
    return hidden * head_dim * 2 * (heads + kv_heads)


def _sparse_layers(text: Mapping[str, Any], layers: int) -> int:
    """Layers whose feed-forward is made of experts."""
    first = min(number(text, ("first_k_dense_replace",)), layers)
    every = (
        number(
            text,
            ("decoder_sparse_step", "moe_layer_freq", "interleave_moe_layer_step", "expert_layer_period"),
        )
        or 1
    )
    return (layers - first) // every


def _shared_experts(text: Mapping[str, Any]) -> int:
    """The width of what works on every token beside the experts chosen."""
    width = number(text, ("shared_expert_intermediate_size",))
    return width or number(text, ("n_shared_experts",)) * number(text, EXPERT_SIZE)
