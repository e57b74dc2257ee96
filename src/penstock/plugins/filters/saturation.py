"""Leaves endpoints that are not full.

One is full where waiting >= maxWaiting, or kv_use >= maxKvUse, or uncached_tokens >= maxUncachedTokens (llm-d's load-aware scorer counts up to
128 waiting; its limit of stickiness is 286,720 tokens = 14 s). Kthena's filter has 10 waiting, llm-d's saturation detector 80 % of the cache: in
the simulator, requests then leave what they share long before the wait is worth it, and compute elsewhere what took no room where it was. What an
engine does not say of itself never makes it full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Filter, Prompt, View
from penstock.resources.routing_plugins import settled


class Saturation:
    """See the module. Where all are full, somebody else decides whether the request waits."""

    insists = False

    def __init__(self, waiting: float, kv_use: float, tokens: float) -> None:
        """The least of each that makes an endpoint full."""
        self._waiting = waiting
        self._kv_use = kv_use
        self._tokens = tokens

    def keep(self, prompt: Prompt, view: View) -> Sequence[int] | None:
        """None where none is full."""
        waiting, kv_use, tokens = self._waiting, self._kv_use, self._tokens
        full = {
            i
            for i, load in enumerate(view.loads)
            if not (load.waiting < waiting and load.kv_use < kv_use and load.uncached_tokens < tokens)
        }
        return [i for i in range(len(view.loads)) if i not in full] if full else None


def open_filter(parameters: Mapping[str, Any]) -> Filter:
    """Parameters: maxWaiting, maxKvUse, maxUncachedTokens."""
    got = settled("filters", "saturation", parameters)
    return Saturation(got["maxWaiting"], got["maxKvUse"], got["maxUncachedTokens"])
