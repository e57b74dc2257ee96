"""vLLM's router, smetric: stay with the session's replica while that meets the SLO of the first token, else the least work.

The work of n new tokens with context l is c_lin * n + c_att * n * (l - n / 2); here both coefficients are the engine's own, so that work
is in seconds and the learned rate of work is 1. New are the tokens after the session's last prompt, on its replica. SLO: 1 s, an assumption.
Without a session, the least work (`policies/smetric.rs`).
"""

from __future__ import annotations

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup

SLO_S = 1.0


class SMetric(Policy):
    """See the module."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._pending_s = [0.0] * self.replicas
        self._work: dict[Ask, float] = {}
        self._sessions: dict[str, tuple[int, int]] = {}

    def choose(self, ask: Ask, now: float) -> int:
        """See the module."""
        place, known = self._sessions.get(ask.session, (-1, 0)) if ask.session else (-1, 0)
        if place >= 0 and self._pending_s[place] + self._work_s(ask.prompt_tokens - known, ask) <= SLO_S:
            return place
        return self.least(self._pending_s)

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Its work is pending."""
        super().sent(ask, replica, now)
        place, known = self._sessions.get(ask.session, (-1, 0)) if ask.session else (-1, 0)
        new = ask.prompt_tokens - (known if place == replica else 0)
        self._work[ask] = self._work_s(new, ask)
        self._pending_s[replica] += self._work[ask]
        if ask.session:
            self._sessions[ask.session] = replica, ask.prompt_tokens

    def began(self, ask: Ask, replica: int, now: float) -> None:
        """It is done."""
        self._pending_s[replica] -= self._work.pop(ask, 0.0)

    def ended(self, ask: Ask, replica: int, now: float, cached_tokens: int) -> None:
        """Also where it never began."""
        super().ended(ask, replica, now, cached_tokens)
        self._pending_s[replica] -= self._work.pop(ask, 0.0)

    def _work_s(self, new: int, ask: Ask) -> float:
        profile = self.setup.profile
        return new / profile.prefill_tokens_per_s + profile.attention_pair_s * new * (
            ask.prompt_tokens - new / 2
        )


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return SMetric(setup)
