"""A law that knows the trace: what the others could come to at best, roughly.

It asks, a cold start ahead, for replicas that bear the highest demand of the time until then and a step, averaged over half a minute, at a
stated share of what a replica can prefill. It is no strict bound: one could plan replicas, too, by which requests to let miss.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from math import ceil

from penstock.testing.sim.policy import Observation, Policy, Setup, Wish
from penstock.testing.sim.trace import Trace

STEP_S = 5.0
AVERAGED_STEPS = 6


class Foresight:
    """`demand` is the work a second from each step on, averaged over the next steps."""

    tick_s = STEP_S

    def __init__(self, start_s: float, demand: list[float], ahead: int, bears: float) -> None:
        self._start_s, self._demand, self._ahead, self._bears = start_s, demand, ahead, bears

    def decide(self, seen: Observation) -> Wish:
        """The highest demand until a replica that is asked for now would be ready."""
        now = int((seen.now - self._start_s) / STEP_S)
        highest = max(self._demand[now : now + self._ahead], default=0.0)
        return Wish(max(1, ceil(highest / self._bears)))


def foreseeing(trace: Trace, cold_s: float, prefill: float, share: float) -> Callable[[Setup], Policy]:
    """`share` of `prefill` (tokens a second) is what a replica is given."""
    steps = int((trace.end_s - trace.start_s) / STEP_S) + 2
    work = [0.0] * steps
    for request in trace:
        work[int((request.arrived_at - trace.start_s) / STEP_S)] += request.prompt_tokens
    sums = [0.0, *accumulate(work)]
    demand = [
        (sums[min(steps, at + AVERAGED_STEPS)] - sums[at]) / (AVERAGED_STEPS * STEP_S) for at in range(steps)
    ]
    ahead = ceil(cold_s / STEP_S) + 1
    return lambda setup: Foresight(setup.start_s, demand, ahead, prefill * share)
