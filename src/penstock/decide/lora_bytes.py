"""How much memory do slots for LoRA adapters take?

vLLM makes room for as many adapters as may be used at once, of the highest rank, when it starts (vllm/lora/layers): for each linear layer a matrix
from its inputs to the rank and one from the rank to its outputs, in 16 bits. Ranks of tensor parallelism divide the outputs of a layer whose
outputs they share, and the inputs of one whose inputs they share. Experts have none.
"""

from __future__ import annotations

from penstock.decide.model_shape import Layers, ModelShape

BYTES = 2


def lora_bytes(shape: ModelShape, adapters: int, rank: int, tensor_parallel: int = 1) -> int:
    """On one GPU, for `adapters` of this rank."""
    widths = sum(layers.count * _widths(shape, layers, tensor_parallel) for layers in shape.layers)
    return adapters * rank * widths * BYTES


def _widths(shape: ModelShape, layers: Layers, ranks: int) -> int:
    """Of one decoder layer: inputs and outputs of its matrices, as far as they are on one GPU."""
    hidden = shape.hidden_size
    queries = shape.heads * (layers.key_dim or layers.latent_dim)
    kept = layers.kv_heads * (layers.key_dim + layers.value_dim)
    attention = 3 * hidden + -(-(queries + kept) // ranks) + -(-queries // ranks) + hidden
    if shape.experts_per_token:
        return attention
    inner = -(-shape.intermediate_size // ranks)
    return attention + 2 * (hidden + inner) + inner + hidden
