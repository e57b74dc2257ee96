"""The widest moment of a batch: a feed-forward or sampling, whichever is more."""

import json
from pathlib import Path

import pytest
from benchmarks.fit.reported import compared
from msgspec.structs import replace

from penstock.decide.activations import activation_bytes
from penstock.decide.engine_memory import GIB, MIB, engine_memory
from penstock.decide.memory_need import Device, Plan, graph_bytes, outside_bytes, terms
from penstock.decide.model_shape import Layers, ModelShape

SHAPE = ModelShape(
    hidden_size=4096,
    intermediate_size=14336,
    vocabulary=128256,
    layers=(Layers(count=32, kv_heads=8, key_dim=128, value_dim=128),),
)
VLLM = engine_memory("vllm")
CONFIGS = {
    model["name"]: model["config"]
    for model in json.loads((Path(__file__).parents[2] / "benchmarks" / "fit" / "models.json").read_text())
}


def test_a_large_batch_of_few_requests_is_widest_in_its_feed_forward() -> None:
    assert activation_bytes(SHAPE, 8192, 1, 1, VLLM) == 8192 * (4 * 4096 + 3 * 14336) * 2


def test_many_requests_are_widest_where_their_tokens_are_sampled() -> None:
    of_logits = int(1024 * 128256 * 38.4)
    assert activation_bytes(SHAPE, 2048, 1024, 1, VLLM) == of_logits + 2048 * 4096 * 2


def test_ranks_share_intermediates_and_neither_hidden_states_nor_logits() -> None:
    assert activation_bytes(SHAPE, 8192, 1, 2, VLLM) == 8192 * (4 * 4096 + 3 * 14336 // 2) * 2
    assert activation_bytes(SHAPE, 2048, 1024, 8, VLLM) == activation_bytes(SHAPE, 2048, 1024, 1, VLLM)


def test_a_model_that_generates_nothing_samples_nothing() -> None:
    encoder = replace(SHAPE, layers=())
    assert activation_bytes(encoder, 2048, 1024, 1, VLLM) == 2048 * (4 * 4096 + 3 * 14336) * 2


def test_newer_versions_sample_in_one_kernel() -> None:
    new, old = engine_memory("vllm", "0.27"), engine_memory("vllm", "0.25")
    assert activation_bytes(SHAPE, 2048, 256, 1, new) < activation_bytes(SHAPE, 2048, 256, 1, old) / 2


def test_graphs_count_towards_the_share_since_0_21_and_beside_it_before() -> None:
    plan, device = Plan(concurrency=1), Device(name="l40s", memory_bytes=44 * GIB)
    old, new = engine_memory("vllm", "0.20.1"), engine_memory("vllm", "0.21")
    assert graph_bytes(SHAPE, new) == 32 * 20 * MIB
    assert outside_bytes(SHAPE, plan, old) - outside_bytes(SHAPE, plan, new) == graph_bytes(SHAPE, new)
    engines = [terms(SHAPE, plan, device, engine)[3].size_bytes for engine in (new, old)]
    assert engines[0] - engines[1] == graph_bytes(SHAPE, new)
    eager = replace(plan, is_eager=True)
    assert terms(SHAPE, eager, device, new)[3].size_bytes == engines[1]
    assert outside_bytes(SHAPE, eager, old) == outside_bytes(SHAPE, plan, new)


@pytest.mark.parametrize(
    ("gpu", "gib", "ranks", "mib"), [("l40s", 44, 1, 80), ("l40s", 44, 4, 285), ("a100-40gb", 39, 2, 1514)]
)
def test_collectives_keep_buffers_where_ranks_share_a_model_and_more_over_nvlink(
    gpu: str, gib: int, ranks: int, mib: int
) -> None:
    assert VLLM.overhead(gpu, gib * GIB, ranks) == mib * MIB


def test_vllm_makes_room_for_more_requests_on_large_gpus() -> None:
    assert [VLLM.sequences(gpu, gib * GIB) for gpu, gib in (("l4", 22), ("h100", 79), ("a100-80gb", 79))] == [
        256,
        1024,
        256,
    ]
    assert engine_memory("vllm", "0.6.5").sequences("h100", 79 * GIB) == 256
    assert engine_memory("sglang").sequences("h100", 79 * GIB) == 0


def test_starts_that_others_published_took_what_is_estimated_for_them() -> None:
    held_out = [one for one in compared(CONFIGS) if one.held_out and one.beside_gib]
    assert len(held_out) >= 8
    for one in held_out:
        assert one.beside_gib is not None
        estimate, reported = one.beside_gib
        assert abs(estimate / reported - 1.0) < 0.05, one.name
