"""A fixed number of replicas: `fixed:N`."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.kit.errors import InvalidInput
from penstock.testing.sim.policy import Observation, Policy, Setup, Wish, check_options


class Fixed:
    """Always the same answer."""

    tick_s = 3600.0

    def __init__(self, replicas: int) -> None:
        self._wish = Wish(replicas, (f"{replicas} replicas, whatever happens",), settled=True)

    def decide(self, seen: Observation) -> Wish:
        """The number it was given."""
        return self._wish


def build(setup: Setup, options: Mapping[str, str]) -> Policy:
    """One option: the number."""
    check_options("fixed", options, ("",))
    text = options.get("", "")
    if not text.isdigit() or int(text) == 0:
        raise InvalidInput(f"--policy fixed: found {text!r}, expected a number of replicas, as in fixed:4")
    return Fixed(int(text))
