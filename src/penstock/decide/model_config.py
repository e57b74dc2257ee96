"""What shape does a model have, by its config.json?

Families name the same numbers differently; each number is looked for under all its names. Sources: the configuration classes of
Hugging Face's transformers, and for what a layer keeps, the papers (GQA, MLA in DeepSeek-V2, sliding windows in Mistral 7B and Gemma 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.decide.model_shape import Layers, ModelShape, grouped
from penstock.kit.errors import InvalidInput

MAX_LAYERS = 4096
MAX_NUMBER = 1 << 40
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "kv_n_heads")
HEAD_DIM = ("head_dim", "attention_head_dim", "kv_channels", "d_kv")
FEED_FORWARD = (
    "intermediate_size",
    "ffn_dim",
    "n_inner",
    "ffn_hidden_size",
    "d_ff",
    "hidden_dim",
    "decoder_ffn_dim",
)
VOCABULARY = ("vocab_size", "padded_vocab_size")
CONTEXT = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "n_ctx",
    "max_target_positions",
)
EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "top_k_experts")
EXPERT_SIZE = ("moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size", "ffn_dim")
NESTED = ("text_config", "llm_config", "language_config", "thinker_config", "decoder")
ENCODERS = frozenset(
    [
        "bert",
        "roberta",
        "xlm-roberta",
        "distilbert",
        "electra",
        "deberta",
        "deberta-v2",
        "mpnet",
        "albert",
        "camembert",
        "nomic_bert",
        "modernbert",
        "new",
        "vit",
        "clip",
        "siglip",
        "dinov2",
        "wav2vec2",
        "esm",
    ]
)
RECURRENT = frozenset(["mamba", "mamba2", "rwkv", "rwkv5", "rwkv6", "rwkv7", "falcon_mamba"])
DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
    },
    "gemma2": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000},
    "llama": {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "intermediate_size": 11008,
    },
    "mistral": {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
    },
}
"""What transformers takes where the configuration of a multimodal model's language part leaves it out."""
PATTERNS: Mapping[str, int] = {
    "gemma2": 2,
    "gemma3": 6,
    "gemma3_text": 6,
    "cohere2": 4,
    "gpt_oss": 2,
    "exaone4": 4,
}
"""Every so-manieth layer keeps the whole context, the others a window."""
_STATE = "{} of {} layers keep a state of fixed size for each request, which is not counted"


def text_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the language model, which multimodal models nest; with what transformers assumes for it."""
    inner = next((config[name] for name in NESTED if isinstance(config.get(name), Mapping)), None)
    if inner is None:
        return dict(config)
    inner = text_part(inner)
    defaults = DEFAULTS.get(str(inner.get("model_type")), {})
    above = {
        name: config[name]
        for name in ("quantization_config", "torch_dtype", "dtype", "tie_word_embeddings")
        if name in config
    }
    said = {name: value for name, value in inner.items() if value is not None}
    return {"architectures": config.get("architectures"), **defaults, **above, **said}


def number(config: Mapping[str, Any], names: tuple[str, ...], default: int = 0) -> int:
    """The first of the names that holds one; lists (OpenELM, DeciLM) count by their largest. Raises InvalidInput for what is none."""
    for name in names:
        value = config.get(name)
        if isinstance(value, list) and value and all(type(item) is int for item in value):
            value = max(value)
        if value is None:
            continue
        if type(value) is not int or not 0 <= value <= MAX_NUMBER:
            raise InvalidInput(
                f"config.json: {name}: found {str(value)[:60]!r}, expected a natural number",
                code="corrupt_config",
            )
        return value
    return default


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """Everything but the weights. Raises InvalidInput, naming the field, for what cannot be."""
    text = text_part(config)
    named = text.get("architectures")
    attention = attention_part(text)
    hidden, heads = number(text, HIDDEN), number(attention, HEADS)
    expert_size = number(text, EXPERT_SIZE) if number(text, EXPERTS) else 0
    layers, notes = _layers(text, attention, hidden, heads)
    return ModelShape(
        architecture=str(named[0])
        if isinstance(named, list) and named
        else str(text.get("model_type") or ""),
        hidden_size=hidden,
        intermediate_size=number(text, FEED_FORWARD, 4 * hidden),
        heads=heads,
        vocabulary=number(text, VOCABULARY),
        context_tokens=number(text, CONTEXT),
        layers=layers,
        depth=number(text, LAYERS),
        experts_per_token=number(text, EXPERTS_PER_TOKEN) if expert_size else 0,
        expert_size=expert_size,
        quantization=quantization_of(text),
        notes=notes,
    )


def quantization_of(config: Mapping[str, Any]) -> str:
    """How the files are quantised, by the method's name; empty if they are not."""
    found = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(found, Mapping):
        return ""
    return str(found.get("quant_method") or found.get("format") or "unknown")[:40]


def attention_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """With what MPT and DBRX nest, and Falcon's way to say how many heads keep keys and values."""
    nested = config.get("attn_config")
    found = {**config, **nested} if isinstance(nested, Mapping) else dict(config)
    if (
        found.get("multi_query") is True
        and not found.get("new_decoder_architecture")
        and "multi_query_group_num" not in found
    ):
        found["num_key_value_heads"] = 1
    return found


def _layers(
    text: Mapping[str, Any], attention: Mapping[str, Any], hidden: int, heads: int
) -> tuple[tuple[Layers, ...], tuple[str, ...]]:
    model_type = str(text.get("model_type") or "")
    count = number(text, LAYERS)
    if text.get("is_encoder_decoder") is True:
        count = number(text, ("num_decoder_layers", "decoder_layers", *LAYERS))
    if model_type in ENCODERS and not text.get("is_decoder"):
        return (), ()
    if not count or not hidden:
        return (), ("config.json does not say how many layers it has, so that its KV cache is not counted",)
    if count > MAX_LAYERS:
        raise InvalidInput(
            f"config.json: found {count} layers, expected at most {MAX_LAYERS}", code="corrupt_config"
        )
    kinds = _kinds(text, model_type, count)
    kept = [kind for kind in kinds if kind >= 0]
    notes = (_STATE.format(len(kinds) - len(kept), count),) if len(kept) < len(kinds) else ()
    if rank := number(text, ("kv_lora_rank",)):
        latent = rank + number(text, ("qk_rope_head_dim",))
        return grouped(Layers(count=1, latent_dim=latent, window=window) for window in kept), notes
    if not heads:
        raise InvalidInput("config.json: found no number of attention heads", code="corrupt_config")
    kv_heads = number(attention, KV_HEADS, heads)
    head_dim = number(text, HEAD_DIM) or hidden // heads
    cross = 2 if text.get("is_encoder_decoder") is True else 1  # what the encoder said is kept as well
    values = number(text, ("v_head_dim",)) or head_dim
    return (
        grouped(
            Layers(count=cross, kv_heads=kv_heads, key_dim=head_dim, value_dim=values, window=window)
            for window in kept
        ),
        notes,
    )


def _kinds(text: Mapping[str, Any], model_type: str, count: int) -> list[int]:
    """For each layer its window, 0 for the whole context, -1 if it keeps nothing of single tokens."""
    if model_type in RECURRENT:
        return [-1] * count
    window = number(text, ("sliding_window", "sliding_window_size", "attention_chunk_size"))
    if text.get("use_sliding_window") is False:
        window = 0
    named = text.get("layer_types") or text.get("layers_block_type")
    if isinstance(named, list) and len(named) == count:
        return _shared(text, [_named_kind(str(kind), window) for kind in named])
    if isinstance(pattern := text.get("hybrid_override_pattern"), str):
        return [0 if kind == "*" else -1 for kind in pattern[:MAX_LAYERS]]
    if every := number(text, ("full_attention_interval", "attn_layer_period")):
        offset = number(text, ("attn_layer_offset",), every - 1)
        return [0 if index % every == offset else -1 for index in range(count)]
    every = number(text, ("sliding_window_pattern",)) or PATTERNS.get(model_type, 0)
    if every and window:
        return _shared(text, [0 if (index + 1) % every == 0 else window for index in range(count)])
    if text.get("use_sliding_window") is True and (first := number(text, ("max_window_layers",))):
        return [0 if index < first else window for index in range(count)]
    return _shared(text, [window] * count)


def _named_kind(kind: str, window: int) -> int:
    if kind in ("sliding_attention", "chunked_attention"):
        return window
    return 0 if "attention" in kind and "linear" not in kind else -1


def _shared(text: Mapping[str, Any], kinds: list[int]) -> list[int]:
    """Without the last layers where these use what earlier ones keep (Gemma 3n)."""
    shared = min(number(text, ("num_kv_shared_layers",)), len(kinds))
    return kinds[: len(kinds) - shared]
