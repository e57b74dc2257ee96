"""How a new revision gets its traffic by itself, and how far it has come (group penstock.dev, ours)."""

from __future__ import annotations

from msgspec import field

from penstock.resources.meta import Json, Model, Resource

ERROR_RATE, TTFT, INTER_TOKEN_TIME = "errorRate", "ttft", "interTokenTime"
PROMOTE, ABORT = "Promote", "Abort"
ROLL_BACK, PAUSE = "RollBack", "Pause"


class RolloutStep(Model, frozen=True):
    """The canary gets `weight` percent for at least `wait` (`90s`, `5m`), and until it has answered `min_requests` at this step."""

    weight: int
    wait: str = "0"
    min_requests: int = 0


class RolloutGate(Model, frozen=True):
    """What may not get worse. `signal` is errorRate, ttft, interTokenTime, or the name of a signal that engines or guards report.

    Against the stable revision: the canary's rate is at most `max_ratio` times its, plus `max_increase`; for times, what counts is how
    many requests are slower than `max_ratio` times the stable one's `quantile`. Absolute: the rate is at most `max_rate`; for times, at
    most 1 - `quantile` of the requests take longer than `max_seconds`.
    """

    signal: str
    max_ratio: float | None = None
    max_increase: float | None = None
    max_rate: float | None = None
    max_seconds: float | None = None
    quantile: float | None = None


class RolloutPolicySpec(Model, frozen=True):
    """Steps on the way to everything, and gates that are watched at all of them.

    `false_alarm_rate` is the probability that a canary that is no worse than allowed is rolled back by chance, in a whole rollout.
    `on_failure` is RollBack or Pause.
    """

    steps: tuple[RolloutStep, ...] = ()
    gates: tuple[RolloutGate, ...] = ()
    false_alarm_rate: float | None = None
    on_failure: str = ""


class RolloutPolicy(Resource, frozen=True, kw_only=True):
    """Chosen by an InferenceService's annotation penstock.dev/rollout-policy; several services may share one."""

    api_version: str = field(default_factory=lambda: "penstock.dev/v1alpha1")
    kind: str = field(default_factory=lambda: "RolloutPolicy")
    spec: RolloutPolicySpec = field(default_factory=RolloutPolicySpec)


class RolloutOverride(Model, frozen=True):
    """A person's word about one revision: Promote it now, or Abort it. It says nothing about any other revision."""

    action: str
    revision: str


class RolloutSpec(Model, frozen=True):
    """Which component of which service."""

    service: str
    component: str
    override: RolloutOverride | None = None


class SignalCounts(Model, frozen=True):
    """Of `total` answers that a named signal was reported for, `exceeded` were beyond what it allows."""

    name: str
    exceeded: int = 0
    total: int = 0


class RevisionCounts(Model, frozen=True):
    """What was seen of one revision; times are counted by bucket (`contracts/exchange.py`, LATENCY_BOUNDS_S)."""

    requests: int = 0
    failures: int = 0
    ttft: tuple[int, ...] = ()
    inter_token: tuple[int, ...] = ()
    signals: tuple[SignalCounts, ...] = ()


class GateEvidence(Model, frozen=True):
    """What speaks against the canary at one gate: `log_e` is the natural logarithm of the evidence, which closes the gate at `alarm_at`.

    Rates are of what the gate counts as not wished, over `requests` (stable, canary); `limit` says what is allowed, in words.
    `closed` stays once it was reached.
    """

    gate: str
    limit: str = ""
    log_e: float = 0.0
    alarm_at: float = 0.0
    stable_rate: float = 0.0
    canary_rate: float = 0.0
    requests: tuple[int, ...] = ()
    closed: bool = False


class RolloutDecision(Model, frozen=True):
    """One decision with all that it rests on, so that it can be taken again."""

    at: str
    phase: str
    weight: int
    reasons: tuple[str, ...] = ()
    runner_up: str = ""
    input: Json = None


class RolloutStatus(Model, frozen=True):
    """How far the rollout of `canary` over `stable` has come.

    `phase` is Idle, Waiting (the canary is not ready), Progressing, Paused, Promoted, RolledBack or Overridden (the user's own
    canaryTrafficPercent holds). `weight` is the canary's share in percent, since `since` at `step` (from 0). `seen` is what the test
    has looked at, `pending` what came after, each (stable, canary); `step_requests` are the canary's answers at this step.
    """

    observed_generation: int | None = None
    phase: str = ""
    message: str = ""
    stable: str = ""
    canary: str = ""
    step: int = 0
    steps: int = 0
    weight: int = 0
    since: str = ""
    step_requests: int = 0
    seen: tuple[RevisionCounts, ...] = ()
    pending: tuple[RevisionCounts, ...] = ()
    evidence: tuple[GateEvidence, ...] = ()
    decisions: tuple[RolloutDecision, ...] = ()


class Rollout(Resource, frozen=True, kw_only=True):
    """The progress of a component's newest revision under a RolloutPolicy; made and kept by Penstock, one per component."""

    api_version: str = field(default_factory=lambda: "penstock.dev/v1alpha1")
    kind: str = field(default_factory=lambda: "Rollout")
    spec: RolloutSpec
    status: RolloutStatus = field(default_factory=RolloutStatus)
