"""Leaves endpoints whose labelled range of context lengths holds the request: tokens + output_tokens (llm-d's context-length-aware).

The range is in a pod's label `penstock.dev/context-length-range`, else `llm-d.ai/context-length-range`: `MIN-MAX` in tokens, both included.
One without a label that can be read takes any length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Filter, Prompt, View, context_range
from penstock.resources.routing_plugins import settled


class ContextLength:
    """See the module."""

    insists = False

    def keep(self, prompt: Prompt, view: View) -> Sequence[int] | None:
        """None where no endpoint says a range."""
        length = prompt.tokens + prompt.output_tokens
        left, count = [], 0
        for i, load in enumerate(view.loads):
            count += 1
            span = context_range(load.labels) if load.labels else None
            if span is None or span[0] <= length <= span[1]:
                left.append(i)
        return None if len(left) == count else left


def open_filter(parameters: Mapping[str, Any]) -> Filter:
    """It has no parameters."""
    settled("filters", "context-length", parameters)
    return ContextLength()
