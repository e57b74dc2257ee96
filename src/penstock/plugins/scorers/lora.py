"""1 where the adapter is loaded, 0.8 where a slot is free, 0.5 where that is unknown, else 0 (llm-d's lora-affinity-scorer).

A request without an adapter has 1 everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Prompt, Scorer, View
from penstock.resources.routing_plugins import settled


class Lora:
    """See the module."""

    def score(self, prompt: Prompt, view: View) -> Sequence[float]:
        """By what is loaded."""
        adapter = prompt.adapter
        if not adapter:
            return [1.0] * len(view.loads)
        return [
            1.0
            if adapter in load.adapters
            else 0.5
            if not load.adapter_slots
            else 0.8
            if len(load.adapters) < load.adapter_slots
            else 0.0
            for load in view.loads
        ]


def open_scorer(parameters: Mapping[str, Any]) -> Scorer:
    """It has no parameters."""
    settled("scorers", "lora", parameters)
    return Lora()
