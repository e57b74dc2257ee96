"""Which rollout policy holds for this service, with what steps and gates?

The one that annotation penstock.dev/rollout-policy names, or that the annotations penstock.dev/rollout-* spell out; without either,
a new revision gets what KServe's rules give it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from penstock.kit.errors import InvalidInput
from penstock.resources.rollout import (
    ERROR_RATE,
    ROLL_BACK,
    TTFT,
    RolloutGate,
    RolloutPolicy,
    RolloutPolicySpec,
    RolloutStep,
)
from penstock.resources.serving import InferenceService
from penstock.resources.validate_rollout import (
    DEFAULT_MIN_REQUESTS,
    DEFAULT_WAIT,
    POLICY,
    STEPS,
    annotated_policy,
)

DEFAULT_STEPS = tuple(
    RolloutStep(weight=weight, wait=DEFAULT_WAIT, min_requests=DEFAULT_MIN_REQUESTS) for weight in (5, 25, 50)
)
DEFAULT_GATES = (
    RolloutGate(signal=ERROR_RATE, max_increase=0.01),
    RolloutGate(signal=TTFT, max_ratio=1.25, max_increase=0.01),
)
"""One request of a hundred more that fails, or that is slow as only one of twenty is."""
DEFAULT_FALSE_ALARM_RATE = 0.01
DEFAULT_QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class Chosen:
    """The policy with its defaults, or None; `failure` says why one that is asked for cannot be followed."""

    spec: RolloutPolicySpec | None = None
    failure: str = ""


def follows_policy(service: InferenceService) -> bool:
    """Whether new revisions of the service wait for a rollout's word, also where its policy cannot be followed."""
    return POLICY in service.metadata.annotations or STEPS in service.metadata.annotations


def chosen_policy(service: InferenceService, policies: Iterable[RolloutPolicy]) -> Chosen:
    """`policies` are those of the service's namespace."""
    annotations = service.metadata.annotations
    name = annotations.get(POLICY)
    if name is None:
        try:
            spelled = annotated_policy(annotations)
        except InvalidInput as error:
            return Chosen(failure=error.message)
        return Chosen(_completed(spelled)) if spelled is not None else Chosen()
    for policy in policies:
        if policy.metadata.name == name:
            return Chosen(_completed(policy.spec))
    return Chosen(failure=f"annotation {POLICY}: there is no RolloutPolicy {name!r} in this namespace")


def _completed(spec: RolloutPolicySpec) -> RolloutPolicySpec:
    return msgspec.structs.replace(
        spec,
        steps=spec.steps or DEFAULT_STEPS,
        gates=tuple(
            msgspec.structs.replace(gate, quantile=gate.quantile or DEFAULT_QUANTILE)
            for gate in spec.gates or DEFAULT_GATES
        ),
        false_alarm_rate=spec.false_alarm_rate or DEFAULT_FALSE_ALARM_RATE,
        on_failure=spec.on_failure or ROLL_BACK,
    )
