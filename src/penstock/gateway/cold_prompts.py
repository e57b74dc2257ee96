"""How much of what no cache holds one service's endpoints may still take in: a bucket that the budget of `decide/footprint.py` fills."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from penstock.contracts.scheduling import Load
from penstock.decide.footprint import Budget, Prefix, cold_budget
from penstock.gateway.kv_index import KvIndex
from penstock.gateway.kv_worth import Rate

PREFIXES = 64
"""How many are looked at; what comes back more seldom than so many others is evicted first anyway."""
EVERY_S = 1.0
"""How often the budget is worked out anew, in about 0.3 ms, while cold prompts come."""


class ColdPrompts:
    """Of one service. Times are monotonic."""

    def __init__(self) -> None:
        """Nothing is held back."""
        self.budget = Budget()
        self._left = inf
        self._at = self._decided_at = -inf
        self._rate = Rate()

    def came(self, tokens: float, now: float) -> None:
        """One asks to be let in; it is counted once, however long it waits."""
        self._rate.add(tokens, now)

    def lacks(self, index: KvIndex, loads: Sequence[Load], now: float) -> bool:
        """Whether the next has to wait. One that is larger than the budget is let in when there is any, and pays for it later."""
        if now - self._decided_at >= EVERY_S:
            self._decide(index, loads, now)
        if self._left == inf:
            return False
        self._left = min(self.budget.tokens, self._left + self.budget.tokens_per_s * (now - self._at))
        self._at = now
        return self._left <= 0.0

    def let_in(self, tokens: float) -> None:
        """It goes."""
        self._left -= tokens

    def _decide(self, index: KvIndex, loads: Sequence[Load], now: float) -> None:
        hottest = index.hottest(PREFIXES, now)
        measured = [load for load in loads if load.is_measured and load.prefill_token_s > 0.0]
        share = len(loads) / len(measured) if measured else 0.0
        before, self.budget = (
            self.budget,
            cold_budget(
                [Prefix(float(one.blocks * index.block_tokens), one.rate) for one in hottest],
                float(sum(load.kv_tokens for load in loads))
                if all(load.kv_tokens for load in loads)
                else 0.0,
                share * sum(1.0 / load.prefill_token_s for load in measured),
                self._rate.per_s(now),
            ),
        )
        self._decided_at = now
        if inf in (self.budget.tokens, before.tokens):
            self._left, self._at = self.budget.tokens, now
