"""The free share of the KV cache: 1 - kv_use (llm-d's kv-cache-utilization-scorer, Kthena's gpu-usage).

Where the engine does not say, its use is taken to be context_tokens / kv_tokens; where its size is unknown too, one half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Prompt, Scorer, View
from penstock.resources.routing_plugins import settled


class KvUse:
    """See the module."""

    def score(self, prompt: Prompt, view: View) -> Sequence[float]:
        """1 - use."""
        return [
            1.0 - min(load.kv_use, 1.0)
            if load.kv_use >= 0.0
            else 1.0 - min(load.context_tokens / load.kv_tokens, 1.0)
            if load.kv_tokens > 0
            else 0.5
            for load in view.loads
        ]


def open_scorer(parameters: Mapping[str, Any]) -> Scorer:
    """It has no parameters."""
    settled("scorers", "kv-use", parameters)
    return KvUse()
