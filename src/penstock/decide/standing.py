"""Why has this service no endpoint, and when will it have one?

It may be stopped by hand, asleep until it is asked for, on its way (then in which phase, and how long that takes), or unable to start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from penstock.contracts.exchange import ServicePhase, StartPhase
from penstock.decide.cold_start import PHASES, phase_of
from penstock.decide.rollout import is_stopped
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.serving import InferenceService

HOLD_S = 120.0
"""How long a request waits for a first endpoint, where starts are not known to take longer."""
HOLD_STARTS = 2.0
"""How many of the longest usual starts it waits for, where they are."""
STOPPED = "the service is stopped (annotation serving.kserve.io/stop)"
ASLEEP = "it sleeps until it is asked for"
STARTING: Mapping[StartPhase, str] = {
    "placing": "its pods are starting",
    "downloading": "its model is being fetched",
    "loading": "its engine is loading the model",
    "warming": "its engine is warming up",
}


class Awaited(NamedTuple):
    """A revision with a share of the traffic: its pods that have not ended, and what scales it (None: something else)."""

    pods: Sequence[Pod]
    scaler: PodAutoscaler | None


@dataclass(frozen=True, slots=True)
class Standing:
    """`message` is for callers. `start_phase` is the furthest that a pod has come, `start_expected_s` what a start takes (0: unknown)."""

    phase: ServicePhase
    message: str = ""
    start_phase: StartPhase = ""
    start_expected_s: float = 0.0
    wakes: bool = True

    def hold_s(self, timeout_s: float) -> float:
        """How long a request may wait; longer where starts are known to take long, though never beyond its own timeout."""
        return max(HOLD_S, min(HOLD_STARTS * self.start_expected_s, timeout_s))


def standing_of(service: InferenceService, awaited: Sequence[Awaited], *, is_served: bool) -> Standing:
    """`is_served`: a revision with a share of the traffic has an endpoint."""
    expected_s = max((_expected_s(one.scaler) for one in awaited), default=0.0)
    if is_served:
        return Standing("Ready", start_expected_s=expected_s)
    if is_stopped(service):
        return Standing("Sleeping", STOPPED, wakes=False)
    if awaited and all(map(_sleeps, awaited)):
        return Standing("Sleeping", ASLEEP, "placing", expected_s)
    if failure := _failure(service):
        return Standing("Failed", failure)
    phases = [phase for one in awaited for pod in one.pods if (phase := phase_of(pod)) is not None]
    furthest: StartPhase = max(phases, key=PHASES.index, default="placing")
    blocked = _unplaced(awaited) if furthest == "placing" else ""
    return Standing("Starting", blocked or STARTING[furthest], furthest, expected_s)


def _failure(service: InferenceService) -> str:
    """Why what should answer cannot; "" also where only a revision fails that has no share of the traffic."""
    model = service.status.model_status
    if model is None or model.transition_status not in ("InvalidSpec", "BlockedByFailedLoad"):
        return ""
    info = model.last_failure_info
    shares = [target for status in service.status.components.values() for target in status.traffic]
    serving = {target.revision_name for target in shares if target.percent}
    if serving and info is not None and info.model_revision_name not in serving:
        return ""
    return info.message if info is not None else model.transition_status


def _sleeps(one: Awaited) -> bool:
    return not one.pods and one.scaler is not None and one.scaler.status.desired_scale == 0


def _expected_s(scaler: PodAutoscaler | None) -> float:
    known = scaler.status.cold_start if scaler is not None else None
    return known.expected_s if known is not None else 0.0


def _unplaced(awaited: Sequence[Awaited]) -> str:
    """What keeps pods from being placed, "" where nothing is known to."""
    conditions = [
        c for one in awaited for pod in one.pods for c in pod.status.conditions if c.type == "PodScheduled"
    ]
    conditions += [
        c for one in awaited if one.scaler for c in one.scaler.status.conditions if c.type == "Schedulable"
    ]
    return next((c.message for c in conditions if c.status == "False" and c.message), "")
