"""How tightly the labelled range of context lengths holds the request (llm-d's context-length-aware).

With length = tokens + output_tokens and a range MIN-MAX: inside 0.3 + 0.7 * length / MAX; below MIN 0.3 * length / MIN; above MAX
0.3 * MAX / length; 0.5 without a label that can be read (labels: see the filter of that name).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Prompt, Scorer, View, context_range
from penstock.resources.routing_plugins import settled


class ContextLength:
    """See the module."""

    def score(self, prompt: Prompt, view: View) -> Sequence[float]:
        """By the label."""
        length = prompt.tokens + prompt.output_tokens
        scores = []
        for load in view.loads:
            span = context_range(load.labels) if load.labels else None
            if span is None:
                scores.append(0.5)
            elif length < span[0]:
                scores.append(0.3 * length / span[0])
            elif length > span[1]:
                scores.append(0.3 * span[1] / length)
            else:
                scores.append(0.3 + 0.7 * length / max(span[1], 1))
        return scores


def open_scorer(parameters: Mapping[str, Any]) -> Scorer:
    """It has no parameters."""
    settled("scorers", "context-length", parameters)
    return ContextLength()
