"""How far is what an endpoint's KV cache is taken to hold to be believed?

Each answer says how many of its prompt's tokens the engine found cached. That is evidence about the index: of the tokens that it said are
there, so many were. The belief is a Beta distribution over "a token that is said to be held is held", with forgetting: an answer's evidence
weighs as its prediction is long, up to `FULL_TOKENS` (the tokens of one prompt stand or fall together, so a long one is one trial and not
thousands), and what was known before fades as it weighs. The mean is the confidence. Being Bayesian, it moves fast while little is known and
slowly after much agreement; forgetting bounds how slowly, to about `1 / (1 - KEPT)` answers, since engines are restarted and put under
pressure. A prior that never fades keeps it from ever being sure of 0 or 1, so that an endpoint that once lied is tried again.

Holding more than was said is no reason to doubt what is said; it counts against the accuracy only, which is for people to look at.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

FULL_TOKENS = 1024.0
"""A prediction of as many tokens or more is one whole trial."""

KEPT = 0.93
"""What is left of earlier evidence after one whole trial: about the last 14 count."""

PRIOR_WEIGHT = 1.0
"""What is believed before there is evidence weighs as one whole trial."""

APPROXIMATE, PRECISE, DISTRUSTED = 0.8, 0.98, 0.5
"""What is believed before: of what was sent there, of what the engine tells, and after some of what it told was missed."""


class Trust(Struct, frozen=True, kw_only=True, gc=False):
    """Belief in one endpoint's index. `held` of `trials` (whole trials, fading) were as predicted, on top of `prior`.

    `predicted_tokens`, `cached_tokens` and `agreed_tokens` (of each answer the lesser of the two) are sums since the beginning, for counters.
    `accuracy` in [0, 1] is the fading mean over answers of agreed tokens in the greater of the two; 1 where neither said any.
    """

    prior: float = APPROXIMATE
    held: float = 0.0
    trials: float = 0.0
    accuracy: float = 1.0
    answers: int = 0
    predicted_tokens: float = 0.0
    cached_tokens: float = 0.0
    agreed_tokens: float = 0.0

    @property
    def confidence(self) -> float:
        """In (0, 1): which share of what is said to be held is expected to be."""
        return (self.prior * PRIOR_WEIGHT + self.held) / (PRIOR_WEIGHT + self.trials)


def answered(trust: Trust, predicted_tokens: float, cached_tokens: float) -> Trust:
    """An answer came from where `predicted_tokens` of its prompt were said to be held, and `cached_tokens` were.

    Numbers below 0, and such as are none, are taken as 0: engines' figures are not believed blindly.
    """
    predicted, cached = _sane(predicted_tokens), _sane(cached_tokens)
    agreed, greater = min(predicted, cached), max(predicted, cached)
    trial = min(predicted / FULL_TOKENS, 1.0)
    kept = KEPT**trial
    accuracy = agreed / greater if greater else 1.0
    weight = 1 - KEPT if trust.answers >= 1 / (1 - KEPT) else 1 / (trust.answers + 1)
    return replace(
        trust,
        held=trust.held * kept + (trial * agreed / predicted if predicted else 0.0),
        trials=trust.trials * kept + trial,
        accuracy=trust.accuracy + weight * (accuracy - trust.accuracy),
        answers=trust.answers + 1,
        predicted_tokens=trust.predicted_tokens + predicted,
        cached_tokens=trust.cached_tokens + cached,
        agreed_tokens=trust.agreed_tokens + agreed,
    )


def believed_anew(trust: Trust, prior: float) -> Trust:
    """How the index knows has changed (a gap, a restart, events that began): what was observed before says nothing of it any more."""
    return replace(trust, prior=prior, held=0.0, trials=0.0)


def _sane(tokens: float) -> float:
    return tokens if 0.0 < tokens < float("inf") else 0.0
