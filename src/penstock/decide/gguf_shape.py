"""What shape does a model have, by the metadata of a GGUF file?

Source: ggml's GGUF specification for the keys' names, llama.cpp for which layers of an architecture have a window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.decide.model_config import ENCODERS, MAX_LAYERS, MAX_NUMBER, PATTERNS
from penstock.decide.model_shape import Layers, ModelShape, Weights, added, grouped
from penstock.kit.errors import InvalidInput
from penstock.kit.gguf import BLOCKS, Tensor

UNSPLIT = ("token_embd", "output.weight", "per_layer_token_embd", "_norm", "ffn_gate_inp")
"""In the names of tensors that are no matrices of a layer."""
_DASHED = {"gpt-oss": "gpt_oss", "nomic-bert": "nomic_bert"}


def shape_of_gguf(metadata: Mapping[str, Any]) -> ModelShape:
    """Everything but the weights. Raises InvalidInput, naming the key, for what cannot be."""
    architecture = str(metadata.get("general.architecture") or "")
    keys = _Keys(metadata, architecture)
    hidden, heads = keys.number("embedding_length"), keys.largest("attention.head_count")
    experts = keys.number("expert_used_count")
    tokens = metadata.get("tokenizer.ggml.tokens")
    return ModelShape(
        architecture=architecture,
        hidden_size=hidden,
        intermediate_size=keys.largest("feed_forward_length") or 4 * hidden,
        heads=heads,
        vocabulary=keys.number("vocab_size") or (len(tokens) if isinstance(tokens, list) else 0),
        context_tokens=keys.number("context_length"),
        layers=_layers(keys, architecture, hidden, heads),
        depth=keys.number("block_count"),
        experts_per_token=experts,
        expert_size=(keys.number("expert_feed_forward_length") or keys.largest("feed_forward_length"))
        if experts
        else 0,
    )


def weights_of_gguf(tensors: Sequence[Tensor], name: str) -> tuple[Weights, ...]:
    """By ggml's types. Raises InvalidInput for a type that is not known, of which the size cannot be told."""
    parts = []
    for tensor in tensors:
        size = tensor.size_bytes
        if size is None:
            raise InvalidInput(
                f"{name}: tensor {tensor.name[:80]!r} is of ggml type {tensor.kind}, which is not known here",
                code="unsupported_weights",
            )
        linear = len(tensor.shape) > 1 and not any(part in tensor.name for part in UNSPLIT)
        parts.append(Weights(dtype=BLOCKS[tensor.kind].name, size_bytes=size, is_linear=linear))
    return added(parts)


def _layers(keys: _Keys, architecture: str, hidden: int, heads: int) -> tuple[Layers, ...]:
    known_as = _DASHED.get(architecture, architecture.replace("-", "_"))
    count = keys.number("block_count")
    if not count or not heads or known_as in {name.replace("-", "_") for name in ENCODERS}:
        return ()
    if count > MAX_LAYERS:
        raise InvalidInput(
            f"{architecture}.block_count: found {count}, expected at most {MAX_LAYERS}",
            code="corrupt_weights",
        )
    window, every = (
        keys.number("attention.sliding_window"),
        keys.number("attention.sliding_window_pattern") or PATTERNS.get(known_as, 1),
    )
    windows = [0 if every > 1 and (index + 1) % every == 0 else window for index in range(count)]
    if latent := keys.number("attention.kv_lora_rank"):
        return grouped(
            Layers(count=1, latent_dim=latent + keys.number("rope.dimension_count"), window=one)
            for one in windows
        )
    key = keys.number("attention.key_length") or hidden // heads
    value = keys.number("attention.value_length") or key
    kv_heads = keys.per_layer("attention.head_count_kv", count, heads)
    return grouped(
        Layers(count=1, kv_heads=kv, key_dim=key, value_dim=value, window=one)
        for kv, one in zip(kv_heads, windows, strict=True)
    )


class _Keys:
    """The architecture's own keys, checked."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        self._metadata, self._prefix = metadata, architecture

    def number(self, key: str) -> int:
        value = self._metadata.get(f"{self._prefix}.{key}")
        return 0 if isinstance(value, list) else self._checked(key, 0 if value is None else value)

    def largest(self, key: str) -> int:
        value = self._metadata.get(f"{self._prefix}.{key}")
        values = (
            value if isinstance(value, list) and value else [0 if value is None or value == [] else value]
        )
        return max(self._checked(key, one) for one in values)

    def per_layer(self, key: str, count: int, default: int) -> list[int]:
        value = self._metadata.get(f"{self._prefix}.{key}")
        if isinstance(value, list):
            if len(value) != count:
                raise InvalidInput(
                    f"{self._prefix}.{key}: found {len(value)} values for {count} layers",
                    code="corrupt_weights",
                )
            return [self._checked(key, one) for one in value]
        return [self._checked(key, value) if value is not None else default] * count

    def _checked(self, key: str, value: Any) -> int:
        if type(value) is not int or not 0 <= value <= MAX_NUMBER:
            raise InvalidInput(
                f"{self._prefix}.{key}: found {str(value)[:60]!r}, expected a natural number",
                code="corrupt_weights",
            )
        return value
