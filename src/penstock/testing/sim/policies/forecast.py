"""The class `forecast.penstock.dev`: demand is forecast over a cold start, and covered at the promised time to a first token.

Options: `objective`, `min`, `max`; the rest comes from the promise. It sees what the gateway reports on the platform.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import ceil

from penstock.contracts.exchange import LATENCY_BOUNDS_S
from penstock.decide.cold_start import QUANTILE
from penstock.decide.forecast import STEP_S, Seen, Spec, State, decide
from penstock.testing.sim.policy import (
    Finished,
    Observation,
    Policy,
    Setup,
    Wish,
    check_options,
    number,
)

OPTIONS = ("objective", "min", "max")


class Forecasting:
    """One tick each step, as there is nothing to decide within one."""

    tick_s = STEP_S

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._state = State()

    def decide(self, seen: Observation) -> Wish:
        """Averages over the seconds since the last tick; the expected start is the platform's quantile of the last ones."""
        decision = decide(self._spec, self._state, _seen(seen), seen.now)
        self._state = decision.state
        return Wish(decision.desired, decision.reasons, decision.runner_up)


def _seen(seen: Observation) -> Seen:
    starts_s = sorted(seen.cold_starts_s)
    return Seen(
        window_s=float(max(1, len(seen.seconds))),
        requests=sum(second.requests for second in seen.seconds),
        in_flight=_mean([second.in_flight for second in seen.seconds]),
        prompt_tokens=float(sum(second.prompt_tokens for second in seen.seconds)),
        ready=seen.ready,
        starting=seen.starting,
        ttft=_counted(seen.finished),
        cold_start_s=starts_s[ceil(QUANTILE * len(starts_s)) - 1] if starts_s else 0.0,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _counted(finished: Sequence[Finished]) -> tuple[int, ...]:
    counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
    for one in finished:
        counts[bisect_left(LATENCY_BOUNDS_S, one.ttft_s)] += 1
    return tuple(counts)


def build(setup: Setup, options: Mapping[str, str]) -> Policy:
    """The promise is the setup's."""
    check_options("forecast", options, OPTIONS)
    return Forecasting(
        Spec(
            ttft_s=setup.slo_ttft_s,
            objective=number("forecast", options, "objective", Spec().objective),
            target=setup.target or Spec().target,
            min_replicas=int(number("forecast", options, "min", setup.min_replicas)),
            max_replicas=int(number("forecast", options, "max", setup.max_replicas)),
        )
    )
