"""What a model folder's config.json says, as far as the converter needs it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.kit.errors import InvalidInput, NotFound, PlatformError

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
LLAMA3_FIELDS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


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
    document = read_document(folder)
    names = document.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else "none"
    if architecture not in ARCHITECTURES:
        raise InvalidInput(
            f"config.json: architecture {architecture} is not supported",
            code="unsupported_architecture",
            hint=f"supported are {', '.join(ARCHITECTURES)}; for others choose another runtime, as vllm",
        )
    try:
        return _config(document, architecture)
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"config.json: a value is of the wrong type: {error}", code="corrupt_config"
        ) from None


def context_tokens(folder: Path) -> int | None:
    """How many tokens the model sees at once, whatever its architecture; None if nothing says it."""
    try:
        return count(read_document(folder), "max_position_embeddings")
    except PlatformError:
        return None


def read_document(folder: Path) -> dict[str, Any]:
    """config.json as it is. Raises NotFound, InvalidInput."""
    path = folder / "config.json"
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise NotFound(f"{path}: there is no such file", code="missing_config") from None
    except (ValueError, OSError) as error:
        raise InvalidInput(f"{path.name} is not JSON: {error}", code="corrupt_config") from None
    if not isinstance(document, dict):
        raise InvalidInput(f"{path.name} is not a JSON object", code="corrupt_config")
    return document


def count(document: dict[str, Any], field: str, default: int | None = None) -> int:
    """A positive integer of the document."""
    value = document.get(field)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        found = "nothing" if value is None else json.dumps(value)
        raise InvalidInput(
            f"config.json: {field}: found {found}, expected a positive integer", code="corrupt_config"
        )
    return value


def _config(document: dict[str, Any], architecture: str) -> ModelConfig:
    heads, hidden = count(document, "num_attention_heads"), count(document, "hidden_size")
    _refuse_what_the_graph_lacks(document, architecture)
    rope = _rope(document)
    bias = bool(document.get("attention_bias", False))
    theta = document.get("rope_theta") or rope.get("rope_theta") or 10000.0
    return ModelConfig(
        architecture=architecture,
        vocab_size=count(document, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=count(document, "intermediate_size"),
        layers=count(document, "num_hidden_layers"),
        heads=heads,
        kv_heads=count(document, "num_key_value_heads", heads),
        head_dim=count(document, "head_dim", hidden // heads),
        context_tokens=count(document, "max_position_embeddings"),
        eps=float(document.get("rms_norm_eps", 1e-6)),
        rope_theta=float(theta),
        rope_scaling=rope if rope and _rope_kind(rope) == "llama3" else None,
        tied=bool(document.get("tie_word_embeddings", False)),
        qkv_bias=architecture.startswith("Qwen2") or bias,
        output_bias=bias and not architecture.startswith("Qwen2"),
        qk_norm=architecture.startswith("Qwen3"),
    )


def _refuse_what_the_graph_lacks(document: dict[str, Any], architecture: str) -> None:
    """Each of these would load, and answer nonsense."""
    if document.get("hidden_act", "silu") != "silu":
        raise InvalidInput(
            f"config.json: hidden_act {document['hidden_act']!r}, expected silu", code="unsupported_config"
        )
    sliding = architecture.startswith("Mistral") and document.get("sliding_window")
    if document.get("use_sliding_window") or sliding:
        raise InvalidInput(
            "config.json: sliding-window attention is not supported", code="unsupported_config"
        )
    if document.get("mlp_bias"):
        raise InvalidInput("config.json: mlp_bias is not supported", code="unsupported_config")
    if document.get("quantization_config"):
        raise InvalidInput(
            "config.json: quantization_config: quantized weights are not supported",
            code="unsupported_config",
            hint="give the folder with the float weights, or choose another runtime, as vllm",
        )


def _rope(document: dict[str, Any]) -> dict[str, Any]:
    """Checked: of a kind that the graph knows, with all its numbers."""
    rope: dict[str, Any] = document.get("rope_scaling") or document.get("rope_parameters") or {}
    kind = _rope_kind(rope)
    if kind not in ("default", "llama3"):
        raise InvalidInput(f"config.json: rope scaling {kind!r} is not supported", code="unsupported_config")
    for field in LLAMA3_FIELDS if kind == "llama3" else ():
        if not isinstance(rope.get(field), int | float):
            raise InvalidInput(
                f"config.json: rope scaling llama3: {field}: found {rope.get(field)!r}, expected a number",
                code="corrupt_config",
            )
    return rope


def _rope_kind(rope: dict[str, Any]) -> str:
    return str(rope.get("rope_type", rope.get("type", "default")))
