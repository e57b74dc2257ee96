"""Leaves endpoints that have the adapter loaded; where none has, those that can load it.

One can where it has a free slot, or does not say how many slots it has. A request without an adapter may go anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Filter, Prompt, View
from penstock.resources.routing_plugins import settled


class Lora:
    """See the module. Where nobody can load it, an engine may still exchange one for another."""

    insists = False

    def keep(self, prompt: Prompt, view: View) -> Sequence[int] | None:
        """None where no adapter is asked for."""
        adapter = prompt.adapter
        if not adapter:
            return None
        return [i for i, load in enumerate(view.loads) if adapter in load.adapters] or [
            i
            for i, load in enumerate(view.loads)
            if not load.adapter_slots or len(load.adapters) < load.adapter_slots
        ]


def open_filter(parameters: Mapping[str, Any]) -> Filter:
    """It has no parameters."""
    settled("filters", "lora", parameters)
    return Lora()
