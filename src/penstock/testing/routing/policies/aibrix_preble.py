"""AIBrix, prefix-cache-preble: stay where more of the prompt is cached than not, else the least cost of load, eviction and prefill (Preble, E2).

Cost in seconds over a window of 3 minutes: what was sent there (its uncached prefill, and decoding of 45 tokens), what the tokens that
would have to be evicted for it are worth (their share of the window's hits there), and its own uncached prefill. Rates are the engine's own,
not the default V100's (`algorithms/prefix_cache_preble.go`; Srivatsa et al. 2024, section 3).
"""

from __future__ import annotations

from collections import deque

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.sent_prefixes import SentPrefixes

WINDOW_S = 180.0
DECODE_TOKENS = 45


class Preble(SentPrefixes):
    """See the module."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, setup.capacity_blocks)
        self._token_s = 1.0 / setup.profile.prefill_tokens_per_s
        self._decode_s = DECODE_TOKENS * setup.profile.step_per_sequence_s
        self._load_s = [0.0] * self.replicas
        self._hits_s = [0.0] * self.replicas
        self._window: deque[tuple[float, int, float, float]] = deque()
        self._matched: dict[int, int] = {}

    def choose(self, ask: Ask, now: float) -> int:
        """See the module."""
        while self._window and self._window[0][0] <= now - WINDOW_S:
            _, place, load_s, hit_s = self._window.popleft()
            self._load_s[place] -= load_s
            self._hits_s[place] -= hit_s
        self._matched = self.prefixes.leading(ask.hashes)
        best = max(self._matched.values(), default=0)
        if 2 * best * self.setup.block_tokens > ask.prompt_tokens:
            return self.least(self._load_s, [p for p, n in self._matched.items() if n == best])
        capacity, tokens, token_s = self.setup.capacity_blocks, self.setup.block_tokens, self._token_s
        new = [len(ask.hashes)] * self.replicas
        for place, blocks in self._matched.items():
            new[place] -= blocks
        known = zip(new, self.prefixes.sizes(), self._load_s, self._hits_s, strict=True)
        return self.least(
            [
                load_s
                + ((size + blocks - capacity) / capacity * hits_s if size + blocks > capacity else 0.0)
                + blocks * tokens * token_s
                for blocks, size, load_s, hits_s in known
            ]
        )

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """It counts for three minutes."""
        super().sent(ask, replica, now)
        hit = self._matched.get(replica, 0) * self.setup.block_tokens
        load_s = (ask.prompt_tokens - hit) * self._token_s + self._decode_s
        hit_s = hit * self._token_s
        self._load_s[replica] += load_s
        self._hits_s[replica] += hit_s
        self._window.append((now, replica, load_s, hit_s))


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return Preble(setup)
