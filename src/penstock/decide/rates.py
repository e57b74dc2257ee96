"""How fast does this endpoint compute prompts and answers, by its own answers so far?

The time to a first token is taken to be linear in the tokens that must be computed before it: those of prompts that are ahead, and its own,
without what is cached. Both coefficients are learned by recursive least squares that forgets (Ljung, System Identification, 11.2), on errors
relative to the expected time, each bounded as Huber's, so that single stalls teach little. Errors that stay large to one side say that the
endpoint has changed, and what was learned is let go.
"""

from __future__ import annotations

import math

from msgspec import Struct
from msgspec.structs import replace

REMEMBER = 0.98
"""By how much an answer counts less with each that follows: about fifty count."""
UNSURE = 100.0
"""Variance of a coefficient that nothing is known of, in terms of that of one relative error."""
KILO = 1000.0
"""Tokens are counted in thousands, so that both coefficients are of a size."""
LEAST_S = 0.005
"""Times below are measured no better than to this."""
LEAST_TOKEN_S = 1e-6
MOST_S = 3600.0
MOST_TOKENS = 1e8
ERROR_SHARE, STRAY_SHARE = 0.1, 0.05
"""How much each error changes the mean error; less if it is beyond the bound, which would otherwise widen before a change is seen."""
BOUND = 3.0
"""An error counts as at most this many mean errors."""
LEAST_ERROR = 0.02
CHANGED_AFTER = 4
"""As many errors in turn, all beyond the bound and to the same side, are no stalls."""
ENOUGH = 12
"""Answers, before they say how fast an endpoint is."""
CLOSE = 0.3
"""The mean relative error up to which expected times hold."""


class Rates(Struct, frozen=True, kw_only=True, gc=False):
    """What was learned of one endpoint.

    `prefill_s` is spent on each prompt and `prefill_token_s` on each of its uncached tokens, `decode_s` between two tokens of an answer; 0
    while nothing is known. `error` is the mean error of the expected time to a first token, as a share of it. The rest is how sure that is:
    the variances of the coefficients (`variance`, `token_variance`) and their `covariance`; `strays` counts errors beyond the bound in turn,
    below 0 if the endpoint was faster than expected.
    """

    prefill_s: float = 0.0
    prefill_token_s: float = 0.0
    decode_s: float = 0.0
    error: float = 1.0
    answers: int = 0
    variance: float = UNSURE
    token_variance: float = UNSURE
    covariance: float = 0.0
    strays: int = 0

    @property
    def is_measured(self) -> bool:
        """Whether times that are expected from this hold."""
        return self.answers >= ENOUGH and self.error <= CLOSE

    def first_token_s(self, uncached_tokens: float) -> float:
        """When a first token is expected that needs as many tokens computed."""
        return self.prefill_s + self.prefill_token_s * uncached_tokens


def first_token(rates: Rates, uncached_tokens: float, took_s: float) -> Rates:
    """After a first token that took so long, with as many tokens to be computed before it: those ahead in the queue and its own."""
    if not (0 <= uncached_tokens <= MOST_TOKENS and 0 < took_s <= MOST_S):
        return rates
    expected_s = rates.first_token_s(uncached_tokens)
    unit_s = max(expected_s, took_s / 2, LEAST_S)
    error = (took_s - expected_s) / unit_s
    limit = BOUND * max(rates.error, LEAST_ERROR)
    is_stray = abs(error) > limit and rates.answers >= ENOUGH
    strays = _strays(rates.strays, error) if is_stray else 0
    if abs(strays) >= CHANGED_AFTER:
        rates = replace(rates, variance=UNSURE, token_variance=UNSURE, covariance=0.0, answers=0, error=1.0)
        strays, is_stray = 0, False
    bounded, share = (math.copysign(limit, error), STRAY_SHARE) if is_stray else (error, ERROR_SHARE)
    return replace(
        _corrected(rates, 1 / unit_s, uncached_tokens / KILO / unit_s, bounded),
        error=rates.error + share * (min(abs(bounded), 1.0) - rates.error),
        answers=min(rates.answers + 1, ENOUGH),
        strays=strays,
    )


def between_tokens(rates: Rates, took_s: float) -> Rates:
    """After an answer whose tokens came `took_s` apart; it moves what is known by at most a fifth of its difference, or of itself."""
    if not LEAST_TOKEN_S <= took_s <= MOST_S:
        return rates
    if not rates.decode_s:
        return replace(rates, decode_s=took_s)
    step = math.log(took_s / rates.decode_s)
    return replace(rates, decode_s=rates.decode_s * math.exp(0.2 * max(-0.5, min(0.5, step))))


def _strays(before: int, error: float) -> int:
    side = 1 if error > 0 else -1
    return before + side if before * side >= 0 else side


def _corrected(rates: Rates, x: float, y: float, error: float) -> Rates:
    """One step of least squares, with the regressors `x` and `y`; never below 0."""
    p, q, r = rates.variance, rates.covariance, rates.token_variance
    u, v = p * x + q * y, q * x + r * y
    spread = REMEMBER + x * u + y * v
    base, slope = rates.prefill_s + u / spread * error, rates.prefill_token_s * KILO + v / spread * error
    p, q, r = p - u * u / spread, q - u * v / spread, r - v * v / spread
    if p + r < UNSURE:  # what is never told apart must not be forgotten without end
        p, q, r = p / REMEMBER, q / REMEMBER, r / REMEMBER
    if base < 0:
        base, slope = 0.0, slope - q / p * base if p > 0 else slope
    if slope < 0:
        base, slope = base - q / r * slope if r > 0 else base, 0.0
    return replace(
        rates,
        prefill_s=min(max(base, 0.0), MOST_S),
        prefill_token_s=slope / KILO,
        variance=max(p, 0.0),
        covariance=q,
        token_variance=max(r, 0.0),
    )
