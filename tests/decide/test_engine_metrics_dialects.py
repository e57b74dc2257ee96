"""Every engine's load is read from its own metrics; what makes no sense is never a number."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.scheduling import UNKNOWN
from penstock.decide.engine_metrics import DIALECTS, EngineReading, reading

VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a \\"b\\" {c} d"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 900.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="1000"} 1.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 100.5
vllm:lora_requests_info{max_lora="4",running_lora_adapters="poet, sql",waiting_lora_adapters="sql,new"} 1.7e+09
"""
SGLANG = """sglang:num_running_reqs{model_name="m"} 4.0
sglang:num_queue_reqs{model_name="m"} 0.0
sglang:token_usage{model_name="m"} 0.5
sglang:cache_config_info{page_size="64",num_pages="200"} 1.0
"""
TGI = "tgi_queue_size 3\ntgi_batch_current_size 8\ntgi_batch_current_max_tokens 4000\n"
TRITON = """nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 5
nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 6
nv_trt_llm_request_metrics{model="m",request_type="max",version="1"} 512
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m"} 0.75
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="m"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="m"} 6239
"""
TRTLLM = """trtllm_num_requests_waiting{model_name="m"} 1
trtllm_num_requests_running{model_name="m"} 2
trtllm_kv_cache_utilization{model_name="m"} 0.1
trtllm_kv_cache_tokens_per_block{model_name="m"} 32
trtllm_kv_cache_max_blocks{model_name="m"} 10
"""
LLAMA = "llamacpp:requests_processing 1\nllamacpp:requests_deferred 7\nllamacpp:kv_cache_usage_ratio 0.2\n"


@pytest.mark.parametrize(
    ("dialect", "text", "expected"),
    [
        (
            "vllm",
            VLLM,
            EngineReading(
                waiting=2,
                running=3,
                kv_use=0.25,
                block_tokens=16,
                blocks=1000,
                adapters=frozenset({"poet", "sql", "new"}),
                adapter_slots=4,
                ranks=1,
            ),
        ),
        ("sglang", SGLANG, EngineReading(waiting=0, running=4, kv_use=0.5, block_tokens=64, blocks=200)),
        ("tgi", TGI, EngineReading(waiting=3, running=8)),
        ("triton", TRITON, EngineReading(waiting=5, running=6, kv_use=0.75, block_tokens=64, blocks=6239)),
        ("triton", 'nv_inference_pending_request_count{model="m"} 2\n', EngineReading(waiting=2)),
        ("trtllm-serve", TRTLLM, EngineReading(waiting=1, running=2, kv_use=0.1, block_tokens=32, blocks=10)),
        ("llama-cpp", LLAMA, EngineReading(waiting=7, running=1, kv_use=0.2)),
        ("ollama", VLLM, EngineReading()),
        ("unheard-of", VLLM, EngineReading()),
    ],
)
def test_each_dialect(dialect: str, text: str, expected: EngineReading) -> None:
    assert reading(text, dialect) == expected


def test_a_cache_is_as_large_as_its_blocks_together() -> None:
    assert reading(VLLM, "vllm").kv_tokens == 16_000
    assert reading(TGI, "tgi").kv_tokens == 0


def test_ranks_add_up_and_the_fullest_cache_counts() -> None:
    ranks = "".join(
        f'vllm:num_requests_waiting{{engine="{n}"}} {n}\nvllm:kv_cache_usage_perc{{engine="{n}"}} 0.{n}\n'
        f'vllm:cache_config_info{{block_size="16",engine="{n}",num_gpu_blocks="100"}} 1\n'
        for n in range(1, 4)
    )
    found = reading(ranks, "vllm")
    assert (found.waiting, found.kv_use, found.kv_tokens, found.ranks) == (6, 0.3, 4800, 3)
    assert reading("vllm:num_requests_waiting 1\n", "vllm").ranks == 0


@pytest.mark.parametrize("value", ["NaN", "-1", "+Inf", "-Inf", "1e300", "", "many", "1_0x"])
def test_a_value_that_makes_no_sense_is_unknown(value: str) -> None:
    text = (
        f"vllm:num_requests_waiting {value}\nvllm:num_requests_running 1\nvllm:kv_cache_usage_perc {value}\n"
    )
    found = reading(text, "vllm")
    assert (found.waiting, found.running, found.kv_use) == (UNKNOWN, 1, UNKNOWN)
    partly = f'vllm:num_requests_waiting{{e="0"}} 1\nvllm:num_requests_waiting{{e="1"}} {value}\n'
    assert reading(partly, "vllm").waiting == UNKNOWN


@pytest.mark.parametrize("blocks", ["", "None", "-5", "1e3", "99999999999999999999", "0"])
def test_a_cache_of_no_size_is_of_unknown_size(blocks: str) -> None:
    text = f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{blocks}"}} 1.0\n'
    assert reading(text, "vllm").kv_tokens == 0


@pytest.mark.parametrize("value", ["NaN", "-1", "0", "+Inf", "1e300", "x"])
def test_when_an_engine_began_is_told_by_one_process_and_makes_sense(value: str) -> None:
    def began(text: str) -> float:
        return reading(text, "vllm").started_at

    assert began("process_start_time_seconds 1.7e9\n") == 1.7e9
    assert began(f"process_start_time_seconds {value}\n") == UNKNOWN
    assert began('process_start_time_seconds{pid="1"} 5\nprocess_start_time_seconds{pid="2"} 6\n') == UNKNOWN


def test_an_engine_that_says_nothing_is_unknown() -> None:
    for dialect in DIALECTS:
        assert reading("", dialect) == EngineReading()


@given(st.sampled_from(sorted(DIALECTS)), st.text(max_size=60), st.integers(0, 400))
def test_no_text_makes_it_fail_or_lie(dialect: str, noise: str, at: int) -> None:
    for text in (VLLM, SGLANG, TRITON, TRTLLM):
        found = reading(text[:at] + noise + text[at:], dialect)
        assert found.waiting == UNKNOWN or found.waiting >= 0
        assert found.kv_use == UNKNOWN or 0 <= found.kv_use <= 1
        assert found.kv_tokens >= 0


def test_a_hundred_engines_each_second_cost_little() -> None:
    buckets = "".join(
        f'vllm:histogram_{metric}_seconds_bucket{{engine="0",le="{edge}.0",model_name="model"}} 1234.0\n'
        for metric in range(40)
        for edge in range(30)
    )
    text = buckets[: len(buckets) // 2] + VLLM + buckets[len(buckets) // 2 :]
    assert len(text) > 80_000
    best = 1.0
    for _ in range(20):
        began = time.process_time()
        reading(text, "vllm")
        best = min(best, time.process_time() - began)
    assert best < 0.001
