"""Takes the highest sum; among k equals the (draw // 2^20 mod k)-th, so that they share (llm-d's max-score-picker)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Picker, Prompt
from penstock.resources.routing_plugins import settled


class MaxScore:
    """See the module."""

    def pick(self, prompt: Prompt, scores: Sequence[float]) -> int:
        """Ties by the draw's upper bits: its lower ones may have drawn the revision."""
        top = max(scores)
        if scores.count(top) == 1:
            return scores.index(top)
        ties = [i for i, score in enumerate(scores) if score == top]
        return ties[(prompt.draw >> 20) % len(ties)]


def open_picker(parameters: Mapping[str, Any]) -> Picker:
    """It has no parameters."""
    settled("pickers", "max-score", parameters)
    return MaxScore()
