"""Reads how full engines' KV caches are, from their own metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from penstock.decide.engine_metrics import DIALECT, kv_cache_use, metrics_endpoint
from penstock.kit.errors import PlatformError
from penstock.kit.scrape import TIMEOUT_S, scrape
from penstock.resources.pod import Pod

MAX_AT_ONCE = 16


class EngineMetrics:
    """Scrapes pods that say which dialect of metrics their engine speaks; at most 16 at once."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """`timeout_s` is per pod."""
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)

    async def read(self, pods: Iterable[Pod]) -> dict[str, float]:
        """KV cache use from 0 to 1, by pod name. Pods that do not answer, or do not tell, are left out."""
        chosen = list(pods)
        uses = await asyncio.gather(*map(self._use, chosen))
        return {pod.metadata.name: use for pod, use in zip(chosen, uses, strict=True) if use is not None}

    async def _use(self, pod: Pod) -> float | None:
        dialect = pod.metadata.annotations.get(DIALECT, "")
        endpoint = metrics_endpoint(pod)
        if not dialect or endpoint is None:
            return None
        try:
            async with self._slots:
                text = await scrape(*endpoint, timeout_s=self._timeout_s)
            return kv_cache_use(text, dialect)
        except PlatformError:
            return None
