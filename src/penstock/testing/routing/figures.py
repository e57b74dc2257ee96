"""What became of a simulated run: throughput, latencies, hits, errors."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from msgspec import Struct


class Figures(Struct, frozen=True, kw_only=True):
    """Of one policy, one workload, one seed, without what warms up. Times are in seconds of virtual time, from a client's sending.

    `hit_share` is that of prompt tokens which engines found cached, by their own count. `accuracy` is how well predictions of hits
    agreed with them, where a policy predicts: the mean over answers of the lesser in the greater; -1 where it does not.
    """

    requests: int
    errors: int
    makespan_s: float
    request_rate: float
    output_rate: float
    ttft_p50_s: float
    ttft_p90_s: float
    ttft_p99_s: float
    ttft_mean_s: float
    e2e_p50_s: float
    e2e_p99_s: float
    e2e_mean_s: float
    hit_share: float
    hit_tokens: int
    preemptions: int
    accuracy: float = -1.0

    @property
    def error_share(self) -> float:
        """0 to 1."""
        return self.errors / self.requests if self.requests else 0.0


class Tally:
    """Collects what `Figures` sum up."""

    def __init__(self) -> None:
        self.errors = 0
        self.output_tokens = 0
        self.queried_tokens = self.hit_tokens = self.preemptions = 0
        self.first_at = self.last_at = 0.0
        self._ttft, self._e2e = array("d"), array("d")
        self._agreed, self._predicted = 0.0, 0

    def asked(self, at: float) -> None:
        """A client sent its first request that counts then, or later."""
        if not self._ttft and not self.last_at:
            self.first_at = self.last_at = at

    def answered(self, ttft_s: float, e2e_s: float, output_tokens: int, now: float) -> None:
        """One was answered in full."""
        self._ttft.append(ttft_s)
        self._e2e.append(e2e_s)
        self.output_tokens += output_tokens
        self.last_at = now

    def computed(self, prompt_tokens: int, cached_tokens: int, preemptions: int) -> None:
        """An engine had to answer such a prompt, found so much of it cached, and began so many times again."""
        self.queried_tokens += prompt_tokens
        self.hit_tokens += cached_tokens
        self.preemptions += preemptions

    def predicted(self, predicted_tokens: float, cached_tokens: float) -> None:
        """So many tokens were expected to be cached, and so many were."""
        greater = max(predicted_tokens, cached_tokens)
        self._agreed += min(predicted_tokens, cached_tokens) / greater if greater > 0 else 1.0
        self._predicted += 1

    def figures(self) -> Figures:
        """At the end."""
        done, span_s = len(self._ttft), max(self.last_at - self.first_at, 1e-9)
        ttft, e2e = sorted(self._ttft), sorted(self._e2e)
        return Figures(
            requests=done + self.errors,
            errors=self.errors,
            makespan_s=span_s,
            request_rate=done / span_s,
            output_rate=self.output_tokens / span_s,
            ttft_p50_s=percentile(ttft, 0.5),
            ttft_p90_s=percentile(ttft, 0.9),
            ttft_p99_s=percentile(ttft, 0.99),
            ttft_mean_s=sum(ttft) / done if done else 0.0,
            e2e_p50_s=percentile(e2e, 0.5),
            e2e_p99_s=percentile(e2e, 0.99),
            e2e_mean_s=sum(e2e) / done if done else 0.0,
            hit_share=self.hit_tokens / self.queried_tokens if self.queried_tokens else 0.0,
            hit_tokens=self.hit_tokens,
            preemptions=self.preemptions,
            accuracy=self._agreed / self._predicted if self._predicted else -1.0,
        )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed; 0 of none."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
