"""Metrics have vLLM's names, types and labels, as its dashboards and routers read them."""

from prometheus_client.parser import text_string_to_metric_families

from penstock.engine.metrics import Metrics


def values(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        s.name: s.value for f in families for s in f.samples if not s.name.endswith(("_bucket", "_created"))
    }


def test_names_and_types_are_vllms() -> None:
    families = {f.name: f.type for f in text_string_to_metric_families(Metrics("m", 64, 32).text().decode())}
    assert (
        families.items()
        >= {
            "vllm:num_requests_running": "gauge",
            "vllm:num_requests_waiting": "gauge",
            "vllm:kv_cache_usage_perc": "gauge",
            "vllm:prompt_tokens": "counter",
            "vllm:generation_tokens": "counter",
            "vllm:prefix_cache_queries": "counter",
            "vllm:prefix_cache_hits": "counter",
            "vllm:request_success": "counter",
            "vllm:time_to_first_token_seconds": "histogram",
            "vllm:inter_token_latency_seconds": "histogram",
            "vllm:time_per_output_token_seconds": "histogram",
            "vllm:e2e_request_latency_seconds": "histogram",
            "vllm:cache_config_info": "gauge",
        }.items()
    )


def test_every_series_names_the_model_but_the_process_s_own() -> None:
    metrics = Metrics("org/model", 64, 32)
    metrics.finished("stop")
    process = []
    for family in text_string_to_metric_families(metrics.text().decode()):
        if family.name.startswith("process_"):
            process.append(family.name)
            continue
        assert all(sample.labels["model_name"] == "org/model" for sample in family.samples), family.name
    assert "process_start_time_seconds" in process


def test_the_pool_is_described_by_labels() -> None:
    (family,) = [
        f
        for f in text_string_to_metric_families(Metrics("m", 64, 32).text().decode())
        if f.name == "vllm:cache_config_info"
    ]
    assert family.samples[0].labels.items() >= {"block_size": "32", "num_gpu_blocks": "64"}.items()


def test_gauges_show_the_last_step_and_counters_add_up() -> None:
    metrics = Metrics("m", 64, 32)
    metrics.load(3, 2, 0.5)
    metrics.load(1, 0, 0.25)
    metrics.finished("stop")
    metrics.finished("stop")
    metrics.first_token.observe(0.2)
    found = values(metrics)
    assert found["vllm:num_requests_running"] == 1
    assert found["vllm:num_requests_waiting"] == 0
    assert found["vllm:kv_cache_usage_perc"] == 0.25
    assert found["vllm:request_success_total"] == 2
    assert found["vllm:time_to_first_token_seconds_count"] == 1


def test_two_engines_in_one_process_count_apart() -> None:
    one, two = Metrics("m", 64, 32), Metrics("m", 64, 32)
    one.prompt_tokens.inc(5)
    assert values(two)["vllm:prompt_tokens_total"] == 0
