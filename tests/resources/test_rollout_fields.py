"""The reference of RolloutPolicy is whole, and its defaults are those that hold."""

from __future__ import annotations

import msgspec

from penstock.decide.rollout_policy import (
    DEFAULT_FALSE_ALARM_RATE,
    DEFAULT_GATES,
    DEFAULT_QUANTILE,
    DEFAULT_STEPS,
)
from penstock.resources import rollout, validate_rollout
from penstock.resources.rollout_fields import FIELDS

TOLD = {field: default for field, default, _, _ in FIELDS}


def fields(kind: type, path: str) -> set[str]:
    return {f"{path}{one.encode_name}" for one in msgspec.structs.fields(kind)}


def test_every_field_and_annotation_of_a_policy_is_told() -> None:
    wanted = fields(rollout.RolloutPolicySpec, "spec.") - {"spec.steps", "spec.gates"}
    wanted |= fields(rollout.RolloutStep, "spec.steps[].") | fields(rollout.RolloutGate, "spec.gates[].")
    words = {value for value in vars(validate_rollout).values() if isinstance(value, str)}
    wanted |= {f"annotation {word}" for word in words if word.startswith("penstock.dev/rollout-")}
    assert set(TOLD) == wanted


def test_the_defaults_that_are_told_hold() -> None:
    assert TOLD["spec.steps[].weight"] == ", ".join(str(step.weight) for step in DEFAULT_STEPS)
    assert TOLD["spec.gates[].signal"] == ", ".join(gate.signal for gate in DEFAULT_GATES)
    assert TOLD["spec.gates[].quantile"] == str(DEFAULT_QUANTILE)
    assert TOLD["spec.falseAlarmRate"] == str(DEFAULT_FALSE_ALARM_RATE)
