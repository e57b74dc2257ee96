"""What does SGLang say of the memory that it took?

How much was free before it loaded weights and how much is left in the end, and how large its KV cache is. It says nothing of activations,
which live in what it leaves free. Its GB are GiB.
"""

from __future__ import annotations

import re

from penstock.decide.engine_report import GIB, MAX_TEXT, EngineReport

_SIZE = r"(\d{1,6}\.\d{1,4}) ?GB"
_START = "server_args=ServerArgs("
_BEGIN = re.compile(rf"Load weight begin\. avail mem={_SIZE}")
_WEIGHTS = re.compile(rf"Load weight end\..{{0,300}}?mem usage={_SIZE}")
_LEFT = re.compile(rf"(?:avail mem|available_gpu_mem)={_SIZE}")
_CACHE = re.compile(rf"KV Cache is allocated\. #tokens: (\d{{1,15}}), K size: {_SIZE}, V size: {_SIZE}")
_RANKS = re.compile(r"tp_size=(\d{1,4})")
_BATCHED = re.compile(r"chunked_prefill_size=(\d{1,8})")
_SEQUENCES = re.compile(r"max_running_requests=(\d{1,6})")


def is_sglang(text: str) -> bool:
    """Whether these are its words."""
    return _CACHE.search(text) is not None


def report_of_sglang(text: str) -> EngineReport:
    """Of several starts the last. Ranks say the same: the largest counts."""
    text = text[-MAX_TEXT:]
    text = text[max(0, text.rfind(_START)) :]
    begin, left, weights = _BEGIN.findall(text), _LEFT.findall(text), _WEIGHTS.findall(text)
    caches = _CACHE.findall(text)
    tokens = min((int(found[0]) for found in caches), default=0)
    cache = max((_bytes(found[1]) + _bytes(found[2]) for found in caches), default=0)
    taken = max(map(_bytes, begin), default=0) - min(map(_bytes, left), default=0) - cache
    ranks, batched, sequences = _RANKS.findall(text), _BATCHED.findall(text), _SEQUENCES.findall(text)
    return EngineReport(
        engine="sglang",
        weight_bytes=max(map(_bytes, weights), default=0),
        cache_bytes=cache,
        cache_tokens=tokens,
        tensor_parallel=max(1, int(ranks[-1])) if ranks else 1,
        taken_bytes=max(0, taken) if begin and caches else 0,
        batched_tokens=int(batched[-1]) if batched else 0,
        sequences=int(sequences[-1]) if sequences else 0,
        unsaid=("activations",),
    )


def _bytes(text: str) -> int:
    return int(float(text) * GIB)
