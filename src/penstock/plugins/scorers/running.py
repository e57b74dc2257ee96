"""Few requests that are being answered: (max - r) / (max - min) over the endpoints, all 1 where they are equal (llm-d's running-requests).

r is the greater of what the engine says and what this platform has under way there: an engine's word is older than the last request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Prompt, Scorer, View
from penstock.resources.routing_plugins import settled


class Running:
    """See the module."""

    def score(self, prompt: Prompt, view: View) -> Sequence[float]:
        """Least first."""
        counts = [
            load.running if load.running > load.in_flight else float(load.in_flight) for load in view.loads
        ]
        most = max(counts, default=0.0)
        spread = most - min(counts, default=0.0)
        if spread <= 0.0:
            return [1.0] * len(counts)
        return [(most - count) / spread for count in counts]


def open_scorer(parameters: Mapping[str, Any]) -> Scorer:
    """It has no parameters."""
    settled("scorers", "running", parameters)
    return Running()
