"""Slots for adapters, and drafts that speculate."""

from penstock.decide.engine_memory import GIB, engine_memory
from penstock.decide.lora_bytes import lora_bytes
from penstock.decide.memory_need import Device, Plan, terms
from penstock.decide.model_shape import Layers, ModelShape, Weights, with_draft

LLAMA_8B = ModelShape(
    hidden_size=4096,
    intermediate_size=14336,
    heads=32,
    vocabulary=128256,
    layers=(Layers(count=32, kv_heads=8, key_dim=128, value_dim=128),),
    depth=32,
    weights=(Weights(dtype="BF16", size_bytes=15 * GIB, is_linear=True),),
)
H100 = Device(name="h100", memory_bytes=79 * GIB)


def test_an_adapter_of_rank_16_for_all_layers_of_llama_8b_has_42_million_weights() -> None:
    assert lora_bytes(LLAMA_8B, 1, 16) == 2 * 41_943_040
    assert lora_bytes(LLAMA_8B, 4, 64) == 16 * lora_bytes(LLAMA_8B, 1, 16)


def test_ranks_share_what_is_parallel_and_hold_the_rest_each() -> None:
    alone, half = lora_bytes(LLAMA_8B, 1, 16), lora_bytes(LLAMA_8B, 1, 16, 2)
    assert alone / 2 < half < alone


def test_experts_have_no_adapters() -> None:
    sparse = ModelShape(
        hidden_size=4096, intermediate_size=14336, heads=32, layers=LLAMA_8B.layers, experts_per_token=2
    )
    assert lora_bytes(sparse, 1, 16) == 2 * 16 * 32 * (4 * 4096 + 2 * 4096 + 2048)


def test_adapters_are_a_term_of_their_own() -> None:
    named = {
        term.name: term for term in terms(LLAMA_8B, Plan(loras=4, lora_rank=64), H100, engine_memory("vllm"))
    }
    assert named["adapters"].size_bytes == lora_bytes(LLAMA_8B, 4, 64)
    assert named["adapters"].of == "4 at once, of rank 64"
    assert "adapters" not in {term.name for term in terms(LLAMA_8B, Plan(), H100, engine_memory("vllm"))}


def test_a_draft_adds_its_weights_and_what_it_keeps_of_tokens() -> None:
    draft = ModelShape(
        hidden_size=2048,
        layers=(Layers(count=16, kv_heads=8, key_dim=64, value_dim=64),),
        depth=16,
        weights=(Weights(dtype="BF16", size_bytes=2 * GIB, is_linear=True),),
    )
    both = with_draft(LLAMA_8B, draft)
    assert both.weight_bytes == 17 * GIB and both.depth == 48 and both.hidden_size == 4096
    engine, plan = engine_memory("vllm"), Plan(concurrency=4)
    apart = [terms(shape, plan, H100, engine)[1].size_bytes for shape in (LLAMA_8B, draft)]
    assert terms(both, plan, H100, engine)[1].size_bytes == sum(apart)
    assert "with a draft of 2.00 GiB" in both.notes[-1]
