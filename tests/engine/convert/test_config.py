"""config.json is read, or refused by the name of what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.engine.convert.config import ARCHITECTURES, context_tokens, read_config
from penstock.kit.errors import InvalidInput, NotFound, PlatformError

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def write(folder: Path, document: Any) -> Path:
    (folder / "config.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return folder


def test_what_is_left_out_has_the_defaults_of_the_family(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, LLAMA))
    assert (config.kv_heads, config.head_dim, config.rope_theta) == (4, 16, 10000.0)
    assert (config.eps, config.tied, config.qkv_bias, config.qk_norm) == (1e-6, False, False, False)


def test_null_means_left_out(tmp_path: Path) -> None:
    document = LLAMA | {"head_dim": None, "num_key_value_heads": None, "rope_scaling": None}
    assert read_config(write(tmp_path, document)).head_dim == 16


@pytest.mark.parametrize(
    ("architecture", "qkv_bias", "qk_norm"),
    [
        ("LlamaForCausalLM", False, False),
        ("MistralForCausalLM", False, False),
        ("Qwen2ForCausalLM", True, False),
        ("Qwen3ForCausalLM", False, True),
    ],
)
def test_families_differ_in_biases_and_norms(
    tmp_path: Path, architecture: str, qkv_bias: bool, qk_norm: bool
) -> None:
    config = read_config(write(tmp_path, LLAMA | {"architectures": [architecture]}))
    assert (config.qkv_bias, config.output_bias, config.qk_norm) == (qkv_bias, False, qk_norm)


@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
def test_llama3_rope_is_read_under_both_names(tmp_path: Path, field: str) -> None:
    config = read_config(write(tmp_path, LLAMA | {field: LLAMA3_ROPE | {"rope_theta": 5e5}}))
    assert config.rope_scaling is not None
    assert config.rope_scaling["factor"] == 8.0
    assert config.rope_theta == 5e5


@pytest.mark.parametrize(
    ("document", "code", "says"),
    [
        ("{", "corrupt_config", "is not JSON"),
        ([1], "corrupt_config", "is not a JSON object"),
        ({}, "unsupported_architecture", "none"),
        (LLAMA | {"architectures": ["GPT2LMHeadModel"]}, "unsupported_architecture", "GPT2LMHeadModel"),
        (LLAMA | {"architectures": "Llama"}, "unsupported_architecture", "none"),
        (LLAMA | {"vocab_size": "many"}, "corrupt_config", 'vocab_size: found "many"'),
        (LLAMA | {"num_attention_heads": 0}, "corrupt_config", "num_attention_heads: found 0"),
        (LLAMA | {"hidden_size": None}, "corrupt_config", "hidden_size: found nothing"),
        (LLAMA | {"rms_norm_eps": []}, "corrupt_config", "wrong type"),
        (LLAMA | {"rope_scaling": "llama3"}, "corrupt_config", "wrong type"),
        (LLAMA | {"rope_scaling": LLAMA3_ROPE | {"factor": None}}, "corrupt_config", "factor"),
        (LLAMA | {"rope_scaling": {"type": "yarn"}}, "unsupported_config", "yarn"),
        (LLAMA | {"hidden_act": "gelu"}, "unsupported_config", "gelu"),
        (LLAMA | {"mlp_bias": True}, "unsupported_config", "mlp_bias"),
        (LLAMA | {"use_sliding_window": True}, "unsupported_config", "sliding-window"),
        (LLAMA | {"quantization_config": {"bits": 4}}, "unsupported_config", "quantization_config"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    tmp_path: Path, document: Any, code: str, says: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_config(write(tmp_path, document))
    assert refused.value.code == code
    assert says in refused.value.message


def test_a_mistral_with_a_window_is_refused_and_a_llama_that_mentions_one_is_not(tmp_path: Path) -> None:
    read_config(write(tmp_path, LLAMA | {"sliding_window": 4096}))
    with pytest.raises(InvalidInput):
        read_config(
            write(tmp_path, LLAMA | {"architectures": ["MistralForCausalLM"], "sliding_window": 4096})
        )


def test_an_unsupported_architecture_is_told_what_is_supported(tmp_path: Path) -> None:
    with pytest.raises(PlatformError) as refused:
        read_config(write(tmp_path, LLAMA | {"architectures": ["T5"]}))
    assert all(name in refused.value.hint for name in ARCHITECTURES)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as refused:
        read_config(tmp_path)
    assert str(tmp_path / "config.json") in refused.value.message


def test_the_context_is_known_of_architectures_that_are_not_converted(tmp_path: Path) -> None:
    assert context_tokens(tmp_path) is None
    assert context_tokens(write(tmp_path, {"architectures": ["T5"], "max_position_embeddings": 77})) == 77
