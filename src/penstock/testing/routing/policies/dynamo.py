"""NVIDIA Dynamo's KV router with engines' KV events (`lib/kv-router`, `scheduling/selector/default.rs`), its defaults.

In blocks: cost = max(active prefill + the prompt - overlap, 0) + decode blocks, active and the prompt's, each distinct block once. Active
prefill is what was not cached of prompts without a first token; decode blocks are those of all prompts under way. Lowest cost, ties by chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.holders import Holders
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.prefixes import Prefixes


class Dynamo(Policy):
    """See the module. `shared` are the blocks of prompts under way."""

    hears_events = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.prefixes = Prefixes(self.replicas)
        self._prefill = [0.0] * self.replicas
        self.shared = Holders()
        self._active: list[Counter[int]] = [Counter() for _ in self.everyone]
        self._partial = [0] * self.replicas
        self._decode = [0] * self.replicas
        self._new: dict[Ask, float] = {}
        self._matched: dict[int, int] = {}

    def choose(self, ask: Ask, now: float) -> int:
        """The lowest cost."""
        matched = self._matched = self.prefixes.leading(ask.hashes)
        shared = self.shared.leading(ask.hashes)
        blocks, prefill, decode = self._blocks(ask), self._prefill, self._decode
        costs = [ahead + blocks + (held + blocks) for ahead, held in zip(prefill, decode, strict=True)]
        for place in matched.keys() | shared.keys():
            ahead = max(prefill[place] + blocks - matched.get(place, 0), 0.0)
            costs[place] = ahead + (decode[place] + blocks - shared.get(place, 0))
        return self.least(costs)

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Both kinds of blocks are active."""
        super().sent(ask, replica, now)
        new = max(self._blocks(ask) - self._matched.get(replica, 0), 0.0)
        self._new[ask] = new
        self._prefill[replica] += new
        active = self._active[replica]
        self.shared.give(replica, [key for key in ask.hashes if key not in active])
        active.update(ask.hashes)
        self._partial[replica] += 1
        self._decode[replica] = len(active) + self._partial[replica]

    def began(self, ask: Ask, replica: int, now: float) -> None:
        """Prefill is over."""
        self._prefill[replica] -= self._new.pop(ask, 0.0)

    def ended(self, ask: Ask, replica: int, now: float, cached_tokens: int) -> None:
        """Decode is over."""
        super().ended(ask, replica, now, cached_tokens)
        self._prefill[replica] -= self._new.pop(ask, 0.0)
        self._partial[replica] -= 1
        active = self._active[replica]
        gone = [key for key in ask.hashes if active[key] == 1]
        active.subtract(ask.hashes)
        for key in gone:
            del active[key]
        self.shared.take(replica, gone)
        self._decode[replica] = len(active) + self._partial[replica]

    def stored(self, replica: int, hashes: Sequence[int]) -> None:
        """Into the radix tree."""
        self.prefixes.use(replica, hashes)

    def removed(self, replica: int, hashes: Sequence[int]) -> None:
        """Out of it."""
        self.prefixes.drop(replica, hashes)

    def _blocks(self, ask: Ask) -> float:
        return ask.prompt_tokens / self.setup.block_tokens


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return Dynamo(setup)
