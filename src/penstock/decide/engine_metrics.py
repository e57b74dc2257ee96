"""How full is an engine's KV cache, by the metrics it exposes?

Engines name it differently; a pod says which dialect its engine speaks (annotation `penstock.dev/metrics-dialect`). Several series
(one per model or rank) count by the fullest.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import NamedTuple

from penstock.kit.exposition import series_of
from penstock.resources.pod import Pod

DIALECT = "penstock.dev/metrics-dialect"
PORT = "prometheus.kserve.io/port"
PATH = "prometheus.kserve.io/path"
DEFAULT_PATH = "/metrics"

KV_CACHE_USE = MappingProxyType(
    {
        "vllm": (("vllm:kv_cache_usage_perc", {}), ("vllm:gpu_cache_usage_perc", {})),
        "sglang": (("sglang:token_usage", {}),),
        "llama-cpp": (("llamacpp:kv_cache_usage_ratio", {}),),
        "triton": (("nv_trt_llm_kv_cache_block_metrics", {"kv_cache_block_type": "fraction"}),),
    }
)
"""By dialect: names of a share from 0 to 1, newest first, with the labels that its series must have."""


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
    """The share in use, from 0 to 1; None where the text does not tell. Raises InvalidInput for what is no metrics text."""
    for name, labels in KV_CACHE_USE.get(dialect, ()):
        values = [
            series.value
            for series in series_of(text, name)
            if labels.items() <= series.labels.items() and math.isfinite(series.value) and series.value >= 0
        ]
        if values:
            return min(1.0, max(values))
    return None
