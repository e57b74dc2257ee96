"""Certificates: the inequality, what to tell the engine, and the smallest changes that would make it hold."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.contracts.devices import GpuType
from penstock.decide.engine_memory import ENGINES, GIB, engine_memory, usual_engine
from penstock.decide.fit import Certificate, fit
from penstock.decide.fit_changes import Question, least_changes, longest_context, most_requests
from penstock.decide.fit_error import Learned
from penstock.decide.kv_bytes import token_bytes
from penstock.decide.memory_need import Device, Plan, device_of, terms
from penstock.decide.model_config import shape_of
from penstock.decide.model_shape import ModelShape, Weights
from penstock.decide.model_size import weights_of
from penstock.kit.errors import InvalidInput

MODELS = json.loads((Path(__file__).parents[2] / "benchmarks" / "fit" / "models.json").read_text())
PUBLISHED = [model for model in MODELS if model["kv_kib_per_token"] is not None]
H100 = Device(name="h100", memory_bytes=int(79.1 * GIB))
H200 = Device(name="h200", memory_bytes=int(139.8 * GIB))
L4 = Device(name="l4", memory_bytes=int(22 * GIB))
V100 = Device(name="v100", memory_bytes=int(31 * GIB), can_fp8=False)
VLLM = engine_memory("vllm")


def shape(name: str) -> ModelShape:
    config: dict[str, Any] = next(model["config"] for model in MODELS if model["name"] == name)
    return replace(shape_of(config), weights=weights_of(config))


LLAMA_8B, LLAMA_70B, GEMMA = shape("Llama-3-8B"), shape("Llama-3-70B"), shape("Gemma-2-9B")


def asked(model: ModelShape, device: Device = H100, engine: str = "vllm", **plan: Any) -> Question:
    return Question(model, Plan(**plan), device, engine_memory(engine), devices=(L4, H100, H200))


def certified(model: ModelShape, device: Device = H100, engine: str = "vllm", **plan: Any) -> Certificate:
    return fit(asked(model, device, engine, **plan))


@pytest.mark.parametrize("model", PUBLISHED, ids=[model["name"] for model in PUBLISHED])
def test_cache_and_weights_of_public_models_are_as_published(model: dict[str, Any]) -> None:
    found = shape(model["name"])
    assert token_bytes(found) / 1024 == model["kv_kib_per_token"]
    if (weights := model["weights_gib"]) is not None:
        digits = 0 if weights >= 400 else 1
        assert abs(found.weight_bytes / GIB - weights) <= 0.6 * 10**-digits


def test_the_need_is_the_sum_of_its_terms_and_said_so() -> None:
    answer = certified(LLAMA_8B, concurrency=32, context_tokens=8192)
    assert answer.fits and not answer.changes
    assert answer.need_bytes == sum(term.size_bytes for term in answer.terms) <= answer.usable_bytes
    assert [term.name for term in answer.terms] == ["weights", "kv cache", "activations", "engine"]
    assert answer.inequality == (
        "14.96 weights + 32.00 kv cache + 0.91 activations + 0.70 engine = 48.57 <= 72.77 GiB = 0.92 x 79.10 of h100"
    )


def test_vllm_is_told_the_bytes_of_the_cache_rather_than_a_share() -> None:
    told = certified(
        LLAMA_8B, concurrency=32, context_tokens=8192, kv_dtype="fp8", quantization="fp8"
    ).arguments
    assert f"--kv-cache-memory-bytes={16 * GIB}" in told
    assert told[0] == "--gpu-memory-utilization=0.33"
    assert {"--max-model-len=8192", "--max-num-seqs=32", "--kv-cache-dtype=fp8", "--quantization=fp8"} <= set(
        told
    )


def test_other_engines_are_not_told_what_only_vllm_knows() -> None:
    assert certified(LLAMA_8B, engine="llama-cpp", context_tokens=8192).arguments == ()


def test_what_does_not_fit_comes_with_changes_that_each_suffice() -> None:
    question = asked(LLAMA_8B, L4, concurrency=32, context_tokens=8192)
    answer = fit(question)
    assert not answer.fits and " > " in answer.inequality and not answer.arguments
    assert [change.text for change in answer.changes] == [
        "shorten the context to 1104 tokens",
        "serve 4 requests at once",
        "spread it over 4 GPUs (tensor parallel 4)",
        "take a h100 (79.1 GiB)",
    ]
    assert all(question.fits(change.plan, change.device) for change in answer.changes)


def test_the_shortened_context_is_the_longest_that_fits_and_so_is_the_number_of_requests() -> None:
    question = asked(LLAMA_8B, L4, concurrency=32, context_tokens=8192)
    context, count = longest_context(question), most_requests(question)
    assert question.fits(replace(question.plan, context_tokens=context))
    assert not question.fits(replace(question.plan, context_tokens=context + 16))
    assert question.fits(replace(question.plan, concurrency=count))
    assert not question.fits(replace(question.plan, concurrency=count + 1))


def test_where_no_change_alone_suffices_several_do_together() -> None:
    question = Question(LLAMA_70B, Plan(concurrency=8, context_tokens=8192), L4, VLLM, devices=(L4, H100))
    changes = least_changes(question)
    assert changes and all(question.fits(change.plan, change.device) for change in changes)
    assert changes[0].text == "spread it over 16 GPUs (tensor parallel 16)"
    large = Question(shape("Llama-3.1-405B"), Plan(), L4, VLLM, devices=(L4, H100))
    assert [change.text for change in least_changes(large)] == [
        "spread it over 16 x h100 (79.1 GiB each)",
        "have its weights in fp8, and spread it over 8 x h100 (79.1 GiB each)",
        "have its weights in 4 bits (AWQ, GPTQ), and spread it over 4 x h100 (79.1 GiB each)",
    ]


def test_a_little_too_much_is_helped_by_a_larger_share_of_the_gpu() -> None:
    changes = least_changes(asked(LLAMA_8B, concurrency=57, context_tokens=8192))
    assert any("let the engine take 0.94 of the GPU" in change.text for change in changes)


def test_fp8_is_not_offered_where_the_gpu_has_no_kernels_for_it() -> None:
    texts = [
        change.text for change in least_changes(asked(LLAMA_8B, V100, concurrency=16, context_tokens=8192))
    ]
    assert texts and not any("fp8" in text for text in texts)


def test_nothing_known_may_help_and_then_nothing_is_said() -> None:
    huge = replace(LLAMA_70B, weights=(Weights(dtype="unknown", size_bytes=1 << 50),))
    answer = certified(huge)
    assert (
        not answer.fits and answer.changes == () and answer.most_requests == 0 and answer.longest_context == 0
    )


def test_weights_that_are_quantised_already_stay_as_they_are() -> None:
    awq = replace(
        LLAMA_8B, quantization="awq", weights=(Weights(dtype="I32", size_bytes=5 * GIB, is_linear=True),)
    )
    answer = certified(awq, quantization="fp8")
    assert answer.terms[0].size_bytes == 5 * GIB
    assert "quantised already (awq)" in answer.notes[0]


def test_quantising_leaves_embeddings_as_they_are() -> None:
    whole, quantised = (
        certified(LLAMA_8B).terms[0].size_bytes,
        certified(LLAMA_8B, quantization="fp8").terms[0].size_bytes,
    )
    linear = sum(part.size_bytes for part in LLAMA_8B.weights if part.is_linear)
    assert whole - quantised == linear // 2


def test_32_bit_weights_are_loaded_in_16_except_by_engines_that_take_them_as_they_are() -> None:
    model = ModelShape(weights=(Weights(dtype="F32", size_bytes=8 * GIB),))
    assert terms(model, Plan(), H100, VLLM)[0].size_bytes == 4 * GIB
    assert terms(model, Plan(), H100, engine_memory("llama-cpp"))[0].size_bytes == 8 * GIB


def test_heads_that_cannot_be_shared_out_are_told() -> None:
    assert (
        "32 heads cannot be shared out evenly among 3 GPUs" in certified(LLAMA_8B, tensor_parallel=3).notes[0]
    )


def test_more_context_than_the_model_was_made_for_is_told() -> None:
    assert (
        "was made for 8192 tokens, 16384 are asked for" in certified(LLAMA_8B, context_tokens=16384).notes[0]
    )


def test_an_encoder_needs_no_cache() -> None:
    answer = certified(
        ModelShape(
            hidden_size=384, intermediate_size=1536, weights=(Weights(dtype="F32", size_bytes=90 << 20),)
        )
    )
    assert answer.fits and answer.kv_tokens == 0 and answer.terms[1].size_bytes == 0
    assert answer.arguments == ("--gpu-memory-utilization=0.01",)


def test_a_correction_is_of_everything_but_the_cache() -> None:
    learned = Learned(correction=1.1, typical=1.02, error=0.05, spread=0.012, count=7, scope="x")
    plain, corrected = fit(asked(LLAMA_8B)), fit(asked(LLAMA_8B), learned)
    beside = plain.need_bytes - plain.terms[1].size_bytes
    assert corrected.need_bytes - plain.need_bytes == round(0.1 * beside)
    assert corrected.terms[1] == plain.terms[1]
    assert corrected.learned.text == (
        "learned from 7 runs (x): uncorrected estimates were off by 5.0 %, typical is x 1.020, error 1.2 % once corrected so; "
        "the 95th percentile, x 1.100, is applied to all but the KV cache"
    )


@pytest.mark.parametrize(
    ("version", "share"), [("", 0.92), ("0.21.0", 0.92), ("v0.30.1", 0.92), ("0.20.2", 0.9), ("0.9.1", 0.9)]
)
def test_the_share_of_a_gpu_is_that_of_vllms_version(version: str, share: float) -> None:
    assert engine_memory("vllm", version).utilization == share


def test_an_old_vllm_keeps_the_whole_context_of_layers_with_a_window() -> None:
    old, new = engine_memory("vllm", "0.9"), engine_memory("vllm", "0.21")
    assert not old.caps_windows and new.caps_windows
    plan = Plan(concurrency=8, context_tokens=8192)
    assert terms(GEMMA, plan, H100, old)[1].size_bytes > terms(GEMMA, plan, H100, new)[1].size_bytes


def test_engines_that_are_not_known_are_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidInput, match="expected one of vllm, sglang") as refused:
        engine_memory("vlm")
    assert refused.value.hint == "did you mean vllm?"
    with pytest.raises(InvalidInput, match="version"):
        engine_memory("vllm", "newest")


def test_the_usual_engine_follows_the_files() -> None:
    assert usual_engine(("a.gguf",)) == "llama-cpp"
    assert usual_engine(("openvino_model.xml",)) == "penstock-cpu"
    assert usual_engine(("model.safetensors",)) == "vllm"


@pytest.mark.parametrize(("mib", "gib"), [(24564, 23.4), (46068, 44.4), (81559, 79.1), (143771, 139.8)])
def test_an_engine_sees_less_of_a_gpu_than_nvml_counts(mib: int, gib: float) -> None:
    kind = GpuType(name="x", product="x", memory_bytes=mib << 20, compute_capability="7.5")
    assert round(device_of(kind).memory_bytes / GIB, 1) == gib
    assert not device_of(kind).can_fp8


plans: Any = st.builds(
    Plan,
    concurrency=st.integers(1, 500),
    context_tokens=st.integers(1, 200_000),
    tensor_parallel=st.sampled_from((1, 2, 4, 8)),
    quantization=st.sampled_from(("", "fp8", "int4")),
    kv_dtype=st.sampled_from(("auto", "fp8")),
)
models = st.sampled_from([shape(model["name"]) for model in MODELS])
devices = st.sampled_from((L4, H100, H200))
engines = st.sampled_from(sorted(ENGINES))


def need(model: ModelShape, plan: Plan, device: Device, engine: str) -> int:
    return sum(term.size_bytes for term in terms(model, plan, device, engine_memory(engine)))


@given(models, plans, devices, engines, st.integers(0, 10_000), st.integers(0, 100))
def test_more_or_longer_requests_never_need_less(
    model: ModelShape, plan: Plan, device: Device, engine: str, longer: int, more: int
) -> None:
    larger = replace(plan, context_tokens=plan.context_tokens + longer, concurrency=plan.concurrency + more)
    assert need(model, larger, device, engine) >= need(model, plan, device, engine)


@given(models, plans, devices, engines)
def test_all_ranks_together_need_at_least_what_one_gpu_would(
    model: ModelShape, plan: Plan, device: Device, engine: str
) -> None:
    alone = replace(plan, tensor_parallel=1)
    assert plan.tensor_parallel * need(model, plan, device, engine) >= need(model, alone, device, engine)


@given(models, plans, devices)
def test_whatever_is_proposed_suffices(model: ModelShape, plan: Plan, device: Device) -> None:
    question = Question(model, plan, device, VLLM, devices=(L4, H100, H200))
    answer = fit(question)
    assert answer.fits == (answer.need_bytes <= answer.usable_bytes) == question.fits(plan)
    assert all(question.fits(change.plan, change.device) for change in answer.changes)
    assert not (answer.fits and answer.changes)
    assert (answer.most_requests >= plan.concurrency) == answer.fits
