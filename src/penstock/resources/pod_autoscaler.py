"""What scales a revision by its requests: Knative's PodAutoscaler, under a group of our own (penstock.dev).

A group of our own, so that a Knative that runs in the same cluster does not take these objects for its own.
"""

from __future__ import annotations

from msgspec import field

from penstock.resources.autoscaling import CrossVersionObjectReference
from penstock.resources.meta import Condition, Json, Model, Resource

REACHABLE, UNREACHABLE = "Reachable", "Unreachable"
INITIALIZED = "ScaleTargetInitialized"
"""Condition: enough of the revision's pods were ready once."""


class PodAutoscalerSpec(Model, frozen=True):
    """What is scaled; the settings are annotations, as Knative has them (`autoscaling.knative.dev/…`).

    `reachability` is Reachable while the revision has a share of the traffic, or is about to get one. `container_concurrency` is
    how many requests a pod takes at once, 0 for any number.
    """

    scale_target_ref: CrossVersionObjectReference
    reachability: str = ""
    container_concurrency: int = 0


class ColdStart(Model, frozen=True):
    """How long the revision's pods take from being asked for to being ready, in seconds: the last start, and what to expect.

    `expected_s` is the last download and a high quantile over the rest of the last starts (at most 16, in `totals_s`). Starts whose
    weights had to be read from the disk are told apart: `uncached_expected_s` and `uncached_totals_s`, 0 and () while there was none.
    """

    placing_s: float = 0.0
    downloading_s: float = 0.0
    loading_s: float = 0.0
    warming_s: float = 0.0
    total_s: float = 0.0
    expected_s: float = 0.0
    totals_s: tuple[float, ...] = ()
    uncached_expected_s: float = 0.0
    uncached_totals_s: tuple[float, ...] = ()
    last_pod: str = ""


class SleepStatus(Model, frozen=True):
    """How far the revision goes to sleep when nobody asks: `depth` is Idle, Cached or Gone, and why.

    `resume_expected_s` is how long a first answer then takes, by what was measured.
    """

    depth: str
    reason: str = ""
    resume_expected_s: float | None = None


class RecordedDecision(Model, frozen=True):
    """One decision, with all that it rests on: `penstock explain --replay` takes it again from `input`."""

    at: str
    law: str
    desired: int
    before: int = 0
    reasons: tuple[str, ...] = ()
    runner_up: str = ""
    input: Json = None


class PodAutoscalerStatus(Model, frozen=True):
    """Conditions are Active, ScaleTargetInitialized, Schedulable and Ready; `decisions` are the last ones that changed anything.

    `mode` is Serve or Proxy: whether requests may go straight to pods, or the gateway's waiting room is part of the path.
    `num_activators` is how many gateway workers the burst to be held asks for, by their `activator-capacity`; how many there are is
    the platform's setting `workers` (Knative has both in its ServerlessService).
    """

    observed_generation: int | None = None
    desired_scale: int | None = None
    actual_scale: int | None = None
    mode: str = ""
    num_activators: int | None = None
    conditions: tuple[Condition, ...] = ()
    cold_start: ColdStart | None = None
    sleep: SleepStatus | None = None
    decisions: tuple[RecordedDecision, ...] = ()


class PodAutoscaler(Resource, frozen=True, kw_only=True):
    """Keeps the number of a revision's pods in step with the requests that the gateway sees for it."""

    api_version: str = field(default_factory=lambda: "penstock.dev/v1alpha1")
    kind: str = field(default_factory=lambda: "PodAutoscaler")
    spec: PodAutoscalerSpec
    status: PodAutoscalerStatus = field(default_factory=PodAutoscalerStatus)
