"""Few waiting requests: (max - q) / (max - min) over the endpoints, all 1 where they are equal (llm-d's queue-scorer).

q is what the engine says; where it does not, the requests under way that have no first token yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Prompt, Scorer, View
from penstock.resources.routing_plugins import settled


class Queue:
    """See the module."""

    def score(self, prompt: Prompt, view: View) -> Sequence[float]:
        """Least first."""
        queues = [load.waiting if load.waiting >= 0.0 else float(load.prefilling) for load in view.loads]
        most = max(queues, default=0.0)
        spread = most - min(queues, default=0.0)
        if spread <= 0.0:
            return [1.0] * len(queues)
        return [(most - queue) / spread for queue in queues]


def open_scorer(parameters: Mapping[str, Any]) -> Scorer:
    """It has no parameters."""
    settled("scorers", "queue", parameters)
    return Queue()
