"""A prompt of which nobody holds anything goes where the last such prompt is longest ago (llm-d's no-hit-lru-scorer).

Of n endpoints each has the share of the n - 1 others that were given such a prompt later than itself; those that never were come first, all
alike. New prefixes spread by that instead of meeting at the one that has the least to do at a moment. A prompt of which something is held
has 0.5 everywhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Prompt, Scorer, View
from penstock.resources.routing_plugins import settled


class NoHitLru:
    """See the module."""

    def score(self, prompt: Prompt, view: View) -> Sequence[float]:
        """Longest ago first."""
        count = len(view.loads)
        if any(view.cached_tokens):
            return [0.5] * count
        moments = sorted(load.cold_at for load in view.loads)
        others = max(count - 1, 1)
        first = count - bisect_right(moments, moments[0]) if count else 0
        if not first:
            return [1.0] * count
        return [
            1.0 if load.cold_at == moments[0] else (count - bisect_right(moments, load.cold_at)) / others
            for load in view.loads
        ]


def open_scorer(parameters: Mapping[str, Any]) -> Scorer:
    """It has no parameters."""
    settled("scorers", "no-hit-lru", parameters)
    return NoHitLru()
