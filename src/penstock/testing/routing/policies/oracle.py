"""An oracle: looks into every engine's cache, and knows rates, lengths of answers and what is under way; greedy, with the same engines.

Cost in seconds: uncached prompts ahead and its own; its answer's steps, with the sequences and contexts that decode there; and what its own
prefill holds up of the answers under way. Blocks that a prompt under way will store count as held. It bounds what better knowledge is worth,
not what a rule that foresees arrivals could do.
"""

from __future__ import annotations

from penstock.engine.simulated.pace import prefill_s
from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policies.dynamo import Dynamo
from penstock.testing.routing.policy import Policy, Setup


class Oracle(Dynamo):
    """See the module."""

    hears_events = False

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._ahead_s = [0.0] * self.replicas
        self._decoding = [0] * self.replicas
        self._context = [0] * self.replicas
        self._own_s: list[float] = []
        self._own: dict[Ask, float] = {}

    def choose(self, ask: Ask, now: float) -> int:
        """The least cost."""
        profile, tokens = self.setup.profile, ask.prompt_tokens
        base_s, token_s = profile.step_base_s, profile.step_per_context_token_s
        self._own_s = self._owns_s(ask)
        known = zip(self._ahead_s, self._own_s, self._decoding, self._context, strict=True)
        return self.least(
            [
                ahead_s + own_s * (1 + decoding) + ask.output_tokens * (base_s + token_s * (context + tokens))
                for ahead_s, own_s, decoding, context in known
            ]
        )

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Ahead of what comes after."""
        own_s = self._own_s[replica]
        super().sent(ask, replica, now)
        self._own[ask] = own_s
        self._ahead_s[replica] += own_s

    def began(self, ask: Ask, replica: int, now: float) -> None:
        """It decodes."""
        super().began(ask, replica, now)
        self._ahead_s[replica] -= self._own[ask]
        self._decoding[replica] += 1
        self._context[replica] += ask.prompt_tokens + ask.output_tokens // 2

    def ended(self, ask: Ask, replica: int, now: float, cached_tokens: int) -> None:
        """It decodes no more, or never did."""
        began = ask not in self._new
        super().ended(ask, replica, now, cached_tokens)
        own_s = self._own.pop(ask)
        if began:
            self._decoding[replica] -= 1
            self._context[replica] -= ask.prompt_tokens + ask.output_tokens // 2
        else:
            self._ahead_s[replica] -= own_s

    def _owns_s(self, ask: Ask) -> list[float]:
        """What computing it takes at each replica."""
        held = self.shared.leading(ask.hashes)
        first = ask.hashes[0] if ask.hashes else -1
        for place, engine in enumerate(self.setup.engines):
            if first in engine.pool:
                held[place] = max(engine.pool.leading(ask.hashes), held.get(place, 0))
        profile, size, tokens = self.setup.profile, self.setup.block_tokens, ask.prompt_tokens
        owns_s = [prefill_s(profile, 0, max(tokens, 1))] * self.replicas
        for place, blocks in held.items():
            owns_s[place] = prefill_s(profile, blocks * size, max(tokens - blocks * size, 1))
        return owns_s


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return Oracle(setup)
