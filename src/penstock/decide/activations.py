"""How much memory does an engine need at the widest moment of one batch?

Two moments compete, and an allocator gives the memory of one to the other. In a layer's feed-forward there are four hidden states (what goes on, its
residual, input and output) and three intermediates (gate and up, and their product) of every token of the batch, in 16 bits; with experts
those of the experts that work on a token. At the end there are the hidden states and the logits of every request, several times: sampling
with top-k and top-p sorts them. Tensor parallelism divides the intermediates, and neither of the others.

Both were found in vLLM's profiling (vllm/v1/worker/gpu_worker.py) by what its starts say of their peak: `benchmarks/fit`.
"""

from __future__ import annotations

from penstock.decide.engine_memory import EngineMemory
from penstock.decide.model_shape import ModelShape

HIDDEN_STATES, INTERMEDIATES = 4, 3
BYTES = 2


def activation_bytes(
    shape: ModelShape, batched_tokens: int, sequences: int, ranks: int, engine: EngineMemory
) -> int:
    """On one of so many ranks, of `batched_tokens` of `sequences` requests."""
    states = batched_tokens * shape.hidden_size * BYTES
    return max(
        _forward(shape, batched_tokens, ranks), states + _sampling(shape, batched_tokens, sequences, engine)
    )


def _forward(shape: ModelShape, batched_tokens: int, ranks: int) -> int:
    dense = -(-INTERMEDIATES * shape.intermediate_size // ranks)
    experts = shape.experts_per_token * (-(-INTERMEDIATES * shape.expert_size // ranks) + shape.hidden_size)
    return batched_tokens * (HIDDEN_STATES * shape.hidden_size + max(dense, experts)) * BYTES


def _sampling(shape: ModelShape, batched_tokens: int, sequences: int, engine: EngineMemory) -> int:
    """None for a model that generates nothing."""
    if not shape.layers:
        return 0
    return int((batched_tokens if engine.all_logits else sequences) * shape.vocabulary * engine.logit_bytes)
