"""What does vLLM say of the memory that it took?

It says it in its log, in words that changed with its versions, and in its metrics as labels of `vllm:cache_config_info`. What it took
beside its KV cache follows: its share of the GPU without the cache, or what NVML counts as used without it.
"""

from __future__ import annotations

import re

from msgspec import Struct

from penstock.kit.exposition import lines_of

GIB = 1 << 30
MAX_TEXT = 4 << 20
"""Of a log that is read, from its end."""
MAX_TOKENS = 1 << 40
USUAL_BLOCK_TOKENS = 16
"""vLLM's, as its log does not say."""
_SIZE = r"(\d[\d,]{0,14}(?:\.\d{1,6})?) ?(GiB|GB|MiB|bytes)"
_UNITS = {"GiB": GIB, "GB": GIB, "MiB": 1 << 20, "bytes": 1}
"""vLLM wrote GB for GiB until 0.8."""
_WEIGHTS = re.compile(rf"(?:Model loading took|Loading model weights took|model weights take) {_SIZE}")
_CACHE = re.compile(rf"(?:Available KV cache memory:|memory reserved for KV Cache is) {_SIZE}")
_GRAPHS = re.compile(rf"Graph capturing finished in \d{{1,6}} secs?, took {_SIZE}")
_TAKEN = re.compile(
    rf"Actual usage is {_SIZE} for [^,.]{{1,60}}, {_SIZE} for peak activation,(?: {_SIZE} for non-torch memory,)? and {_SIZE} for CUDAGraph"
)
_TOTAL = re.compile(
    r"(?:total_gpu_memory \(|Free memory on device \([\d.]{1,9}/)(\d{1,6}(?:\.\d{1,6})?) ?GiB\)"
)
_TOKENS = re.compile(r"GPU KV cache size: (\d[\d,]{0,19}) tokens")
_BLOCKS = re.compile(r"# (?:GPU|cuda) blocks: (\d{1,12})", re.IGNORECASE)
_SHARE = re.compile(r"gpu_memory_utilization['\"]?(?: ?[=:] ?| \()(\d?\.\d{1,6}|1\.0)")
_RANKS = re.compile(r"tensor_parallel_size['\"]?(?:=|: )(\d{1,4})")
_BATCHED = re.compile(r"max_num_batched_tokens['\"]?(?:=|: ?)(\d{1,8})")
_SEQUENCES = re.compile(r"max_num_seqs['\"]?(?:=|: ?)(\d{1,6})")
_EAGER = re.compile(r"enforce_eager['\"]?(?:=|: ?)True")
_START = "vLLM API server version"
_VERSION = re.compile(
    rf"(?:{_START}|LLM engine \(v|[█▀▄] +version) ?v?(\d{{1,4}}\.\d{{1,4}}(?:\.\d{{1,4}})?)"
)
_CACHED_BEFORE_GRAPHS = (0, 21)
"""Since this version vLLM leaves room for CUDA graphs before it sizes the cache."""


class EngineReport(Struct, frozen=True, kw_only=True):
    """Bytes on one GPU, the most that any rank said; 0 where it does not say. `blocks` of `block_tokens` make up the cache.

    `taken_bytes` is what it counted itself beside its cache, in vLLM since 0.11. With `has_fixed_cache` the engine was told its cache's size, and its share of the GPU says nothing.
    `batched_tokens`, `sequences` and `is_eager` are what it ran with. `unsaid` are the terms of a certificate that the report has nothing of.
    """

    engine: str = "vllm"
    version: str = ""
    weight_bytes: int = 0
    cache_bytes: int = 0
    cache_tokens: int = 0
    blocks: int = 0
    block_tokens: int = 0
    graph_bytes: int = 0
    total_bytes: int = 0
    utilization: float = 0.0
    tensor_parallel: int = 1
    taken_bytes: int = 0
    has_fixed_cache: bool = False
    batched_tokens: int = 0
    sequences: int = 0
    is_eager: bool = False
    unsaid: tuple[str, ...] = ()


def report_of_log(text: str) -> EngineReport:
    """What lines of vLLM's log say; of several starts in it, the last."""
    text = text[-MAX_TEXT:]
    text = text[max(0, text.rfind(_START)) :]
    graphs, shares, ranks = _sizes(_GRAPHS, text), _SHARE.findall(text), _RANKS.findall(text)
    total, tokens, blocks = _TOTAL.search(text), _TOKENS.findall(text), _BLOCKS.findall(text)
    version = _VERSION.search(text)
    caches = _sizes(_CACHE, text)
    batched, sequences = _BATCHED.findall(text), _SEQUENCES.findall(text)
    return EngineReport(
        version=version[1] if version else "",
        weight_bytes=max(_sizes(_WEIGHTS, text), default=0),
        cache_bytes=min(caches, default=0),
        cache_tokens=min((int(found.replace(",", "")) for found in tokens), default=0),
        blocks=min(map(int, blocks), default=0),
        block_tokens=USUAL_BLOCK_TOKENS,
        graph_bytes=max(graphs, default=0),
        total_bytes=int(float(total[1]) * GIB) if total else 0,
        utilization=_share(shares[0]) if shares else 0.0,
        tensor_parallel=max(1, int(ranks[0])) if ranks else 1,
        taken_bytes=max((_added(found) for found in _TAKEN.findall(text)), default=0),
        batched_tokens=int(batched[-1]) if batched else 0,
        sequences=int(sequences[-1]) if sequences else 0,
        is_eager=_EAGER.search(text) is not None,
    )


def report_of_metrics(text: str) -> EngineReport:
    """What the labels of vLLM's `cache_config_info` say."""
    for series in lines_of(text, "vllm:cache_config_info"):
        labels = series.labels
        fixed = _whole(labels.get("kv_cache_memory_bytes", ""))
        blocks, tokens = _whole(labels.get("num_gpu_blocks", "")), _whole(labels.get("block_size", ""))
        return EngineReport(
            blocks=blocks,
            block_tokens=tokens,
            cache_tokens=blocks * tokens,
            cache_bytes=fixed,
            has_fixed_cache=fixed > 0,
            utilization=_share(labels.get("gpu_memory_utilization", "")),
        )
    return EngineReport()


def beside_cache_bytes(
    report: EngineReport, memory_bytes: int, utilization: float, token_bytes: int, used_bytes: int = 0
) -> int | None:
    """What the engine took beside its KV cache, on a GPU of `memory_bytes`; None where the report does not tell.

    `utilization` is the engine's own where the report has none. `token_bytes` is what the cache keeps of a token on a rank. `used_bytes` is
    what NVML counts on the GPU while only this engine is there, 0 where nobody looked.
    """
    if report.taken_bytes and not used_bytes:
        return report.taken_bytes
    cache = report.cache_bytes or (report.cache_tokens or report.blocks * report.block_tokens) * token_bytes
    if not cache:
        return None
    if used_bytes:
        left = used_bytes - cache
    elif report.has_fixed_cache:
        return None
    else:
        left = int((report.total_bytes or memory_bytes) * (report.utilization or utilization)) - cache
        left += report.graph_bytes if _number(report.version) < _CACHED_BEFORE_GRAPHS else 0
    return left if left > 0 else None


def _sizes(pattern: re.Pattern[str], text: str) -> list[int]:
    return [_bytes(size, unit) for size, unit in pattern.findall(text)]


def _added(parts: tuple[str, ...]) -> int:
    """Of sizes and units in turn, empty where there is none."""
    return sum(_bytes(size, unit) for size, unit in zip(parts[::2], parts[1::2], strict=True) if size)


def _bytes(size: str, unit: str) -> int:
    return int(float(size.replace(",", "")) * _UNITS[unit])


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2]) if version else _CACHED_BEFORE_GRAPHS


def _share(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if 0.0 < found <= 1.0 else 0.0


def _whole(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0
    return number if number <= MAX_TOKENS else 0
