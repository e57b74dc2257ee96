"""How much of the misses that a promise allows is spent, and how bold may one be for it?

A promise of 99 % allows 1 % of misses, and to stay far below costs replicas that nobody asked for. Misses have two causes, which are told
apart by whether the demand was as planned. Misses within the plan mean that a replica bears less than was thought, so that each gets less
load. Misses altogether say how rare a peak has to be that is not covered. Both answers go with a power of the part that is spent of what
is aimed at, which is most of what is allowed: the rest is for what nobody foresees.
"""

from __future__ import annotations

from math import exp

from msgspec import Struct

REMEMBERED = 20_000.0
"""Requests over which misses are remembered, fading."""
BELIEVED = 5_000.0
"""As if so many requests had been seen before the first, with just as many misses as aimed at."""
AIMED = 0.7
"""Part of the allowed misses that is aimed at."""
USUAL_LOAD, LEAST_LOAD, MOST_LOAD = 1.0, 0.6, 1.1
"""Share of its measured capacity that a replica is given: when as much is spent as aimed at, and at most and least."""
LOAD_POWER = 0.3
COVERED, LEAST_COVERED, MOST_COVERED = 0.95, 0.7, 0.99
"""The quantile of peaks that are covered."""
COVERED_POWER = 0.5


class Budget(Struct, frozen=True, kw_only=True, gc=False):
    """Requests that were answered, and how many of them missed the promise; older ones fade."""

    answered: float = 0.0
    missed: float = 0.0


def after(budget: Budget, answered: int, missed: float) -> Budget:
    """So many more were answered."""
    kept = exp(-answered / REMEMBERED)
    return Budget(answered=budget.answered * kept + answered, missed=budget.missed * kept + missed)


def spent(budget: Budget, objective: float) -> float:
    """How many times more misses there were than are aimed at."""
    aimed = (1.0 - objective) * AIMED
    return (budget.missed + aimed * BELIEVED) / (aimed * (budget.answered + BELIEVED))


def load(within_plan: Budget, objective: float) -> float:
    """The share of its capacity that a replica is given."""
    return min(MOST_LOAD, max(LEAST_LOAD, USUAL_LOAD * float(spent(within_plan, objective) ** -LOAD_POWER)))


def covered(budget: Budget, objective: float) -> float:
    """The quantile of peaks that replicas are asked for."""
    left_out = (1.0 - COVERED) * float(spent(budget, objective) ** -COVERED_POWER)
    return min(MOST_COVERED, max(LEAST_COVERED, 1.0 - left_out))
