"""What of a model takes memory?

Its weights, and for each token of each request what its attention layers keep. How the files say it is read elsewhere, for each format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

FLOATS = frozenset(("F64", "F32", "F16", "BF16"))
"""Types of weights, as safetensors names them, that an engine can quantise while it loads."""


class Layers(Struct, frozen=True, kw_only=True):
    """Attention layers that keep the same of a token: keys of `key_dim` and values of `value_dim` for each of `kv_heads`.

    With multi-head latent attention (DeepSeek) it is one vector of `latent_dim` numbers instead, whole on every rank. A layer with a
    `window` keeps no more tokens than that; 0 keeps all.
    """

    count: int
    kv_heads: int = 0
    key_dim: int = 0
    value_dim: int = 0
    window: int = 0
    latent_dim: int = 0


class Weights(Struct, frozen=True, kw_only=True):
    """All weights of one type. `is_linear` are matrices that quantisers make smaller: no embeddings, norms or routers."""

    dtype: str
    size_bytes: int
    is_linear: bool = False


class ModelShape(Struct, frozen=True, kw_only=True):
    """Numbers of a model that say how much memory it takes; 0 where they are not known. `quantization` is how its files are quantised.

    `depth` are all layers, also those that keep nothing. `experts_per_token` of `expert_size` work on a token beside the feed-forward of
    `intermediate_size`. `notes` are what is not counted.
    """

    architecture: str = ""
    hidden_size: int = 0
    intermediate_size: int = 0
    heads: int = 0
    vocabulary: int = 0
    context_tokens: int = 0
    layers: tuple[Layers, ...] = ()
    depth: int = 0
    experts_per_token: int = 0
    expert_size: int = 0
    weights: tuple[Weights, ...] = ()
    quantization: str = ""
    notes: tuple[str, ...] = ()

    @property
    def weight_bytes(self) -> int:
        """Of all weights as they are in the files."""
        return sum(part.size_bytes for part in self.weights)


def with_draft(shape: ModelShape, draft: ModelShape) -> ModelShape:
    """Of a model and the smaller one that speculates for it: an engine holds the weights of both, and keeps of each token what both keep."""
    note = f"with a draft of {draft.weight_bytes / (1 << 30):.2f} GiB of weights"
    return replace(
        shape,
        weights=added((*shape.weights, *draft.weights)),
        layers=(*shape.layers, *draft.layers),
        depth=shape.depth + draft.depth,
        notes=(*shape.notes, note),
    )


def added(parts: Iterable[Weights]) -> tuple[Weights, ...]:
    """The sums of the parts that are alike, largest first."""
    sums: Counter[tuple[str, bool]] = Counter()
    for part in parts:
        sums[part.dtype, part.is_linear] += part.size_bytes
    return tuple(
        Weights(dtype=dtype, size_bytes=size, is_linear=linear)
        for (dtype, linear), size in sorted(sums.items(), key=lambda item: (-item[1], item[0]))
        if size
    )


def grouped(layers: Iterable[Layers]) -> tuple[Layers, ...]:
    """Layers that keep the same become one entry; those that keep nothing are left out."""
    counts: Counter[tuple[int, int, int, int, int]] = Counter()
    for one in layers:
        counts[one.kv_heads, one.key_dim, one.value_dim, one.window, one.latent_dim] += one.count
    return tuple(
        Layers(count=count, kv_heads=heads, key_dim=key, value_dim=value, window=window, latent_dim=latent)
        for (heads, key, value, window, latent), count in counts.items()
        if latent or heads * (key + value)
    )
