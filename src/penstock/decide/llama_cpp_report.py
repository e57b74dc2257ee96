"""What does llama.cpp say of the memory that it took?

The size of each buffer on each device: the model, the KV cache, what it computes in, states of recurrent layers. It says nothing of what CUDA itself takes.
Of several GPUs the one that holds most counts.
"""

from __future__ import annotations

import re
from collections import Counter

from penstock.decide.engine_report import MAX_TEXT, EngineReport

MIB = 1 << 20
_START = re.compile(r"(?:llm_)?load_tensors: +(?:offloading|ggml ctx|loading model tensors|tensor)")
_BUFFER = re.compile(r"(CUDA\d{1,2}) (?:(model|KV|compute|RS|output) )?buffer size = +(\d{1,9}\.\d{1,3}) MiB")
_BUILD = re.compile(r"build: (\d{1,6}) \(")
_BATCHED = re.compile(r"n_ubatch +[:=]? *= *(\d{1,7})")
_SEQUENCES = re.compile(r"n_seq_max +[:=]? *= *(\d{1,5})")


def is_llama_cpp(text: str) -> bool:
    """Whether these are its words, and it uses a GPU."""
    return _BUFFER.search(text) is not None


def report_of_llama_cpp(text: str) -> EngineReport:
    """Of several starts the last."""
    text = text[-MAX_TEXT:]
    starts = [found.start() for found in _START.finditer(text)]
    batch, sequences, build = _BATCHED.findall(text), _SEQUENCES.findall(text), _BUILD.findall(text)
    sizes: dict[str, Counter[str]] = {}
    for device, kind, size in _BUFFER.findall(text[_last_start(starts, text) :]):
        of = sizes.setdefault(device, Counter())
        of[kind or "model"] = max(of[kind or "model"], int(float(size) * MIB))
    fullest = max(sizes.values(), key=lambda of: sum(of.values()), default=Counter[str]())
    return EngineReport(
        engine="llama-cpp",
        version=f"b{build[-1]}" if build else "",
        weight_bytes=fullest["model"],
        cache_bytes=fullest["KV"],
        taken_bytes=sum(size for kind, size in fullest.items() if kind != "KV"),
        tensor_parallel=max(1, len(sizes)),
        batched_tokens=int(batch[-1]) if batch else 0,
        sequences=int(sequences[-1]) if sequences else 0,
        unsaid=("engine",),
    )


def _last_start(starts: list[int], text: str) -> int:
    """Where the last model began to load: after the buffers of the one before."""
    last = 0
    for start, following in zip(starts, [*starts[1:], len(text)], strict=True):
        if _BUFFER.search(text, start, following):
            last = start
    return last
