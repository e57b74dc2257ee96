"""NVIDIA Dynamo's KV router with engines' KV events (`lib/kv-router`, `scheduling/selector/default.rs`), its defaults.

In blocks: cost = max(active prefill + the prompt - overlap, 0) + decode blocks, active and the prompt's, each distinct block once. Active
prefill is what was not cached of prompts without a first token; decode blocks are those of all prompts under way. Lowest cost, ties by chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.prefixes import Prefixes


class Dynamo(Policy):
    """See the module."""

    hears_events = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.prefixes = Prefixes(self.replicas)
        self._prefill = [0.0] * self.replicas
        self._active: list[Counter[int]] = [Counter() for _ in self.everyone]
        self._partial = [0] * self.replicas
        self._new: dict[Ask, float] = {}
        self._matched: dict[int, int] = {}

    def choose(self, ask: Ask, now: float) -> int:
        """The lowest cost."""
        matched = self._matched = self.prefixes.leading(ask.hashes)
        blocks = self._blocks(ask)
        costs = []
        for place in self.everyone:
            overlap = matched.get(place, 0)
            decode = len(self._active[place]) + self._partial[place] + blocks - self.shared(place, ask.hashes)
            costs.append(max(self._prefill[place] + blocks - overlap, 0.0) + decode)
        return self.least(costs)

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Both kinds of blocks are active."""
        super().sent(ask, replica, now)
        new = max(self._blocks(ask) - self._matched.get(replica, 0), 0.0)
        self._new[ask] = new
        self._prefill[replica] += new
        self._active[replica].update(ask.hashes)
        self._partial[replica] += 1

    def began(self, ask: Ask, replica: int, now: float) -> None:
        """Prefill is over."""
        self._prefill[replica] -= self._new.pop(ask, 0.0)

    def ended(self, ask: Ask, replica: int, now: float, cached_tokens: int) -> None:
        """Decode is over."""
        super().ended(ask, replica, now, cached_tokens)
        self._prefill[replica] -= self._new.pop(ask, 0.0)
        self._partial[replica] -= 1
        active = self._active[replica]
        for key in ask.hashes:
            left = active[key] - 1
            if left:
                active[key] = left
            else:
                del active[key]

    def stored(self, replica: int, hashes: Sequence[int]) -> None:
        """Into the radix tree."""
        self.prefixes.use(replica, hashes)

    def removed(self, replica: int, hashes: Sequence[int]) -> None:
        """Out of it."""
        self.prefixes.drop(replica, hashes)

    def shared(self, place: int, hashes: Sequence[int]) -> int:
        """Leading blocks that are active there already, by bisection: who holds a block of a chain holds all before it."""
        active = self._active[place]
        if not hashes or hashes[0] not in active:
            return 0
        low, high = 1, len(hashes)
        while low < high:
            middle = (low + high + 1) // 2
            if hashes[middle - 1] in active:
                low = middle
            else:
                high = middle - 1
        return low

    def _blocks(self, ask: Ask) -> float:
        return ask.prompt_tokens / self.setup.block_tokens


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return Dynamo(setup)
