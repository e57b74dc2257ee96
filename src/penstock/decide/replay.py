"""Does this recorded decision come out the same again?

Whoever records a decision keeps all that it rested on. Here the present code takes it once more: after an upgrade, or a change that
was not meant to change anything, what comes out differently is a finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from penstock.decide import forecast, kpa, progression
from penstock.resources.autoscaler_settings import FORECAST_CLASS
from penstock.resources.pod_autoscaler import RecordedDecision
from penstock.resources.rollout import RolloutDecision

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Replayed:
    """What comes out now; `same` as was recorded. `failure` says why it could not be taken again, "" if it could."""

    outcome: str = ""
    reasons: tuple[str, ...] = ()
    same: bool = False
    failure: str = ""


def replay_scaling(recorded: RecordedDecision) -> Replayed:
    """A decision of a PodAutoscaler, by the law that it names."""
    if recorded.input is None:
        return Replayed(failure="what it rested on is not kept any more")
    given = recorded.input
    try:
        said = _forecast(given) if recorded.law == FORECAST_CLASS else _knative(given)
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        return Replayed(failure=f"its input is not such as this version records: {error}")
    desired, reasons = said
    same = (desired, reasons) == (recorded.desired, recorded.reasons)
    return Replayed(f"{desired} replicas", reasons, same)


def replay_rollout(recorded: RolloutDecision) -> Replayed:
    """A step of a rollout."""
    try:
        status = progression.replay(recorded.input).status
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        return Replayed(failure=f"its input is not such as this version records: {error}")
    same = (status.phase, status.weight) == (recorded.phase, recorded.weight)
    return Replayed(f"{status.phase}, {status.weight} %", (status.message,) if status.message else (), same)


def _knative(given: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    said = kpa.decide(
        _as(kpa.Spec, given["spec"]),
        _as(kpa.State, given["state"]),
        _as(kpa.Observed, given["seen"]),
        given["now"],
    )
    return said.desired, said.reasons


def _forecast(given: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    said = forecast.decide(
        _as(forecast.Spec, given["spec"]),
        _as(forecast.State, given["state"]),
        _as(forecast.Seen, given["seen"]),
        given["now"],
    )
    return said.desired, said.reasons


def _as(kind: type[T], value: Any) -> T:
    return msgspec.convert(value, kind, strict=False)
