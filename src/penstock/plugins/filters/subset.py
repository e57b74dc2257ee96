"""Leaves the endpoints that the caller allows, as `address:port` (Gateway API Inference Extension: envoy.lb.subset_hint). It insists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Filter, Prompt, View
from penstock.resources.routing_plugins import settled


class Subset:
    """See the module."""

    insists = True

    def keep(self, prompt: Prompt, view: View) -> Sequence[int] | None:
        """None where the caller allows all."""
        only = prompt.only
        if only is None:
            return None
        return [
            i for i, load in enumerate(view.loads) if f"{load.endpoint.address}:{load.endpoint.port}" in only
        ]


def open_filter(parameters: Mapping[str, Any]) -> Filter:
    """It has no parameters."""
    settled("filters", "subset", parameters)
    return Subset()
