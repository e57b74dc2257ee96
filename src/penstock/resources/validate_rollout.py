"""Do rollout policies, and the annotations that stand for one, say something that can be followed?"""

from __future__ import annotations

import math

from penstock.kit.durations import parse_duration_s
from penstock.kit.errors import Cause, InvalidInput
from penstock.resources.annotations import PROGRESS_DEADLINE
from penstock.resources.meta import Labels
from penstock.resources.rollout import (
    ABORT,
    ERROR_RATE,
    INTER_TOKEN_TIME,
    PAUSE,
    PROMOTE,
    ROLL_BACK,
    TTFT,
    Rollout,
    RolloutGate,
    RolloutPolicy,
    RolloutPolicySpec,
    RolloutStep,
)
from penstock.resources.validation import (
    Causes,
    at_least,
    duplicate,
    forbidden,
    label_name,
    one_of,
    required,
    subdomain_name,
    wrong,
)

POLICY = "penstock.dev/rollout-policy"
STEPS, WAIT, MIN_REQUESTS = (f"penstock.dev/rollout-{word}" for word in ("steps", "wait", "min-requests"))
MAX_ERROR_RATE, MAX_TTFT = "penstock.dev/rollout-max-error-rate", "penstock.dev/rollout-max-ttft-seconds"
FALSE_ALARM_RATE = "penstock.dev/rollout-false-alarm-rate"
HANDOVER, HANDOVERS = "penstock.dev/handover", ("Auto", "Never")
TIMES = (TTFT, INTER_TOKEN_TIME)
MAX_STEPS, MAX_GATES = 32, 16
DEFAULT_WAIT = "5m"
DEFAULT_MIN_REQUESTS = 100


def validate_policy(new: RolloutPolicy) -> Causes:
    """Causes in a policy."""
    yield from _policy("spec", new.spec)


def validate_rollout(new: Rollout) -> Causes:
    """Causes in a rollout, of which people write the override only."""
    yield from label_name("spec.service", new.spec.service)
    yield from one_of("spec.component", new.spec.component, ("predictor", "transformer", "explainer"))
    if new.spec.override is not None:
        yield from one_of("spec.override.action", new.spec.override.action, (PROMOTE, ABORT))
        yield from subdomain_name("spec.override.revision", new.spec.override.revision)


def validate_rollout_annotations(annotations: Labels) -> Causes:
    """Causes in an InferenceService's annotations about its rollouts."""
    if PROGRESS_DEADLINE in annotations:
        yield from _duration(
            f"metadata.annotations[{PROGRESS_DEADLINE}]", annotations[PROGRESS_DEADLINE], least_s=1
        )
    if HANDOVER in annotations:
        yield from one_of(f"metadata.annotations[{HANDOVER}]", annotations[HANDOVER], HANDOVERS)
    if POLICY in annotations:
        yield from subdomain_name(f"metadata.annotations[{POLICY}]", annotations[POLICY])
        if STEPS in annotations:
            yield forbidden(
                f"metadata.annotations[{STEPS}]", f"{POLICY} names a policy, which has steps of its own"
            )
        return
    try:
        spec = annotated_policy(annotations)
    except InvalidInput as error:
        yield Cause("metadata.annotations", error.message, "FieldValueInvalid")
        return
    if spec is not None:
        yield from _policy("metadata.annotations[penstock.dev/rollout-*]", spec)


def annotated_policy(annotations: Labels) -> RolloutPolicySpec | None:
    """The policy that annotations spell out: `penstock.dev/rollout-steps: "5,25,50"` and what goes with it. Raises InvalidInput."""
    if STEPS not in annotations:
        return None
    wait, least = annotations.get(WAIT, DEFAULT_WAIT), _number(annotations, MIN_REQUESTS, int)
    steps = []
    for word in annotations[STEPS].split(","):
        if not word.strip().isdecimal():
            raise InvalidInput(f"{STEPS}: found {word.strip()!r}, expected percents such as '5,25,50'")
        requests = DEFAULT_MIN_REQUESTS if least is None else int(least)
        steps.append(RolloutStep(weight=int(word), wait=wait, min_requests=requests))
    gates = []
    if (rate := _number(annotations, MAX_ERROR_RATE, float)) is not None:
        gates.append(RolloutGate(signal=ERROR_RATE, max_rate=rate))
    if (limit_s := _number(annotations, MAX_TTFT, float)) is not None:
        gates.append(RolloutGate(signal=TTFT, max_seconds=limit_s))
    rate = _number(annotations, FALSE_ALARM_RATE, float)
    return RolloutPolicySpec(steps=tuple(steps), gates=tuple(gates), false_alarm_rate=rate)


def _number(annotations: Labels, key: str, read: type[int] | type[float]) -> float | None:
    if key not in annotations:
        return None
    try:
        return read(annotations[key])
    except ValueError:
        raise InvalidInput(f"{key}: found {annotations[key]!r}, expected a number") from None


def _policy(field: str, spec: RolloutPolicySpec) -> Causes:
    if len(spec.steps) > MAX_STEPS:
        yield wrong(f"{field}.steps", len(spec.steps), f"at most {MAX_STEPS}")
    before = -1
    for i, step in enumerate(spec.steps[:MAX_STEPS]):
        where = f"{field}.steps[{i}]"
        if not 0 <= step.weight <= 100:
            yield wrong(f"{where}.weight", step.weight, "must be between 0 and 100")
        elif step.weight <= before:
            yield wrong(
                f"{where}.weight", step.weight, f"must be more than that of the step before, {before}"
            )
        before = step.weight
        yield from _duration(f"{where}.wait", step.wait)
        yield from at_least(f"{where}.minRequests", step.min_requests)
        if not step.weight and step.min_requests:
            yield wrong(f"{where}.minRequests", step.min_requests, "a weight of 0 brings no requests")
    if len(spec.gates) > MAX_GATES:
        yield wrong(f"{field}.gates", len(spec.gates), f"at most {MAX_GATES}")
    for i, gate in enumerate(spec.gates[:MAX_GATES]):
        yield from _gate(f"{field}.gates[{i}]", gate)
        if gate in spec.gates[:i]:
            yield duplicate(f"{field}.gates[{i}]", gate.signal)
    rate = spec.false_alarm_rate
    if rate is not None and not 0 < rate < 1:
        yield wrong(f"{field}.falseAlarmRate", rate, "must be more than 0 and less than 1")
    yield from one_of(f"{field}.onFailure", spec.on_failure or ROLL_BACK, (ROLL_BACK, PAUSE))


def _gate(field: str, gate: RolloutGate) -> Causes:
    if not gate.signal:
        yield required(
            f"{field}.signal", f"{ERROR_RATE}, {TTFT}, {INTER_TOKEN_TIME}, or a reported signal's name"
        )
    absolute = gate.max_seconds if gate.signal in TIMES else gate.max_rate
    if gate.signal in TIMES and gate.max_rate is not None:
        yield forbidden(f"{field}.maxRate", "for times, say maxSeconds and quantile")
    if gate.signal not in TIMES and (gate.max_seconds is not None or gate.quantile is not None):
        yield forbidden(f"{field}", f"maxSeconds and quantile are for {TTFT} and {INTER_TOKEN_TIME}")
    relative = gate.max_ratio is not None or gate.max_increase is not None
    if absolute is not None and relative:
        yield forbidden(f"{field}", "either absolute, or against the stable revision: make it two gates")
    if absolute is None and not relative:
        yield required(field, "one of maxRatio, maxIncrease, maxRate or maxSeconds")
    for name, value, least, most in (
        ("maxRatio", gate.max_ratio, 1.0, math.inf),
        ("maxIncrease", gate.max_increase, 0.0, 1.0),
        ("maxRate", gate.max_rate, 0.0, 1.0),
        ("maxSeconds", gate.max_seconds, 0.001, 700.0),
        ("quantile", gate.quantile, 0.5, 0.999),
    ):
        if value is not None and not (least <= value <= most and math.isfinite(value)):
            yield wrong(f"{field}.{name}", value, f"must be between {least:g} and {most:g}")


def _duration(field: str, text: str, least_s: int = 0) -> Causes:
    try:
        span_s = parse_duration_s(text)
    except InvalidInput as error:
        yield wrong(field, text, error.message)
        return
    if span_s < least_s:
        yield wrong(field, text, f"must be at least {least_s} s")
