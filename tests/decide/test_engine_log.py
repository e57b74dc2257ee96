"""What engines say of their memory, each in its own words."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.engine_log import report_of
from penstock.decide.engine_report import GIB, beside_cache_bytes

SGLANG = """\
[2025-03-08 12:29:00] server_args=ServerArgs(model_path='m', tp_size=4, chunked_prefill_size=2048, max_running_requests=None)
[2025-03-08 12:29:10 TP0] Load weight begin. avail mem=21.63 GB
[2025-03-08 12:29:21 TP0] Load weight end. type=Qwen2ForCausalLM, dtype=torch.bfloat16, avail mem=6.09 GB, mem usage=15.54 GB.
[2025-03-08 12:29:21 TP0] KV Cache is allocated. #tokens: 46611, K size: 1.42 GB, V size: 1.42 GB
[2025-03-08 12:29:21 TP0] Memory pool end. avail mem=2.09 GB
[2025-03-08 12:29:25 TP0] Capture cuda graph end. Time elapsed: 3.10 s. mem usage=0.44 GB. avail mem=1.45 GB.
"""
LLAMA_CPP = """\
build: 6123 (79c1160b) with cc (Debian 12.2.0) for x86_64-linux-gnu
load_tensors: offloading 33 repeating layers to GPU
load_tensors: offloaded 33/33 layers to GPU
load_tensors:   CPU_Mapped model buffer size =   545.62 MiB
load_tensors:        CUDA0 model buffer size =  5060.88 MiB
llama_context: n_seq_max     = 2
llama_context: n_ubatch      = 512
llama_kv_cache:      CUDA0 KV buffer size =  4352.00 MiB
llama_memory_recurrent:      CUDA0 RS buffer size =   100.50 MiB
sched_reserve:      CUDA0 compute buffer size =   808.02 MiB
"""


def test_sglang_took_what_is_no_longer_free_without_its_cache() -> None:
    report = report_of(SGLANG)
    assert (report.engine, report.tensor_parallel, report.batched_tokens) == ("sglang", 4, 2048)
    assert report.cache_tokens == 46611 and report.weight_bytes == int(15.54 * GIB)
    taken = beside_cache_bytes(report, 22 * GIB, 0.9, 1)
    assert taken is not None and abs(taken / GIB - (21.63 - 1.45 - 2.84)) < 0.001
    assert report.unsaid == ("activations",)


def test_llama_cpp_took_its_buffers_on_the_gpu_without_the_cache() -> None:
    report = report_of(LLAMA_CPP)
    assert (report.engine, report.version, report.sequences) == ("llama-cpp", "b6123", 2)
    taken = beside_cache_bytes(report, 12 * GIB, 1.0, 1)
    assert taken is not None and abs(taken / 2**20 - (5060.88 + 100.50 + 808.02)) < 0.01
    assert report.cache_bytes == 4352 << 20 and report.unsaid == ("engine",)


def test_of_several_starts_and_of_several_gpus_one_counts() -> None:
    again = LLAMA_CPP.replace("5060.88", "3000.00")
    assert report_of(LLAMA_CPP + again).weight_bytes == 3000 << 20
    two = LLAMA_CPP + "load_tensors:        CUDA1 model buffer size =  19000.00 MiB\n"
    assert report_of(two).weight_bytes == 19000 << 20 and report_of(two).tensor_parallel == 2


def test_llama_cpp_without_a_gpu_says_nothing() -> None:
    assert report_of(LLAMA_CPP.replace("CUDA0", "CPU")).taken_bytes == 0


@given(st.text(alphabet='0123456789.,-GBKV ache:#\n"{}=_', max_size=200))
def test_lies_make_no_error(noise: str) -> None:
    for text in (f"Load weight begin. avail mem={noise} GB\n{SGLANG}{noise}", f"{LLAMA_CPP} CUDA0 KV buffer size = {noise} MiB"):  # fmt: skip
        taken = beside_cache_bytes(report_of(text), 80 * GIB, 0.9, 1024)
        assert taken is None or taken > 0
