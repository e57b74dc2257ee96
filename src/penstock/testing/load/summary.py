"""What runs come to: percentiles with their spread over repeats, throughput, goodput, and errors always beside them.

Percentiles are by nearest rank over the answers that came whole; what failed is counted, and misses every objective. A time counts from
when the request was due. The gaps between tokens are those of all answers together.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

from penstock.testing.load.outcome import Outcome
from penstock.testing.load.player import Recording
from penstock.testing.sim.report import Spread, spread

SHARES = ("mean", "p50", "p90", "p95", "p99", "max")


class Objective(Struct, frozen=True):
    """What users are promised: the first token's time, and the mean time between the tokens of an answer; None for nothing."""

    ttft_s: float | None = None
    itl_s: float | None = None

    def met(self, outcome: Outcome) -> bool:
        """A failed request meets none."""
        return (
            outcome.ok
            and (self.ttft_s is None or outcome.ttft_s <= self.ttft_s)
            and (self.itl_s is None or outcome.itl_s <= self.itl_s)
        )


class Summary(Struct, frozen=True, kw_only=True):
    """One run, or several together. Throughput is that of the answers that ended in the measured time, goodput that of those that met
    the objective. `cached_share` is of the prompt tokens that answers told of; `late_s` is what the load sent behind its own time.
    """

    requests: int
    answered: int
    errors: dict[str, int]
    span_s: float
    requests_per_s: float
    goodput_per_s: float
    attainment: float
    output_tokens_per_s: float
    prompt_tokens_per_s: float
    prompt_tokens: int
    output_tokens: int
    cached_share: float
    told_usage: float
    ttft_s: Spread
    itl_s: Spread
    e2e_s: Spread
    late_s: Spread

    @property
    def error_rate(self) -> float:
        """Share of the requests."""
        return 1.0 - self.answered / self.requests if self.requests else 0.0


class Result(Struct, frozen=True, kw_only=True):
    """One target under one workload: all its repeats together, and each. `messages` has one example per kind of error."""

    target: str
    model: str
    workload: str
    pace: str
    objective: Objective
    whole: Summary
    repeats: tuple[Summary, ...]
    messages: dict[str, str]
    slowest: tuple[str, ...]


def counted(recording: Recording) -> list[Outcome]:
    """Without the warm-up."""
    return [one for one in recording.outcomes if one.due >= recording.counted_from]


def summed_up(recordings: Sequence[Recording], objective: Objective) -> Summary:
    """Several runs as if they were one."""
    span_s = sum(max(0.0, one.until - one.counted_from) for one in recordings)
    every = [outcome for one in recordings for outcome in counted(one)]
    ended = [
        outcome
        for one in recordings
        for outcome in one.outcomes
        if outcome.ok and one.counted_from <= outcome.end <= one.until
    ]
    answered = [outcome for outcome in every if outcome.ok]
    prompt_tokens = sum(one.prompt_tokens for one in answered)

    def rate(amounts: Iterable[int]) -> float:
        return round(sum(amounts) / span_s, 6) if span_s else 0.0

    return Summary(
        requests=len(every),
        answered=len(answered),
        errors=dict(Counter(one.error for one in every if not one.ok).most_common()),
        span_s=round(span_s, 6),
        requests_per_s=rate(1 for _ in ended),
        goodput_per_s=rate(1 for one in ended if objective.met(one)),
        attainment=sum(map(objective.met, every)) / len(every) if every else 0.0,
        output_tokens_per_s=rate(one.output_tokens for one in ended),
        prompt_tokens_per_s=rate(one.prompt_tokens for one in ended),
        prompt_tokens=prompt_tokens,
        output_tokens=sum(one.output_tokens for one in answered),
        cached_share=sum(one.cached_tokens for one in answered) / prompt_tokens if prompt_tokens else 0.0,
        told_usage=sum(one.told_usage for one in answered) / len(answered) if answered else 0.0,
        ttft_s=spread(array("d", (one.ttft_s for one in answered))),
        itl_s=spread(array("d", (gap_s for one in answered for gap_s in one.gaps_s))),
        e2e_s=spread(array("d", (one.e2e_s for one in answered))),
        late_s=spread(array("d", (one.late_s for one in every))),
    )


def result_of(
    recordings: Sequence[Recording],
    objective: Objective,
    *,
    target: str,
    model: str,
    workload: str,
    pace: str,
) -> Result:
    """Of all repeats against one target."""
    every = [outcome for one in recordings for outcome in counted(one)]
    slowest = sorted((one for one in every if one.ok), key=lambda one: one.ttft_s, reverse=True)[:3]
    return Result(
        target=target,
        model=model,
        workload=workload,
        pace=pace,
        objective=objective,
        whole=summed_up(recordings, objective),
        repeats=tuple(summed_up([one], objective) for one in recordings),
        messages={one.error: one.message for one in reversed(every) if not one.ok},
        slowest=tuple(one.request_id for one in slowest if one.request_id),
    )
