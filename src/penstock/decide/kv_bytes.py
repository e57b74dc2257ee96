"""How many bytes does a model keep of its requests' tokens?

Per token and layer 2 x heads x head dimension x bytes of a number (keys and values); with multi-head latent attention one vector, and no
factor 2. Tensor parallelism divides the heads among ranks; what cannot be divided is kept on every rank. Engines hand out blocks of
tokens, so every request is rounded up to them. A layer with a sliding window keeps that window: of a request it may straddle one block
more, and while a prompt is computed there is a batch of it beside.
"""

from __future__ import annotations

from fractions import Fraction

from penstock.decide.model_shape import Layers, ModelShape

KV_DTYPES = {
    "auto": Fraction(2), "bfloat16": Fraction(2), "bf16": Fraction(2), "float16": Fraction(2), "fp16": Fraction(2), "f16": Fraction(2),
    "float32": Fraction(4), "f32": Fraction(4), "fp8": Fraction(1), "fp8_e4m3": Fraction(1), "fp8_e5m2": Fraction(1),
    "int8": Fraction(1), "u8": Fraction(1), "q8_0": Fraction(34, 32), "q5_0": Fraction(22, 32), "q4_0": Fraction(18, 32),
    "nvfp4": Fraction(9, 16),
}  # fmt: skip
"""Bytes of one number in the cache, with its share of a block's scale (ggml's types, NVFP4)."""


def rank_token_bytes(layers: Layers, tensor_parallel: int, kv_dtype: str) -> Fraction:
    """Of one token, in all of these layers, on one rank."""
    if layers.latent_dim:
        numbers = layers.latent_dim
    else:
        heads = -(-layers.kv_heads // tensor_parallel)
        numbers = heads * (layers.key_dim + layers.value_dim)
    return layers.count * numbers * KV_DTYPES[kv_dtype]


def token_bytes(shape: ModelShape, tensor_parallel: int = 1, kv_dtype: str = "auto") -> int:
    """Of one token on one rank, in all layers, as long as no window has passed it."""
    return _up(sum((rank_token_bytes(one, tensor_parallel, kv_dtype) for one in shape.layers), Fraction(0)))


def kv_bytes(
    shape: ModelShape,
    concurrency: int,
    context_tokens: int,
    *,
    tensor_parallel: int = 1,
    kv_dtype: str = "auto",
    block_tokens: int = 16,
    batched_tokens: int = 0,
    caps_windows: bool = True,
) -> int:
    """On one rank, for `concurrency` requests of `context_tokens` each, `batched_tokens` of whose prompts may be computed at once.

    An engine that does not cap windows keeps the whole context of every layer.
    """
    total = Fraction(0)
    for layers in shape.layers:
        whole = _blocks(context_tokens, block_tokens)
        blocks = concurrency * whole
        if layers.window and caps_windows:
            within = min(whole, _blocks(layers.window, block_tokens) + 1)
            blocks = min(blocks, concurrency * within + _blocks(batched_tokens, block_tokens))
        total += blocks * block_tokens * rank_token_bytes(layers, tensor_parallel, kv_dtype)
    return _up(total)


def _blocks(tokens: int, block_tokens: int) -> int:
    return -(-tokens // block_tokens)


def _up(number: Fraction) -> int:
    return -(-number.numerator // number.denominator)
