"""How full a KV cache is, in every dialect that tells."""

import pytest
from msgspec import structs

from penstock.decide.engine_metrics import Endpoint, kv_cache_use, metrics_endpoint
from penstock.resources.pod import Pod, PodStatus
from penstock.testing.factories import pod


@pytest.mark.parametrize(
    ("dialect", "text", "use"),
    [
        ("vllm", 'vllm:kv_cache_usage_perc{model_name="m"} 0.4', 0.4),
        ("vllm", 'vllm:gpu_cache_usage_perc{model_name="m"} 0.3', 0.3),
        ("sglang", "sglang:token_usage 0.7", 0.7),
        ("llama-cpp", "llamacpp:kv_cache_usage_ratio 0.1", 0.1),
        (
            "triton",
            'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used"} 900\n'
            'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"} 0.9',
            0.9,
        ),
        ("vllm", 'vllm:kv_cache_usage_perc{e="0"} 0.4\nvllm:kv_cache_usage_perc{e="1"} 0.6', 0.6),
        ("vllm", 'vllm:kv_cache_usage_perc{e="0"} NaN\nvllm:kv_cache_usage_perc{e="1"} 0.2', 0.2),
        ("vllm", "vllm:kv_cache_usage_perc 1.0001", 1.0),
        ("vllm", "vllm:kv_cache_usage_perc -1", None),
        ("vllm", "other 1", None),
        ("unheard-of", "vllm:kv_cache_usage_perc 0.4", None),
    ],
)
def test_the_fullest_series_counts_and_nonsense_does_not(dialect: str, text: str, use: float | None) -> None:
    assert kv_cache_use(text + "\n", dialect) == use


def at(address: str, **annotations: str) -> Pod:
    named = {f"prometheus.kserve.io/{key}": value for key, value in annotations.items()}
    return structs.replace(pod("p", annotations=named), status=PodStatus(pod_ip=address))


def test_a_pod_says_where_its_metrics_are() -> None:
    assert metrics_endpoint(at("127.0.0.9", port="8080", path="/m")) == Endpoint("127.0.0.9", 8080, "/m")
    assert metrics_endpoint(at("127.0.0.9", port="8080")) == Endpoint("127.0.0.9", 8080, "/metrics")
    for silent in (
        at("", port="8080"),
        at("127.0.0.9"),
        at("127.0.0.9", port="x"),
        at("127.0.0.9", port="99999"),
    ):
        assert metrics_endpoint(silent) is None
