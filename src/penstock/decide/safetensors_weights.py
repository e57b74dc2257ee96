"""Which of a model's tensors would a quantiser make smaller?

Matrices of the layers: two dimensions, or three where experts are stacked. Embeddings, the output, routers, norms and what sees or hears
stay as they are, as vLLM and the common recipes leave them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from penstock.decide.model_shape import Weights, added
from penstock.kit.safetensors import Tensor

_KEPT = re.compile(
    r"embed|lm_head|wte|wpe|embed_out|norm|ln_f|\.gate\.weight|router|vision|visual|audio|multi_modal|projector|conv|_scale|scales|\.bias"
)


def weights_of_tensors(tensors: Mapping[str, Tensor]) -> tuple[Weights, ...]:
    """Sums by type."""
    return added(
        Weights(
            dtype=tensor.dtype,
            size_bytes=tensor.size_bytes,
            is_linear=len(tensor.shape) in (2, 3) and not _KEPT.search(name),
        )
        for name, tensor in tensors.items()
    )
