"""How loaded is an engine, by the metrics it exposes?

Engines name them differently; a pod says which dialect its engine speaks (annotation `penstock.dev/metrics-dialect`). Of several series
(one per model or rank) requests and blocks add up, and the fullest cache counts. What makes no sense is as if it were not there.
Source: the engines' own documentation of their metrics; Ollama exposes none.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import NamedTuple

from msgspec import Struct

from penstock.contracts.scheduling import UNKNOWN
from penstock.kit.exposition import MAX_LINES, Series, lines_of
from penstock.resources.pod import Pod

DIALECT = "penstock.dev/metrics-dialect"
PORT = "prometheus.kserve.io/port"
PATH = "prometheus.kserve.io/path"
DEFAULT_PATH = "/metrics"
MAX_REQUESTS = 1e6
MAX_BLOCKS = 1e9
MAX_ADAPTERS = 4096
FULL = 1.01
"""Shares may exceed 1 by as much as rounding does."""


class Signal(NamedTuple):
    """Where a number is: the metric's name, labels that its series have, and the label that holds it ("": it is the value)."""

    metric: str
    labels: tuple[tuple[str, str], ...] = ()
    label: str = ""


class Dialect(Struct, frozen=True, kw_only=True, gc=False):
    """Names by which an engine tells of itself, newest first; () for what it does not tell."""

    waiting: tuple[Signal, ...] = ()
    running: tuple[Signal, ...] = ()
    kv_use: tuple[Signal, ...] = ()
    block_tokens: tuple[Signal, ...] = ()
    blocks: tuple[Signal, ...] = ()
    adapters: str = ""


STARTED = (Signal("process_start_time_seconds"),)
"""As most clients of Prometheus name it."""
MAX_EPOCH_S = 1e11
_TRT_REQUESTS = "nv_trt_llm_request_metrics"
_TRT_BLOCKS = "nv_trt_llm_kv_cache_block_metrics"
_TRT_KIND = "kv_cache_block_type"
DIALECTS = MappingProxyType(
    {
        "vllm": Dialect(
            waiting=(Signal("vllm:num_requests_waiting"),),
            running=(Signal("vllm:num_requests_running"),),
            kv_use=(Signal("vllm:kv_cache_usage_perc"), Signal("vllm:gpu_cache_usage_perc")),
            block_tokens=(Signal("vllm:cache_config_info", label="block_size"),),
            blocks=(Signal("vllm:cache_config_info", label="num_gpu_blocks"),),
            adapters="vllm:lora_requests_info",
        ),
        "sglang": Dialect(
            waiting=(Signal("sglang:num_queue_reqs"),),
            running=(Signal("sglang:num_running_reqs"),),
            kv_use=(Signal("sglang:token_usage"),),
            block_tokens=(Signal("sglang:cache_config_info", label="page_size"),),
            blocks=(Signal("sglang:cache_config_info", label="num_pages"),),
        ),
        "tgi": Dialect(
            waiting=(Signal("tgi_queue_size"),),
            running=(Signal("tgi_batch_current_size"),),
        ),
        "triton": Dialect(
            waiting=(
                Signal(_TRT_REQUESTS, (("request_type", "waiting"),)),
                Signal("nv_inference_pending_request_count"),
            ),
            running=(Signal(_TRT_REQUESTS, (("request_type", "scheduled"),)),),
            kv_use=(Signal(_TRT_BLOCKS, ((_TRT_KIND, "fraction"),)),),
            block_tokens=(Signal(_TRT_BLOCKS, ((_TRT_KIND, "tokens_per"),)),),
            blocks=(Signal(_TRT_BLOCKS, ((_TRT_KIND, "max"),)),),
        ),
        "trtllm-serve": Dialect(
            waiting=(Signal("trtllm_num_requests_waiting"),),
            running=(Signal("trtllm_num_requests_running"),),
            kv_use=(Signal("trtllm_kv_cache_utilization"),),
            block_tokens=(Signal("trtllm_kv_cache_tokens_per_block"),),
            blocks=(Signal("trtllm_kv_cache_max_blocks"),),
        ),
        "llama-cpp": Dialect(
            waiting=(Signal("llamacpp:requests_deferred"),),
            running=(Signal("llamacpp:requests_processing"),),
            kv_use=(Signal("llamacpp:kv_cache_usage_ratio"),),
        ),
        "ollama": Dialect(),
    }
)


class EngineReading(Struct, frozen=True, kw_only=True, gc=False):
    """What one engine says of itself: requests, the share of its KV cache in use from 0 to 1, UNKNOWN each where it does not say.

    `block_tokens` of a KV block and how many `blocks` there are, 0 where unknown. `adapters` are those that run or are waited for, at
    most `adapter_slots` at once, 0 where unknown. It began at `started_at`, in seconds since the epoch.
    `ranks` are engines behind the one address, 0 where unknown.
    """

    waiting: float = UNKNOWN
    running: float = UNKNOWN
    kv_use: float = UNKNOWN
    block_tokens: int = 0
    blocks: int = 0
    adapters: frozenset[str] = frozenset()
    adapter_slots: int = 0
    started_at: float = UNKNOWN
    ranks: int = 0

    @property
    def kv_tokens(self) -> int:
        """How many tokens its cache holds, 0 where unknown."""
        return self.block_tokens * self.blocks


class Endpoint(NamedTuple):
    """Where a pod's metrics are."""

    host: str
    port: int
    path: str


def metrics_endpoint(pod: Pod) -> Endpoint | None:
    """Where to scrape the pod, by its annotations; None without an address or a port."""
    port = pod.metadata.annotations.get(PORT, "")
    if not pod.status.pod_ip or not port.isdecimal() or not 0 < int(port) < 65536:
        return None
    return Endpoint(pod.status.pod_ip, int(port), pod.metadata.annotations.get(PATH, "") or DEFAULT_PATH)


def kv_cache_use(text: str, dialect: str) -> float | None:
    """The share in use, from 0 to 1; None where the text does not tell."""
    known = DIALECTS.get(dialect)
    use = _fullest(text, known.kv_use) if known else UNKNOWN
    return None if use == UNKNOWN else use


def reading(text: str, dialect: str) -> EngineReading:
    """What the text, in Prometheus' format, says in this dialect; nothing in one that is not known."""
    known = DIALECTS.get(dialect)
    if known is None:
        return EngineReading()
    adapters, slots = _adapters(text, known.adapters) if known.adapters else (frozenset[str](), 0)
    return EngineReading(
        waiting=_sum(text, known.waiting, MAX_REQUESTS),
        running=_sum(text, known.running, MAX_REQUESTS),
        kv_use=_fullest(text, known.kv_use),
        block_tokens=_whole(_same(text, known.block_tokens)),
        blocks=_whole(_sum(text, known.blocks, MAX_BLOCKS)),
        adapters=adapters,
        adapter_slots=slots,
        started_at=_only(text, STARTED, MAX_EPOCH_S),
        ranks=_ranks(text, known.waiting),
    )


def _values(text: str, signals: tuple[Signal, ...]) -> list[float]:
    """Those of the first signal that there is; of more than are read there is no sum, and no greatest."""
    for signal in signals:
        values = [
            _number(series, signal.label)
            for series in lines_of(text, signal.metric)
            if all(series.labels.get(name) == value for name, value in signal.labels)
        ]
        if values:
            return values if len(values) < MAX_LINES else []
    return []


def _number(series: Series, label: str) -> float:
    if not label:
        return series.value
    text = series.labels.get(label, "")
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 16 else math.nan


def _sum(text: str, signals: tuple[Signal, ...], limit: float) -> float:
    """UNKNOWN if one of them makes no sense: a sum of the others would be a wrong number."""
    values = _values(text, signals)
    total = sum(values)
    return total if values and min(values) >= 0 and total <= limit and not math.isnan(total) else UNKNOWN


def _same(text: str, signals: tuple[Signal, ...]) -> float:
    values = _values(text, signals)
    return values[0] if values and 0 < values[0] <= MAX_BLOCKS and len(set(values)) == 1 else UNKNOWN


def _ranks(text: str, signals: tuple[Signal, ...]) -> int:
    """By label `engine`, which vLLM gives each of its ranks."""
    for signal in signals:
        found = {
            series.labels["engine"] for series in lines_of(text, signal.metric) if "engine" in series.labels
        }
        if found:
            return len(found)
    return 0


def _only(text: str, signals: tuple[Signal, ...], limit: float) -> float:
    """Of several there is no one."""
    values = _values(text, signals)
    return values[0] if len(values) == 1 and 0 < values[0] <= limit else UNKNOWN


def _fullest(text: str, signals: tuple[Signal, ...]) -> float:
    values = [value for value in _values(text, signals) if 0 <= value <= FULL]
    return min(1.0, max(values)) if values else UNKNOWN


def _whole(value: float) -> int:
    return int(value) if value > 0 else 0


def _adapters(text: str, metric: str) -> tuple[frozenset[str], int]:
    """By the newest series: each is dated by its value, and older ones are left behind."""
    newest = max(
        (series for series in lines_of(text, metric) if math.isfinite(series.value)),
        key=lambda series: series.value,
        default=None,
    )
    if newest is None:
        return frozenset(), 0
    named = ",".join(newest.labels.get(f"{state}_lora_adapters", "") for state in ("running", "waiting"))
    names = frozenset(name for part in named.split(",") if (name := part.strip()))
    slots = _number(newest, "max_lora")
    return names if len(names) <= MAX_ADAPTERS else frozenset(), _whole(slots) if slots <= MAX_ADAPTERS else 0
