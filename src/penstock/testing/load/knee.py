"""The knee: the highest rate at which nearly all requests still meet the objective."""

from __future__ import annotations

from math import inf, sqrt

ENOUGH = 0.99
"""The share of requests that must meet the objective."""
CLOSE = 1.05
"""The search ends when the rate that failed is at most so much above one that held."""


class KneeSearch:
    """Ask `rate_per_s`, try it, and `tell`. It doubles until a rate fails (or halves until one holds), then halves the gap in proportion."""

    def __init__(self, first_per_s: float, max_steps: int) -> None:
        """`max_steps` bounds how many rates are tried."""
        self.rate_per_s = first_per_s
        self.steps: list[tuple[float, float]] = []
        self._max_steps = max_steps
        self._held, self._failed = 0.0, inf

    @property
    def knee_per_s(self) -> float:
        """The highest rate that held; 0 if none did."""
        return self._held

    @property
    def is_found(self) -> bool:
        """Whether a rate a little above it failed; otherwise the steps ran out before."""
        return self._held > 0.0 and self._failed <= self._held * CLOSE

    @property
    def is_over(self) -> bool:
        """Nothing more is to be tried."""
        return self.is_found or len(self.steps) >= self._max_steps

    def tell(self, attainment: float) -> None:
        """What the rate came to."""
        rate = self.rate_per_s
        self.steps.append((rate, attainment))
        if attainment >= ENOUGH:
            self._held = max(self._held, rate)
        else:
            self._failed = min(self._failed, rate)
        if self._failed == inf:
            self.rate_per_s = rate * 2.0
        elif self._held == 0.0:
            self.rate_per_s = rate / 2.0
        else:
            self.rate_per_s = sqrt(self._held * self._failed)
