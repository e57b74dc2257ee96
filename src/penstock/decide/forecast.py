"""How many replicas now, so that a forecast of the demand is covered at the promised time to a first token?

The only promise that a user makes known is the objective: this share of first tokens within that time. From it follows the rest. What is
asked for now is ready after a cold start, so the demand that counts is the peak until then (`demand_forecast.py`); what a replica bears
within the promise is measured (`capacity.py`); and the share of misses that the objective allows is spent on purpose: as long as fewer
requests miss it, replicas are loaded more, else less. A replica that would be asked for again within a cold start is kept, as it costs
the same to start it. Demand is counted in tokens of prompts where they are known, else in requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import ceil, isfinite

from msgspec import Struct
from msgspec.structs import replace

from penstock.decide.capacity import Capacity, first_tokens, learn, replicas_for
from penstock.decide.demand_forecast import Forecast, History, forecast, observe
from penstock.decide.error_budget import AIMED, USUAL_LOAD, Budget, after, covered, load

STEP_S = 5.0
"""Demand is remembered in steps of this length; between them the last answer holds."""
EARLY_S = 0.1
"""Ticks come a little early or late."""
GAP_S = 60.0
"""After longer than this without a tick (a restart, a clock that was set) the step is left out."""
BURST_STEPS = 12
"""Bursts of up to so many steps are told from the average."""
LEAST_STEPS = 3
"""Shorter bursts are chance, which `capacity.py` reckons with."""
SERVED_STEPS = 6
"""Throughput is that of the last steps in which there was any."""
WORK_AVERAGED = 300.0
"""Requests over which the work of one is averaged."""
FIRST_GUESS = 1.2
"""Times the last peak is covered while too little was seen for a forecast."""
START_S = 60.0
"""A cold start, where none was measured."""
FIGURES = (
    "now",
    "window_s",
    "requests",
    "in_flight",
    "prompt_tokens",
    "cold_start_s",
    "ready",
    "starting",
    "ttft",
)


class Spec(Struct, frozen=True, kw_only=True, gc=False):
    """`objective` is the share of first tokens that come within `ttft_s`.

    `target` is the requests in flight per replica until its capacity is measured. `max_replicas` 0 is no limit. Scaling to zero needs
    `min_replicas` 0; then a service sleeps once it was idle for `idle_starts` cold starts, but no less than `retention_s`.
    """

    ttft_s: float = 2.0
    objective: float = 0.99
    target: float = 70.0
    min_replicas: int = 0
    max_replicas: int = 0
    retention_s: float = 60.0
    idle_starts: float = 3.0


class Seen(Struct, frozen=True, kw_only=True, gc=False):
    """What happened since the last tick, `window_s` long: averages over it, counts in it; `ttft` counts by LATENCY_BOUNDS_S.

    `in_flight` holds what waits too. `prompt_tokens` are those of the `requests`, 0 where nobody counts them. `cold_start_s` is the
    measured expectation of a start, 0 unknown.
    """

    window_s: float
    requests: int
    in_flight: float
    ready: int
    starting: int
    prompt_tokens: float = 0.0
    ttft: Sequence[int] = ()
    cold_start_s: float = 0.0


class State(Struct, frozen=True, kw_only=True, gc=False):
    """What a decision leaves behind: plain values, bounded in size, so that it may be kept and a decision run again.

    `work` is that of one request, `load` how much of the measured capacity is used on purpose. `step_*` add up the step under way,
    `recent` is the work that came in the last steps, `served` what was answered, `wanted` what was wanted in the last ones.
    """

    capacity: Capacity = Capacity()
    history: History = History()
    work: float = 0.0
    load: float = USUAL_LOAD
    step_began: float = -1.0
    step_work: float = 0.0
    step_answers: int = 0
    step_time_s: float = 0.0
    recent: tuple[float, ...] = ()
    served: tuple[float, ...] = ()
    wanted: tuple[int, ...] = ()
    desired: int = -1
    busy_at: float = -1.0
    budget: Budget = Budget()
    planned: Budget = Budget()
    within_plan: bool = True


class Decision(Struct, frozen=True, kw_only=True, gc=False):
    """`desired` replicas, `state` for the next tick, why, and what else was close."""

    desired: int
    state: State
    reasons: tuple[str, ...] = ()
    runner_up: str = ""


def decide(spec: Spec, state: State, seen: Seen, now: float) -> Decision:
    """One tick at `now` (Unix seconds). Input that cannot be is refused: the last answer stays, and the reason says why."""
    present = seen.ready + seen.starting
    refused = _refusal(seen, now)
    if refused:
        return Decision(
            desired=state.desired if state.desired >= 0 else present, state=state, reasons=(refused,)
        )
    state = _counted(spec, state, seen, now)
    passed_s = now - state.step_began
    if passed_s < 0.0 or passed_s > GAP_S:
        state = replace(_new_step(state, now), busy_at=min(now, state.busy_at + max(0.0, passed_s)))
        return _answer(state, state.desired if state.desired >= 0 else present, ("the step is left out",))
    if state.desired == 0 and state.busy_at == now:
        return _answer(state, max(1, _within(spec, present)), ("asked for while at zero",))
    if passed_s < STEP_S - EARLY_S and state.desired >= 0:
        return Decision(desired=state.desired, state=state, reasons=("within a step, the last answer holds",))
    return _step(spec, state, seen, now, max(passed_s, 1.0))


def _refusal(seen: Seen, now: float) -> str:
    values = (
        now,
        seen.window_s,
        seen.requests,
        seen.in_flight,
        seen.prompt_tokens,
        seen.cold_start_s,
        seen.ready,
        seen.starting,
        min(seen.ttft, default=0),
    )
    if min(values) >= 0 and isfinite(sum(values)):
        return ""
    for name, value in zip(FIGURES, values, strict=True):
        if not isfinite(value) or value < 0:
            return f"{name} is {value}: nothing is concluded from that"
    return ""


def _counted(spec: Spec, state: State, seen: Seen, now: float) -> State:
    """Adds this tick to the step under way, and to what is known of work and of the budget."""
    work = state.work
    arrived = seen.prompt_tokens or float(seen.requests)
    if seen.requests:
        share = min(1.0, seen.requests / WORK_AVERAGED)
        work = work + (arrived / seen.requests - work) * share if work else arrived / seen.requests
    answers, time_s, late = first_tokens(seen.ttft, spec.ttft_s)
    budget = after(state.budget, answers, late)
    planned = after(state.planned, answers, late) if state.within_plan else state.planned
    busy = seen.requests > 0 or seen.in_flight > 0.0 or state.busy_at < 0.0
    return replace(
        state,
        work=work,
        budget=budget,
        planned=planned,
        step_began=state.step_began if state.step_began >= 0.0 else now - min(seen.window_s, STEP_S),
        step_work=state.step_work + arrived,
        step_answers=state.step_answers + answers,
        step_time_s=state.step_time_s + time_s * answers,
        busy_at=now if busy else min(state.busy_at, now),
    )


def _new_step(state: State, now: float) -> State:
    return replace(state, step_began=now, step_work=0.0, step_answers=0, step_time_s=0.0)


def _answer(state: State, desired: int, reasons: tuple[str, ...], runner_up: str = "") -> Decision:
    return Decision(
        desired=desired, state=replace(state, desired=desired), reasons=reasons, runner_up=runner_up
    )


def _step(spec: Spec, state: State, seen: Seen, now: float, step_s: float) -> Decision:
    """A step is over: learns from it, and decides anew."""
    cold_s = seen.cold_start_s or START_S
    horizon = max(1, ceil(cold_s / STEP_S) + 2)
    state = _measured(state, seen, step_s)
    state = replace(state, load=load(state.planned, spec.objective))
    arriving = state.step_work / step_s
    recent = (*state.recent, arriving)[-BURST_STEPS:]
    used = state.capacity.per_replica * state.load
    peak = _to_bear(recent, max(0.0, spec.ttft_s - 2.0 * state.work / used) if used else 0.0)
    quantile = covered(state.budget, spec.objective)
    history = observe(
        state.history,
        work=arriving,
        peak=peak,
        now=now,
        step_s=STEP_S,
        horizon=horizon,
        quantile=quantile,
    )
    told = forecast(history, now, horizon * STEP_S)
    within_plan = peak <= seen.ready * used
    state = replace(_new_step(state, now), recent=recent, history=history, within_plan=within_plan)
    idle_s = now - state.busy_at
    if spec.min_replicas == 0 and idle_s >= max(spec.retention_s, spec.idle_starts * cold_s):
        reason = (
            f"idle for {idle_s:.0f} s, longer than keeping a replica is worth at {cold_s:.0f} s to start one"
        )
        return _answer(replace(state, wanted=()), 0, (reason,))
    if not used:
        return _unmeasured(spec, state, seen)
    return _covered(spec, state, seen, told, peak, horizon)


def _measured(state: State, seen: Seen, step_s: float) -> State:
    """What the step tells of a replica's capacity."""
    served = (*state.served, state.step_answers * state.work / step_s)[-SERVED_STEPS:]
    state = replace(state, served=served)
    if not state.step_answers or not state.work:
        return state
    capacity = learn(
        state.capacity,
        answers=state.step_answers,
        ttft_s=state.step_time_s / state.step_answers,
        throughput=sum(served) / sum(rate > 0.0 for rate in served) / max(1, seen.ready),
        work=state.work,
        ready=seen.ready,
        as_planned=state.within_plan,
    )
    return replace(state, capacity=capacity)


def _to_bear(recent: Sequence[float], slack_s: float) -> float:
    """The rate at which what came lately would have been served in time: each burst may take as long as it lasted, and the slack."""
    if not recent:
        return 0.0
    rates = [
        rate * STEP_S / (steps * STEP_S + slack_s)
        for steps, rate in enumerate(accumulate(reversed(recent)), 1)
    ]
    return max(rates[min(LEAST_STEPS, len(rates)) - 1 :])


def _unmeasured(spec: Spec, state: State, seen: Seen) -> Decision:
    wanted = max(seen.ready + seen.starting, ceil(seen.in_flight / spec.target))
    reason = f"no first token was measured yet: {seen.in_flight:.1f} requests in flight, {spec.target:g} for a replica"
    return _answer(state, _within(spec, max(1, wanted) if seen.in_flight else wanted), (reason,))


def _within(spec: Spec, replicas: int) -> int:
    bounded = min(replicas, spec.max_replicas) if spec.max_replicas else replicas
    return max(bounded, spec.min_replicas)


def _covered(
    spec: Spec,
    state: State,
    seen: Seen,
    told: Forecast | None,
    peak: float,
    horizon: int,
) -> Decision:
    used = state.capacity.per_replica * state.load
    last_peak = max(state.history.peaks)
    demand = max(peak, told.demand if told else last_peak * FIRST_GUESS)
    allowed = (1.0 - spec.objective) * AIMED
    needed = replicas_for(demand, used, state.work, spec.ttft_s, allowed)
    if told is None:
        needed = max(needed, seen.ready + seen.starting)
    wanted = (*state.wanted, needed)[-max(1, horizon - 2) :]
    desired = _within(spec, max(wanted))
    unit = _unit(state)
    source = told.name if told else f"{FIRST_GUESS:g} times the last peak, as little was seen so far"
    reasons = [
        f"up to {demand:.0f} {unit} a second may come within {horizon * STEP_S:.0f} s ({source}); {state.recent[-1]:.0f} come now",
        f"a replica bears {used:.0f} within {spec.ttft_s:g} s ({state.load:.0%} of the measured {state.capacity.per_replica:.0f}):"
        f" {needed} are needed",
    ]
    if state.budget.answered:
        missed = state.budget.missed / state.budget.answered
        quantile = covered(state.budget, spec.objective)
        reasons.append(
            f"{missed:.2%} missed the promise, {1.0 - spec.objective:.2%} may: {quantile:.1%} of peaks are covered"
        )
    if max(wanted) > needed:
        reasons.append(f"{max(wanted)} are kept: they were needed within the last cold start")
    if desired != max(wanted):
        reasons.append(f"bounded to {desired} by minReplicas and maxReplicas")
    return _answer(replace(state, wanted=wanted), desired, tuple(reasons), _runner_up(spec, state, told))


def _runner_up(spec: Spec, state: State, told: Forecast | None) -> str:
    if told is None or not told.second:
        return ""
    used = state.capacity.per_replica * state.load
    count = replicas_for(told.second_demand, used, state.work, spec.ttft_s, (1.0 - spec.objective) * AIMED)
    return f"{told.second}: {told.second_demand:.0f} {_unit(state)} a second, {count} replicas"


def _unit(state: State) -> str:
    return "requests" if state.work == 1.0 else "prompt tokens"
