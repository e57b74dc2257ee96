"""The price of a token: cheapest / price over the endpoints; 1 where none is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Prompt, Scorer, View
from penstock.resources.routing_plugins import settled


class Cost:
    """See the module."""

    def score(self, prompt: Prompt, view: View) -> Sequence[float]:
        """Ratios of prices."""
        prices = [load.token_price for load in view.loads]
        cheapest = min((price for price in prices if price > 0.0), default=0.0)
        return [cheapest / price if price > 0.0 else 1.0 for price in prices]


def open_scorer(parameters: Mapping[str, Any]) -> Scorer:
    """It has no parameters."""
    settled("scorers", "cost", parameters)
    return Cost()
