"""1 for the endpoint that the prompt's session belongs to, else 0: that with the highest draw(name, seed = draw(session)).

Rendezvous hashing (Thaler and Ravishankar 1998): while endpoints come and go, only the sessions of those that go move. A request without
a session has 0 everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Prompt, Scorer, View
from penstock.kit.hashing import draw, seeded_draw
from penstock.resources.routing_plugins import settled


class Session:
    """See the module."""

    def score(self, prompt: Prompt, view: View) -> Sequence[float]:
        """One 1 at most."""
        loads = view.loads
        scores = [0.0] * len(loads)
        if prompt.session and scores:
            seed = draw(prompt.session)
            draws = [seeded_draw(load.endpoint.name, seed) for load in loads]
            scores[draws.index(max(draws))] = 1.0
        return scores


def open_scorer(parameters: Mapping[str, Any]) -> Scorer:
    """It has no parameters."""
    settled("scorers", "session", parameters)
    return Session()
