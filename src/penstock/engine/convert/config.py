"""What a model folder's config.json says, as far as the converter needs it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.kit.errors import InvalidInput, NotFound

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A decoder of the Llama family. `rope_scaling` is llama3's, or None."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context_tokens: int
    eps: float
    rope_theta: float
    rope_scaling: dict[str, Any] | None
    tied: bool
    qkv_bias: bool
    output_bias: bool
    qk_norm: bool


def read_config(folder: Path) -> ModelConfig:
    """Raises NotFound, or InvalidInput that names the field or the architecture."""
    path = folder / "config.json"
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise NotFound(f"{path}: there is no such file", code="missing_config") from None
    except (ValueError, OSError) as error:
        raise InvalidInput(f"{path.name} is not JSON: {error}", code="corrupt_config") from None
    names = document.get("architectures") or ["none"]
    architecture = str(names[0])
    if architecture not in ARCHITECTURES:
        raise InvalidInput(
            f"config.json: architecture {architecture} is not supported",
            code="unsupported_architecture",
            hint=f"supported are {', '.join(ARCHITECTURES)}; for others choose another runtime, as vllm",
        )
    try:
        return _config(document, architecture)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"config.json: {error!r} is missing or wrong", code="corrupt_config") from None


def _config(document: dict[str, Any], architecture: str) -> ModelConfig:
    heads, hidden = int(document["num_attention_heads"]), int(document["hidden_size"])
    if document.get("hidden_act", "silu") != "silu":
        raise InvalidInput(
            f"config.json: hidden_act {document['hidden_act']!r}, expected silu", code="unsupported_config"
        )
    rope = document.get("rope_scaling") or document.get("rope_parameters") or None
    kind = (rope or {}).get("rope_type", (rope or {}).get("type", "default"))
    if kind not in ("default", "llama3"):
        raise InvalidInput(f"config.json: rope scaling {kind!r} is not supported", code="unsupported_config")
    if document.get("use_sliding_window") or (
        architecture.startswith("Mistral") and document.get("sliding_window")
    ):
        raise InvalidInput(
            "config.json: sliding-window attention is not supported", code="unsupported_config"
        )
    bias = bool(document.get("attention_bias", False))
    theta = document.get("rope_theta") or (rope or {}).get("rope_theta") or 10000.0
    return ModelConfig(
        architecture=architecture,
        vocab_size=int(document["vocab_size"]),
        hidden_size=hidden,
        intermediate_size=int(document["intermediate_size"]),
        layers=int(document["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(document.get("num_key_value_heads") or heads),
        head_dim=int(document.get("head_dim") or hidden // heads),
        context_tokens=int(document["max_position_embeddings"]),
        eps=float(document.get("rms_norm_eps", 1e-6)),
        rope_theta=float(theta),
        rope_scaling=rope if kind == "llama3" else None,
        tied=bool(document.get("tie_word_embeddings", False)),
        qkv_bias=architecture.startswith("Qwen2") or bias,
        output_bias=bias and not architecture.startswith("Qwen2"),
        qk_norm=architecture.startswith("Qwen3"),
    )
