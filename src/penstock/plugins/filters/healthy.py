"""Leaves endpoints whose circuit is closed (`is_open`: they may be asked).

One that starts slowly takes part in the share `weight` of requests: where draw(name, seed = the request's draw) < weight * 2^64, and in those
of which it holds half the prompt or more: what it has done before, it is warm for. Where only such are left, all of them stay; where every
circuit is open, all endpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Filter, Prompt, View
from penstock.kit.hashing import DRAWS, seeded_draw
from penstock.resources.routing_plugins import settled


class Healthy:
    """See the module."""

    insists = False

    def keep(self, prompt: Prompt, view: View) -> Sequence[int] | None:
        """None where nothing is wrong, which is the rule."""
        loads, cached, half = view.loads, view.cached_tokens, prompt.tokens / 2
        out = [i for i, load in enumerate(loads) if load.weight < 1.0 or not load.is_open]
        if not out:
            return None
        closed = [i for i, load in enumerate(loads) if load.is_open]
        warm = [
            i
            for i in closed
            if loads[i].weight >= 1.0
            or cached[i] >= half > 0
            or seeded_draw(loads[i].endpoint.name, prompt.draw) < loads[i].weight * DRAWS
        ]
        return warm or closed or None


def open_filter(parameters: Mapping[str, Any]) -> Filter:
    """It has no parameters."""
    settled("filters", "healthy", parameters)
    return Healthy()
