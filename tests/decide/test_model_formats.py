"""Shapes from GGUF metadata, OpenVINO IR and the names of tensors."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.gguf_shape import shape_of_gguf, weights_of_gguf
from penstock.decide.kv_bytes import token_bytes
from penstock.decide.model_shape import Layers, Weights
from penstock.decide.openvino_shape import layers_of_ir
from penstock.decide.quantization import quantized_bytes
from penstock.decide.safetensors_weights import weights_of_tensors
from penstock.kit import gguf, safetensors
from penstock.kit.errors import InvalidInput


def metadata(architecture: str = "llama", **more: Any) -> dict[str, Any]:
    said = {"block_count": 12, "embedding_length": 1024, "attention.head_count": 16, "attention.head_count_kv": 4,
            "feed_forward_length": 4096, "context_length": 8192, **{key.replace("__", "."): value for key, value in more.items()}}  # fmt: skip
    return {
        "general.architecture": architecture,
        **{f"{architecture}.{key}": value for key, value in said.items()},
    }


def test_a_shape_comes_from_the_architectures_own_keys() -> None:
    shape = shape_of_gguf({**metadata(), "tokenizer.ggml.tokens": ["a", "b"]})
    assert shape.layers == (Layers(count=12, kv_heads=4, key_dim=64, value_dim=64),)
    assert (shape.hidden_size, shape.vocabulary, shape.context_tokens) == (1024, 2, 8192)


def test_heads_may_differ_from_layer_to_layer() -> None:
    shape = shape_of_gguf(metadata(attention__head_count_kv=[4] * 9 + [0] * 3))
    assert shape.layers == (Layers(count=9, kv_heads=4, key_dim=64, value_dim=64),)


def test_windows_alternate_as_the_architecture_has_them() -> None:
    counts = {
        one.window: one.count
        for one in shape_of_gguf(metadata("gemma3", attention__sliding_window=512)).layers
    }
    assert counts == {512: 10, 0: 2}
    counts = {
        one.window: one.count
        for one in shape_of_gguf(metadata("gpt-oss", attention__sliding_window=128)).layers
    }
    assert counts == {128: 6, 0: 6}
    assert shape_of_gguf(metadata("phi3", attention__sliding_window=2047)).layers[0].window == 2047


def test_latent_attention_keeps_rank_and_rotated_part() -> None:
    shape = shape_of_gguf(metadata("deepseek2", attention__kv_lora_rank=512, rope__dimension_count=64))
    assert token_bytes(shape) == 12 * 576 * 2


def test_experts_that_are_used_count() -> None:
    shape = shape_of_gguf(metadata(expert_used_count=8, expert_feed_forward_length=768))
    assert (shape.experts_per_token, shape.expert_size) == (8, 768)


def test_encoders_in_gguf_keep_nothing() -> None:
    assert shape_of_gguf(metadata("nomic-bert")).layers == shape_of_gguf(metadata("bert")).layers == ()


@pytest.mark.parametrize("said", [{"block_count": -1}, {"block_count": 1 << 30}, {"attention__head_count_kv": [1, 2]},
                                  {"embedding_length": "wide"}, {"attention__head_count": [True]}])  # fmt: skip
def test_metadata_that_cannot_be_is_refused_by_key(said: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(said)).replace("__", r"\.")):
        shape_of_gguf(metadata(**said))


values: Any = (
    st.none()
    | st.booleans()
    | st.integers(-2, 1 << 66)
    | st.text(max_size=3)
    | st.lists(st.integers(-1, 9), max_size=13)
)
KEYS = ("block_count", "embedding_length", "attention__head_count", "attention__head_count_kv", "attention__key_length", "vocab_size",
        "attention__sliding_window", "attention__kv_lora_rank", "expert_used_count", "feed_forward_length")  # fmt: skip


@given(st.dictionaries(st.sampled_from(KEYS), values))
def test_whatever_metadata_says_there_is_a_shape_or_a_named_error(said: dict[str, Any]) -> None:
    try:
        assert token_bytes(shape_of_gguf(metadata(**said))) >= 0
    except InvalidInput as error:
        assert "llama." in error.message


def test_weights_of_gguf_are_summed_by_type_and_embeddings_are_no_matrices_of_layers() -> None:
    tensors = [gguf.Tensor("token_embd.weight", (256, 10), 12, 0), gguf.Tensor("blk.0.attn_q.weight", (256, 256), 12, 0),
               gguf.Tensor("blk.0.attn_norm.weight", (256,), 0, 0)]  # fmt: skip
    assert weights_of_gguf(tensors, "x") == (
        Weights(dtype="Q4_K", size_bytes=256 * 144, is_linear=True),
        Weights(dtype="Q4_K", size_bytes=10 * 144),
        Weights(dtype="F32", size_bytes=1024),
    )


def test_a_type_of_gguf_that_is_not_known_is_refused_by_number() -> None:
    with pytest.raises(InvalidInput, match="ggml type 999"):
        weights_of_gguf([gguf.Tensor("w", (4,), 999, 0)], "x")


def variable(layer: int, part: str, heads: int, dim: int) -> str:
    return (
        f'<data variable_id="past_key_values.{layer}.{part}present.{layer}.{part}" variable_type="f32" '
        f'variable_shape="?,{heads},?,{dim}" />'
    )


def test_openvinos_variables_say_what_is_kept() -> None:
    xml = "".join(variable(layer, part, 2, 32) * 2 for layer in range(4) for part in ("key", "value"))
    assert layers_of_ir(xml) == (Layers(count=4, kv_heads=2, key_dim=32, value_dim=32),)


def test_a_graph_without_state_or_with_half_of_it_keeps_nothing() -> None:
    assert layers_of_ir("<net/>") == layers_of_ir(variable(0, "key", 2, 32)) == ()


def test_matrices_of_layers_are_what_a_quantiser_makes_smaller() -> None:
    def tensor(*shape: int) -> safetensors.Tensor:
        return safetensors.Tensor("BF16", shape, 100)

    names = {
        "model.layers.0.self_attn.q_proj.weight": tensor(4, 4), "model.layers.0.mlp.experts.gate_up_proj": tensor(8, 4, 4),
        "model.embed_tokens.weight": tensor(9, 4), "lm_head.weight": tensor(9, 4), "model.layers.0.mlp.gate.weight": tensor(8, 4),
        "model.layers.0.input_layernorm.weight": tensor(4), "vision_tower.blocks.0.attn.weight": tensor(4, 4),
    }  # fmt: skip
    linear = {part.is_linear: part.size_bytes for part in weights_of_tensors(names)}
    assert linear == {True: 200, False: 500}


@pytest.mark.parametrize(
    ("method", "bits", "expected"),
    [("fp8", 0, 1024), ("int4", 0, 532), ("awq", 4, 532), ("gptq", 3, 403), ("gptq_marlin", 8, 1048), ("mxfp4", 0, 544), ("new", 0, 1024)],
)  # fmt: skip
def test_quantised_weights_count_with_their_scales(method: str, bits: int, expected: int) -> None:
    assert quantized_bytes(1024, method, bits) == expected
