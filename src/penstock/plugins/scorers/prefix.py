"""The share of the prompt that an endpoint holds: min(cached / tokens, 1); 0 for a prompt without tokens (llm-d's prefix-cache-scorer, w = 0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Prompt, Scorer, View
from penstock.resources.routing_plugins import settled


class Prefix:
    """See the module."""

    def score(self, prompt: Prompt, view: View) -> Sequence[float]:
        """cached / tokens."""
        if prompt.tokens <= 0:
            return [0.0] * len(view.loads)
        share = 1.0 / prompt.tokens
        return [min(max(cached, 0.0) * share, 1.0) for cached in view.cached_tokens]


def open_scorer(parameters: Mapping[str, Any]) -> Scorer:
    """It has no parameters."""
    settled("scorers", "prefix", parameters)
    return Prefix()
