"""Shapes from the configurations of the main families, as their config.json names things."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.kv_bytes import token_bytes
from penstock.decide.model_config import shape_of
from penstock.decide.model_shape import Layers
from penstock.decide.model_size import parameters, weights_of
from penstock.kit.errors import InvalidInput

BASE: dict[str, Any] = {
    "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 16, "intermediate_size": 4096, "vocab_size": 32000,
}  # fmt: skip


def layers(**more: Any) -> tuple[Layers, ...]:
    return shape_of({**BASE, **more}).layers


def one(count: int = 12, kv: int = 16, dim: int = 64, window: int = 0) -> Layers:
    return Layers(count=count, kv_heads=kv, key_dim=dim, value_dim=dim, window=window)


def test_without_grouped_queries_every_head_keeps_its_own() -> None:
    assert layers() == (one(),)


def test_grouped_queries_and_an_own_head_dimension() -> None:
    assert layers(num_key_value_heads=4, head_dim=128) == (one(kv=4, dim=128),)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257}, (12, 12, 64)),
        ({"model_type": "falcon", "num_hidden_layers": 32, "hidden_size": 4544, "num_attention_heads": 71, "multi_query": True}, (32, 1, 64)),
        ({"model_type": "falcon", "num_hidden_layers": 60, "hidden_size": 8192, "num_attention_heads": 128, "num_kv_heads": 8,
          "multi_query": True, "new_decoder_architecture": True}, (60, 8, 64)),
        ({"model_type": "gpt_neox", "num_hidden_layers": 44, "hidden_size": 6144, "num_attention_heads": 64}, (44, 64, 96)),
        ({"model_type": "opt", "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "ffn_dim": 3072}, (12, 12, 64)),
        ({"model_type": "mpt", "n_layers": 32, "d_model": 4096, "n_heads": 32, "attn_config": {"kv_n_heads": 8}}, (32, 8, 128)),
        ({"model_type": "chatglm", "num_layers": 28, "hidden_size": 4096, "num_attention_heads": 32, "multi_query_attention": True,
          "multi_query_group_num": 2, "kv_channels": 128}, (28, 2, 128)),
    ],
)  # fmt: skip
def test_older_families_name_things_their_own_way(
    config: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    count, kv, dim = expected
    assert shape_of(config).layers == (one(count, kv, dim),)


def test_latent_attention_keeps_its_rank_and_the_rotated_part() -> None:
    assert layers(kv_lora_rank=512, qk_rope_head_dim=64) == (Layers(count=12, latent_dim=576),)


def test_encoders_keep_nothing() -> None:
    assert layers(model_type="bert", architectures=["BertModel"]) == ()


def test_an_encoder_and_decoder_keeps_what_both_said() -> None:
    assert layers(is_encoder_decoder=True, decoder_layers=6, model_type="bart") == (one(count=12),)


@pytest.mark.parametrize(
    ("said", "whole", "windowed"),
    [
        ({"sliding_window": 4096, "model_type": "mistral"}, 0, 12),
        ({"sliding_window": None, "model_type": "mistral"}, 12, 0),
        ({"sliding_window": 4096, "use_sliding_window": False, "model_type": "qwen2"}, 12, 0),
        ({"sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 9, "model_type": "qwen2"}, 9, 3),
        ({"sliding_window": 4096, "model_type": "gemma2"}, 6, 6),
        ({"sliding_window": 4096, "model_type": "gemma3_text"}, 2, 10),
        ({"sliding_window": 4096, "model_type": "x", "sliding_window_pattern": 4}, 3, 9),
        ({"sliding_window": 4096, "layer_types": ["sliding_attention", "full_attention"] * 6}, 6, 6),
        ({"attention_chunk_size": 4096, "layer_types": ["chunked_attention"] * 9 + ["full_attention"] * 3}, 3, 9),
        ({"sliding_window": 4096, "layer_types": ["sliding_attention", "full_attention"] * 6, "num_kv_shared_layers": 4}, 4, 4),
    ],
)  # fmt: skip
def test_windows_are_of_the_layers_that_have_them(said: dict[str, Any], whole: int, windowed: int) -> None:
    counts = {layer.window: layer.count for layer in layers(**said)}
    assert counts == {window: count for window, count in ((0, whole), (4096, windowed)) if count}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"layer_types": ["linear_attention"] * 9 + ["full_attention"] * 3}, 3),
        ({"full_attention_interval": 4}, 3),
        ({"attn_layer_period": 8, "attn_layer_offset": 4}, 1),
        ({"hybrid_override_pattern": "M-M*-M-M*-M-"}, 2),
        ({"model_type": "mamba"}, 0),
    ],
)
def test_layers_with_a_state_keep_no_tokens_and_are_told_of(said: dict[str, Any], kept: int) -> None:
    shape = shape_of({**BASE, **said})
    assert sum(layer.count for layer in shape.layers) == kept
    assert "a state of fixed size" in shape.notes[0]


def test_the_language_part_of_a_multimodal_model_is_what_counts() -> None:
    text = {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "num_hidden_layers": 34,
        "intermediate_size": 10240,
        "sliding_window": 1024,
    }
    shape = shape_of(
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "vision_config": {"hidden_size": 1152},
            "text_config": text,
        }
    )
    assert shape.architecture == "Gemma3ForConditionalGeneration"
    assert (shape.heads, shape.vocabulary, shape.hidden_size) == (8, 262208, 2560)
    assert {layer.window: layer.count for layer in shape.layers} == {0: 5, 1024: 29}
    assert all(layer.kv_heads == 4 and layer.key_dim == 256 for layer in shape.layers)


def test_experts_and_quantisation_are_named() -> None:
    shape = shape_of(
        {
            **BASE,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "quantization_config": {"quant_method": "mxfp4"},
        }
    )
    assert (shape.experts_per_token, shape.expert_size, shape.quantization) == (2, 4096, "mxfp4")


def test_a_model_without_layers_says_that_nothing_is_counted() -> None:
    shape = shape_of({"model_type": "resnet"})
    assert shape.layers == () and "does not say how many layers" in shape.notes[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_hidden_layers", -1), ("num_hidden_layers", 10**6), ("hidden_size", "big"), ("num_attention_heads", True),
     ("head_dim", 1.5), ("vocab_size", 1 << 60), ("num_attention_heads", 0)],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"config\.json"):
        layers(**{field: value})


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 70) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("model_type", "text_config", "layer_types", "sliding_window", "attn_config", "quantization_config", "num_experts",
          "architectures", "kv_lora_rank", "hybrid_override_pattern", "full_attention_interval", "head_dim", "num_hidden_layers",
          "first_k_dense_replace", "num_kv_shared_layers")  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_whatever_a_config_says_there_is_a_shape_or_a_named_error(said: dict[str, Any]) -> None:
    config = {**BASE, **said}
    try:
        assert token_bytes(shape_of(config)) >= 0
        assert parameters(config).linear >= 0
        assert sum(part.size_bytes for part in weights_of(config)) >= 0
    except InvalidInput as error:
        assert "config.json" in error.message


def test_tied_embeddings_are_counted_once() -> None:
    tied, own = (parameters({**BASE, "tie_word_embeddings": tied}) for tied in (True, False))
    assert own.other - tied.other == 32000 * 1024 and own.linear == tied.linear


def test_the_size_of_deepseek_v3_is_as_published() -> None:
    count = parameters(
        {"model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128, "vocab_size": 129280,
         "intermediate_size": 18432, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
         "v_head_dim": 128, "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
         "first_k_dense_replace": 3, "moe_layer_freq": 1, "tie_word_embeddings": False}
    )  # fmt: skip
    assert round((count.linear + count.other) / 1e9, 1) == 671.0


def test_files_that_are_quantised_are_estimated_with_their_scales() -> None:
    awq = {**BASE, "quantization_config": {"quant_method": "awq", "bits": 4}}
    half = sum(part.size_bytes for part in weights_of(awq) if part.is_linear)
    whole = sum(part.size_bytes for part in weights_of(BASE) if part.is_linear)
    assert 3.7 < whole / half < 4.0
