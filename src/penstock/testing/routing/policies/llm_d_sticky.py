"""llm-d's endpoint picker, sticky until saturated (its preset of 2026-08): the affinity filter, then in-flight uncached tokens.

Only replicas that hold 80 % of the prompt are kept, if there are any and unless the best of them expects its first token more than 18 s
after the best other one, where that is in-flight uncached tokens / 15,928 a second. Of those left, the fewest uncached tokens in flight
(released at the first token), equals by chance. Approximate index. Plugins: `prefix-cache-affinity-filter`, in-flight load producer.
"""

from __future__ import annotations

from math import inf

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.prefixes import Prefixes

AFFINE = 0.80
MOST_WAIT_TOKENS = 18.0 * 15_928


class LlmDSticky(Policy):
    """See the module."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._prefixes = Prefixes(self.replicas, setup.capacity_blocks)
        self._tokens = [0.0] * self.replicas
        self._own: dict[Ask, float] = {}
        self._matched: dict[int, int] = {}

    def choose(self, ask: Ask, now: float) -> int:
        """See the module."""
        self._matched = self._prefixes.leading(ask.hashes)
        enough, tokens = AFFINE * (len(ask.hashes) or 1), self._tokens
        affine = [place for place, blocks in self._matched.items() if blocks >= enough]
        if affine:
            others = tokens.copy()
            for place in affine:
                others[place] = inf
            if min(map(tokens.__getitem__, affine)) - min(others) <= MOST_WAIT_TOKENS:
                return self.least(tokens, affine)
        return self.least(tokens)

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Its uncached tokens are in flight."""
        super().sent(ask, replica, now)
        own = ask.prompt_tokens - self._matched.get(replica, 0) * self.setup.block_tokens
        self._own[ask] = own
        self._tokens[replica] += own
        self._prefixes.use(replica, ask.hashes, tail_first=False)

    def began(self, ask: Ask, replica: int, now: float) -> None:
        """They are computed."""
        self._tokens[replica] -= self._own.pop(ask, 0.0)

    def ended(self, ask: Ask, replica: int, now: float, cached_tokens: int) -> None:
        """Also where it never began."""
        super().ended(ask, replica, now, cached_tokens)
        self._tokens[replica] -= self._own.pop(ask, 0.0)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return LlmDSticky(setup)
