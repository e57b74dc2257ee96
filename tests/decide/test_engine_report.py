"""What vLLM says of its memory, in the words of its versions, and what was learned from it."""

import random

from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.engine_report import GIB, beside_cache_bytes, report_of_log, report_of_metrics
from penstock.decide.fit_error import UNLEARNED, Observation, learn

NEW = """\
INFO 05-14 [api_server.py:100] vLLM API server version 0.20.0
INFO 05-14 [api_server.py:101] non-default args: {'model': 'm', 'gpu_memory_utilization': 0.5, 'tensor_parallel_size': 2}
INFO 05-14 [core.py:98] Initializing a V1 LLM engine (v0.20.0) with config: model='m', tensor_parallel_size=2, kv_cache_dtype=auto
(Worker_TP1) INFO 05-14 [gpu_model_runner.py:407] Model loading took 7.51 GiB memory and 3.2 seconds
(Worker_TP0) INFO 05-14 [gpu_model_runner.py:407] Model loading took 7.53 GiB memory and 3.2 seconds
(Worker_TP0) INFO 05-14 [gpu_worker.py:460] Available KV cache memory: 26.87 GiB
(Worker_TP1) INFO 05-14 [gpu_worker.py:460] Available KV cache memory: 26.91 GiB
INFO 05-14 [kv_cache_utils.py:2481] GPU KV cache size: 440,224 tokens, Maximum concurrency for 8,192 tokens per request: 53.74x
(Worker_TP0) INFO 05-14 [gpu_model_runner.py:5000] Graph capturing finished in 12 secs, took 0.55 GiB
"""
OLD = """\
INFO 12-20 20:25:46 worker.py:241] the current vLLM instance can use total_gpu_memory (15.77GiB) x gpu_memory_utilization (0.90) = 14.20GiB
INFO 12-20 20:25:46 worker.py:241] model weights take 7.51GiB; non_torch_memory takes 0.39GiB; PyTorch activation peak memory takes \
2.53GiB; the rest of the memory reserved for KV Cache is 3.76GiB.
INFO 12-20 20:25:46 distributed_gpu_executor.py:57] # GPU blocks: 3852, # CPU blocks: 4096
"""
METRICS = (
    "# TYPE vllm:cache_config_info gauge\n"
    'vllm:cache_config_info{block_size="16",cache_dtype="auto",gpu_memory_utilization="0.92",num_gpu_blocks="28000",'
    'kv_cache_memory_bytes="None"} 1.0\n'
)


def test_of_several_ranks_the_one_with_the_least_room_counts() -> None:
    report = report_of_log(NEW)
    assert (report.version, report.tensor_parallel, report.utilization) == ("0.20.0", 2, 0.5)
    assert report.weight_bytes == int(7.53 * GIB) and report.cache_bytes == int(26.87 * GIB)
    assert report.cache_tokens == 440_224


def test_what_an_engine_took_is_its_share_without_its_cache() -> None:
    taken = beside_cache_bytes(report_of_log(NEW), 80 * GIB, 0.9, 64 * 1024)
    graphs = 0.55  # captured beside the share in versions before 0.21
    assert taken is not None and abs(taken / GIB - (40 - 26.87 + graphs)) < 0.001
    later = report_of_log(NEW.replace("0.20.0", "0.21.0"))
    taken = beside_cache_bytes(later, 80 * GIB, 0.9, 64 * 1024)
    assert taken is not None and abs(taken / GIB - (40 - 26.87)) < 0.001


def test_the_words_of_older_versions_are_understood() -> None:
    report = report_of_log(OLD)
    assert report.weight_bytes == int(7.51 * GIB) and report.cache_bytes == int(3.76 * GIB)
    assert report.blocks == 3852 and report.utilization == 0.9
    taken = beside_cache_bytes(report, 99 * GIB, 0.5, 1)
    assert taken is not None and abs(taken / GIB - (15.77 * 0.9 - 3.76)) < 0.001


NEWEST = """\
INFO 08-22 [utils.py:297]  █▄█▀ █     █     █     █  version 0.25.1
(Worker_TP0 pid=223) INFO 08-22 04:42:13 [gpu_worker.py:789] Free memory on device (30.27/31.4 GiB) on startup. Desired GPU memory \
utilization is (0.92, 28.88 GiB). Actual usage is 15.03 GiB for consumed memory (weights + non-torch), 1.59 GiB for peak activation, and \
0.09 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with `--kv-cache-memory=12917635953` (12.03 GiB) to fit into \
requested memory. Current kv cache memory in use is 12.26 GiB.
"""


def test_what_an_engine_counted_itself_goes_before_what_follows_from_its_share() -> None:
    report = report_of_log(NEWEST)
    assert report.version == "0.25.1" and report.total_bytes == int(31.4 * GIB)
    taken = beside_cache_bytes(report, 80 * GIB, 0.9, 1)
    assert taken is not None and abs(taken / GIB - (15.03 + 1.59 + 0.09)) < 0.001
    older = NEWEST.replace("consumed memory (weights + non-torch)", "weight").replace(
        "activation, and", "activation, 0.2 GiB for non-torch memory, and"
    )
    taken = beside_cache_bytes(report_of_log(older), 80 * GIB, 0.9, 1)
    assert taken is not None and abs(taken / GIB - (15.03 + 1.59 + 0.2 + 0.09)) < 0.001


def test_gb_of_old_versions_are_gib() -> None:
    assert report_of_log(
        "INFO model_runner.py:1115] Loading model weights took 2.8875 GB"
    ).weight_bytes == int(2.8875 * GIB)


def test_of_several_starts_the_last_counts() -> None:
    assert report_of_log(NEW + NEW.replace("26.8", "9.8").replace("26.9", "9.9")).cache_bytes == int(
        9.87 * GIB
    )


def test_metrics_tell_the_blocks_of_the_cache() -> None:
    report = report_of_metrics(METRICS)
    assert (report.blocks, report.block_tokens, report.utilization) == (28000, 16, 0.92)
    taken = beside_cache_bytes(report, 80 * GIB, 0.9, 128 * 1024)
    assert taken == int(80 * GIB * 0.92) - 28000 * 16 * 128 * 1024


def test_what_nvml_counts_goes_before_the_share() -> None:
    assert (
        beside_cache_bytes(report_of_metrics(METRICS), 80 * GIB, 0.9, 128 * 1024, 75 * GIB)
        == 75 * GIB - 28000 * 16 * 128 * 1024
    )


def test_a_cache_of_a_told_size_leaves_only_what_nvml_counts() -> None:
    report = report_of_metrics(METRICS.replace('"None"', f'"{8 * GIB}"'))
    assert beside_cache_bytes(report, 80 * GIB, 0.9, 1) is None
    assert beside_cache_bytes(report, 80 * GIB, 0.9, 1, 26 * GIB) == 18 * GIB


def test_what_does_not_tell_is_none() -> None:
    assert beside_cache_bytes(report_of_log("nothing here"), 80 * GIB, 0.9, 1) is None
    assert beside_cache_bytes(report_of_metrics(""), 80 * GIB, 0.9, 1) is None
    assert beside_cache_bytes(report_of_log("Available KV cache memory: 99.0 GiB"), 80 * GIB, 0.9, 1) is None


@given(st.text(alphabet='0123456789.,-GiBmodelKV cache:#\n"{}=_', max_size=300))
def test_a_text_that_lies_makes_no_error(noise: str) -> None:
    for text in (noise, f"Available KV cache memory: {noise} GiB", f"GPU KV cache size: {noise} tokens",
                 f'vllm:cache_config_info{{num_gpu_blocks="{noise}",block_size="16"}} 1'):  # fmt: skip
        for report in (report_of_log(text), report_of_metrics(text)):
            taken = beside_cache_bytes(report, 80 * GIB, 0.9, 1024)
            assert taken is None or taken > 0


def observation(ratio: float, **more: object) -> Observation:
    said: dict[str, object] = {
        "model": "m",
        "engine": "vllm",
        "version": "0.21",
        "gpu": "h100",
        "predicted_bytes": 10**9,
    }
    return Observation(**{**said, "observed_bytes": int(ratio * 10**9), **more})  # type: ignore[arg-type]


def learned_from(
    *seen: Observation, model: str = "m", version: str = "0.21", gpu: str = "h100"
) -> tuple[float, int, str]:
    found = learn(seen, model=model, engine="vllm", version=version, gpu=gpu)
    return round(found.correction, 3), found.count, found.scope


def test_nothing_seen_is_said_so() -> None:
    assert learn((), model="m", engine="vllm", version="", gpu="h100") == UNLEARNED
    assert UNLEARNED.text.startswith("no observations yet")


def test_the_95th_percentile_corrects_and_the_median_is_the_stated_error() -> None:
    ratios = [1.0 + index / 1000 for index in range(1, 101)]
    random.Random(7).shuffle(ratios)
    found = learn(
        [observation(ratio) for ratio in ratios], model="m", engine="vllm", version="0.21", gpu="h100"
    )
    assert round(found.correction, 3) == 1.095 and round(found.error, 4) == 0.0505 and found.count == 100


def test_few_observations_correct_by_the_worst_of_them() -> None:
    assert learned_from(observation(0.97), observation(1.04))[0] == 1.04


def test_the_nearest_observations_count_and_the_scope_is_said() -> None:
    own, other = observation(1.1), observation(0.9, model="n")
    older, elsewhere = observation(1.3, model="n", version="0.9"), observation(2.0, gpu="l4")
    seen = (own, other, older, elsewhere)
    assert learned_from(*seen) == (1.1, 1, "this model with vllm 0.21 on h100")
    assert learned_from(*seen, model="o") == (1.1, 2, "other models with vllm 0.21 on h100")
    assert learned_from(*seen, version="0.30") == (1.3, 3, "other models and versions of vllm on h100")
    assert learned_from(*seen, gpu="t4") == (1.0, 0, "")


def test_what_is_ten_times_off_was_another_model() -> None:
    assert learned_from(observation(30.0), observation(0.01), observation(1.0, predicted_bytes=0)) == (
        1.0,
        0,
        "",
    )


@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=60))
def test_at_most_one_in_twenty_took_more_than_is_corrected_for(ratios: list[float]) -> None:
    seen = [observation(ratio) for ratio in ratios]
    correction = learn(seen, model="m", engine="vllm", version="0.21", gpu="h100").correction
    assert sum(one.ratio > correction for one in seen) <= 0.05 * len(seen)
