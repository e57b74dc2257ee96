"""Draws one, each with its sum as the chance (llm-d's weighted-random-picker).

With u = (draw // 2^20 mod 2^32) / 2^32, the first whose running total exceeds u * total; evenly where all sums are 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Picker, Prompt
from penstock.resources.routing_plugins import settled


class WeightedRandom:
    """See the module."""

    def pick(self, prompt: Prompt, scores: Sequence[float]) -> int:
        """The same for the same draw."""
        total = sum(scores)
        drawn = (prompt.draw >> 20) & 0xFFFFFFFF
        if total <= 0.0:
            return drawn % len(scores)
        point = drawn / 4294967296.0 * total
        for i, score in enumerate(scores):
            point -= score
            if point < 0.0:
                return i
        return scores.index(max(scores))


def open_picker(parameters: Mapping[str, Any]) -> Picker:
    """It has no parameters."""
    settled("pickers", "weighted-random", parameters)
    return WeightedRandom()
