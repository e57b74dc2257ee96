"""How many replicas now, by Knative's law?

Source: Knative's autoscaler (pkg/autoscaler/scaling). One tick compares the stable and the panic average of a metric with the target of
one pod. Bounds and scale to zero are not its business: `decide/scale_to_zero.py` applies what comes out here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor, isfinite, trunc

from penstock.resources.autoscaler_settings import AutoscalerSettings

UNLIMITED = -1
"""A target burst capacity that keeps the activator in the path for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The settings of one revision. `target` is what one pod should carry on average, `total` what it can carry at most.

    Rates are factors per tick, `panic_threshold` is a factor of the ready pods (2 for 200 %). `cold_start_s` is how long a new pod takes
    until it is ready; 0 leaves Knative's law as it is, see `_worth_starting`.
    """

    target: float
    total: float
    target_burst_capacity: float = 211.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    panic_threshold: float = 2.0
    stable_window_s: float = 60.0
    panic_window_s: float = 6.0
    activation_scale: int = 1
    scale_down_delay_s: float = 0.0
    initial_scale: int = 1
    reachable: bool = True
    tick_s: float = 2.0
    cold_start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """What a decision leaves behind. `delayed` are (slot, desired) of the delay window, newest last; None where there is no delay.

    `panic_since` is when panic was entered or last extended, `panic_began` when it was entered.
    """

    panic_since: float | None = None
    max_panic_pods: int = 0
    delayed: tuple[tuple[int, int], ...] | None = None
    panic_began: float | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """`stable` and `panic` are averages over their windows, None where there is no data; `ready` pods, None where counting failed.

    No data decides nothing, except where requests always go through the gateway (a target burst capacity of -1): there it is silence.
    """

    stable: float | None
    panic: float | None
    ready: int | None


@dataclass(frozen=True, slots=True)
class Decision:
    """`valid` False changes nothing: the last valid decision goes on. `runner_up` is what else was close."""

    desired: int
    excess_burst_capacity: int
    valid: bool
    state: State
    reasons: tuple[str, ...] = ()
    runner_up: str = ""


def spec_of(settings: AutoscalerSettings, *, reachable: bool = True, cold_start_s: float = 0.0) -> Spec:
    """The law's part of a revision's settings. `cold_start_s` counts where the settings ask to be aware of starts."""
    return Spec(
        target=settings.target,
        total=settings.total,
        target_burst_capacity=settings.target_burst_capacity,
        max_scale_up_rate=settings.max_scale_up_rate,
        max_scale_down_rate=settings.max_scale_down_rate,
        panic_threshold=settings.panic_threshold,
        stable_window_s=settings.stable_window_s,
        panic_window_s=settings.panic_window_s,
        activation_scale=settings.activation_scale,
        scale_down_delay_s=settings.scale_down_delay_s,
        initial_scale=settings.initial_scale,
        reachable=reachable,
        tick_s=settings.tick_s,
        cold_start_s=cold_start_s if settings.starts_aware else 0.0,
    )


def first_state(spec: Spec, ready: int | None, now: float) -> State:
    """More than one ready pod means that the autoscaler was started anew: it begins in panic, so that no scale is lost.

    `ready` None: they could not be counted, as is usual for a new revision.
    """
    ready = ready or 0
    delayed = () if spec.scale_down_delay_s > 0 else None
    since = now if ready > 1 else None
    return State(since, ready, delayed, since)


def first_excess(spec: Spec) -> int:
    """The excess burst capacity before the first tick."""
    if spec.target_burst_capacity in (0, UNLIMITED):
        return int(spec.target_burst_capacity)
    return trunc(spec.initial_scale * spec.total - spec.target_burst_capacity)


def decide(spec: Spec, state: State, seen: Observed, now: float) -> Decision:
    """One tick. `now` is in seconds of any clock that goes on."""
    if seen.ready is None:
        return Decision(0, 0, False, state, ("the ready pods could not be counted",))
    silence = 0.0 if spec.target_burst_capacity == UNLIMITED else None
    seen_stable = silence if seen.stable is None else seen.stable
    seen_panic = silence if seen.panic is None else seen.panic
    if seen_stable is None or seen_panic is None:
        return Decision(0, 0, False, state, ("no data: nothing was measured for longer than the window",))
    if not (isfinite(seen_stable) and isfinite(seen_panic)):
        return Decision(0, 0, False, state, ("what was measured is not a number",))
    ready = max(1, seen.ready)
    highest = ceil(spec.max_scale_up_rate * ready)
    lowest = floor(ready / spec.max_scale_down_rate) if spec.reachable else 0
    needed_stable, needed_panic = ceil(seen_stable / spec.target), ceil(seen_panic / spec.target)
    stable = min(max(needed_stable, lowest), highest)
    panic = min(max(needed_panic, lowest), highest)
    if spec.activation_scale > 1:
        stable = max(stable, spec.activation_scale) if needed_stable > 0 else stable
        panic = max(panic, spec.activation_scale) if needed_panic > 0 else panic
    state = _panicking(spec, state, needed_panic / ready, now)
    reasons = [_reason("stable", seen_stable, spec.target, needed_stable, stable, lowest, highest)]
    desired, runner_up = stable, ""
    if (since := state.panic_since) is not None:
        asked = max(stable, _worth_starting(spec, state.panic_began, panic, stable, now))
        most = max(state.max_panic_pods, asked)
        state = replace(state, max_panic_pods=most)
        desired, runner_up = most, f"{stable} by the stable window alone"
        reasons.append(_reason("panic", seen_panic, spec.target, needed_panic, panic, lowest, highest))
        if asked < panic:
            reasons.append(
                f"{panic - asked} more are likely to be ready only after the burst: a start takes {spec.cold_start_s:g} s"
            )
        reasons.append(f"in panic since {now - since:g} s: never fewer than {most}")
    if spec.reachable and state.delayed is not None:
        state, delayed = _delayed(spec, state, desired, now)
        if delayed > desired:
            reasons.append(f"{delayed} was wanted within the last {spec.scale_down_delay_s:g} s")
            runner_up = f"{desired} without the scale-down delay"
        desired = delayed
    return Decision(desired, _excess(spec, seen.ready, seen_panic), True, state, tuple(reasons), runner_up)


def _panicking(spec: Spec, state: State, factor: float, now: float) -> State:
    """Panic is entered and extended by the unclamped wish of the panic window, and left a stable window after the last time."""
    if factor >= spec.panic_threshold:
        return replace(
            state, panic_since=now, panic_began=now if state.panic_began is None else state.panic_began
        )
    if state.panic_since is not None and state.panic_since + spec.stable_window_s < now:
        return replace(state, panic_since=None, max_panic_pods=0, panic_began=None)
    return state


def _delayed(spec: Spec, state: State, desired: int, now: float) -> tuple[State, int]:
    """The most that was wanted in the last slots; a slot is a tick, and keeps the larger of two equal ones."""
    slots = ceil(spec.scale_down_delay_s / spec.tick_s)
    slot = floor(now / spec.tick_s)
    kept = [(at, wish) for at, wish in state.delayed or () if slot - slots < at <= slot and wish > desired]
    window = (*kept, (slot, desired))
    return replace(state, delayed=window), max(wish for _, wish in window)


def _excess(spec: Spec, ready: int, panic: float) -> int:
    if spec.target_burst_capacity in (0, UNLIMITED):
        return int(spec.target_burst_capacity)
    return floor(ready * spec.total - spec.target_burst_capacity - panic)


def _worth_starting(spec: Spec, began: float | None, panic: int, stable: int, now: float) -> int:
    """How many of the pods that panic asks for are likely to be ready before the burst is over.

    Of bursts nothing is known but their age; what has lasted for a outlives a further c with the chance a / (a + c) (the Pareto
    distribution with exponent 1, "Lindy's law"). What panic asks for beyond the stable window is taken with that chance. A burst is at
    least as old as the window that saw it. Pods that start within the panic window are asked for as Knative does.
    """
    if spec.cold_start_s <= spec.panic_window_s or panic <= stable or began is None:
        return panic
    age_s = now - began + spec.panic_window_s
    return stable + ceil((panic - stable) * age_s / (age_s + spec.cold_start_s))


def _reason(
    name: str, value: float, target: float, needed: int, clamped: int, lowest: int, highest: int
) -> str:
    text = f"{name} average {value:g} over target {target:g} is {needed}"
    if clamped != needed:
        bound = {lowest: "no faster down", highest: "no faster up"}.get(clamped, "activation scale")
        text += f", held to {clamped} ({bound})"
    return text
