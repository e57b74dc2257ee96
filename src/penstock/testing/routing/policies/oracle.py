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
        self._own: dict[Ask, float] = {}

    def choose(self, ask: Ask, now: float) -> int:
        """The least cost."""
        profile = self.setup.profile
        costs = []
        for place in self.everyone:
            own_s = self._own_s(ask, place)
            step_s = profile.step_base_s + profile.step_per_context_token_s * (
                self._context[place] + ask.prompt_tokens
            )
            costs.append(
                self._ahead_s[place] + own_s * (1 + self._decoding[place]) + ask.output_tokens * step_s
            )
        return self.least(costs)

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Ahead of what comes after."""
        own_s = self._own_s(ask, replica)
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

    def _own_s(self, ask: Ask, place: int) -> float:
        cached, _ = self.setup.engines[place].pool.match(ask.hashes)
        held = max(cached, self.shared(place, ask.hashes)) * self.setup.block_tokens
        return prefill_s(self.setup.profile, held, max(ask.prompt_tokens - held, 1))


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return Oracle(setup)
