"""Few tokens of prompts that are yet to be computed: half / (half + uncached_tokens), with half = halfTokens.

The signal is that of llm-d's in-flight load producer, which needs no scrape; the curve is ours: it tells loads apart at any size, where
llm-d's 1 - min(1, tokens / 4,194,304) hardly does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Prompt, Scorer, View
from penstock.resources.routing_plugins import settled


class InFlightTokens:
    """See the module."""

    def __init__(self, half_tokens: float) -> None:
        """As many tokens make the score one half."""
        self._half = half_tokens

    def score(self, prompt: Prompt, view: View) -> Sequence[float]:
        """1 where nothing waits."""
        half = self._half
        return [half / (half + max(load.uncached_tokens, 0.0)) for load in view.loads]


def open_scorer(parameters: Mapping[str, Any]) -> Scorer:
    """Parameters: halfTokens."""
    got = settled("scorers", "in-flight-tokens", parameters)
    return InFlightTokens(got["halfTokens"])
