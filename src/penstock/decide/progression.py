"""Which share of the traffic does the newest revision get now: the next step's, this one's, all, or none any more?

The steps of a RolloutPolicy. A step is over when its wait is over and enough requests were answered; a gate that closes at any time
ends the rollout. A revision that was rolled back gets nothing until the template changes or a person promotes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from penstock.decide.evidence import strength
from penstock.decide.rollout_policy import Chosen
from penstock.kit.durations import parse_duration_s
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.meta import Json
from penstock.resources.rollout import (
    ABORT,
    PAUSE,
    PROMOTE,
    GateEvidence,
    RolloutDecision,
    RolloutOverride,
    RolloutPolicySpec,
    RolloutStatus,
    RolloutStep,
)

IDLE, WAITING, PROGRESSING, PAUSED = "Idle", "Waiting", "Progressing", "Paused"
PROMOTED, ROLLED_BACK, OVERRIDDEN = "Promoted", "RolledBack", "Overridden"
KEPT_DECISIONS = 10


class Situation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of the component: names of revisions, "" for none; `asked` is a canaryTrafficPercent that has a say.

    `newest` is of the present template, `stable` was rolled out last. `stuck` says why the newest has no pod that answers and will not
    have one, if that is so.
    """

    newest: str = ""
    latest_ready: str = ""
    stable: str = ""
    asked: int | None = None
    override: RolloutOverride | None = None
    stuck: str = ""


@dataclass(frozen=True, slots=True)
class Advance:
    """The rollout's new state. `event` (type, reason, message) where something was decided; `again_s` until time changes something."""

    status: RolloutStatus
    event: tuple[str, str, str] | None = None
    again_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What follows. `fresh` starts counting anew, `turns` begins a step's time anew."""

    phase: str
    weight: int
    message: str
    step: int = 0
    event: str = ""
    runner_up: str = ""
    fresh: bool = False
    turns: bool = False
    again_s: float | None = None


def advance(chosen: Chosen, status: RolloutStatus, now_is: Situation, now: float) -> Advance:
    """`status` has all requests up to `now` counted (`decide/evidence.py`); the policy has its defaults."""
    canary = _candidate(now_is)
    answer = _answer(chosen, status, now_is, canary, now)
    turned = (answer.phase, answer.weight, canary) != (status.phase, status.weight, status.canary)
    after = msgspec.structs.replace(
        status,
        phase=answer.phase,
        message=answer.message,
        stable=now_is.stable,
        canary=canary,
        step=answer.step,
        steps=len(chosen.spec.steps) if chosen.spec else 0,
        weight=answer.weight,
    )
    if answer.fresh:
        after = msgspec.structs.replace(after, seen=(), pending=(), evidence=())
    if answer.fresh or answer.turns:
        after = msgspec.structs.replace(after, since=rfc3339(now), step_requests=0)
    if not answer.event or not turned:
        return Advance(after, again_s=answer.again_s)
    decision = RolloutDecision(
        at=rfc3339(now),
        phase=answer.phase,
        weight=answer.weight,
        reasons=(answer.message,),
        runner_up=answer.runner_up,
        input=_recorded(chosen, status, now_is, now),
    )
    after = msgspec.structs.replace(after, decisions=(*status.decisions, decision)[-KEPT_DECISIONS:])
    kind = "Warning" if answer.phase == ROLLED_BACK or answer.event == "RolloutPaused" else "Normal"
    return Advance(after, event=(kind, answer.event, answer.message), again_s=answer.again_s)


def rollout_name(service: str, component: str) -> str:
    """The Rollout of a service's component."""
    return f"{service}-{component}"


def shares_of(status: RolloutStatus) -> tuple[dict[str, int], frozenset[str]]:
    """The percent of each revision that the rollout speaks of, and those that failed."""
    if status.phase == ROLLED_BACK:
        return {}, frozenset({status.canary})
    return ({status.canary: status.weight} if status.canary else {}), frozenset()


def replay(recorded: Json) -> Advance:
    """A recorded decision, taken again from its `input`."""
    return advance(
        Chosen(msgspec.convert(recorded["policy"], RolloutPolicySpec | None), recorded.get("failure", "")),
        msgspec.convert(recorded["status"], RolloutStatus),
        msgspec.convert(recorded["situation"], Situation),
        recorded["now"],
    )


def _recorded(chosen: Chosen, status: RolloutStatus, now_is: Situation, now: float) -> Json:
    """As it will be read from the store, so that what was written compares equal."""
    known = {
        "policy": chosen.spec,
        "failure": chosen.failure,
        "status": msgspec.structs.replace(status, decisions=()),
        "situation": now_is,
        "now": now,
    }
    return msgspec.json.decode(msgspec.json.encode(known))


def _candidate(now_is: Situation) -> str:
    """The revision that is to replace the stable one, "" if there is none: the newest that can serve, else the newest."""
    if not now_is.stable or now_is.newest == now_is.stable:
        return ""
    return now_is.latest_ready if now_is.latest_ready not in ("", now_is.stable) else now_is.newest


def _answer(chosen: Chosen, status: RolloutStatus, now_is: Situation, canary: str, now: float) -> _Answer:
    if not canary:
        return _settled(status, now_is)
    if now_is.asked is not None:
        told = f"canaryTrafficPercent: {now_is.asked} is set on the service, and holds instead of the policy"
        return _Answer(OVERRIDDEN, now_is.asked, told, event="RolloutOverridden")
    fresh = status.canary != canary or status.phase in (OVERRIDDEN, IDLE, "")
    override = now_is.override
    if override is not None and override.revision == canary:
        return _by_hand(override, status, canary, fresh=fresh)
    if chosen.spec is None:
        return _Answer(
            WAITING, 0, f"{canary} gets no traffic: {chosen.failure}", event="RolloutStuck", fresh=fresh
        )
    if status.phase in (PROMOTED, ROLLED_BACK, PAUSED) and not fresh:
        return _Answer(status.phase, status.weight, status.message, status.step)
    if canary != now_is.latest_ready:
        why = now_is.stuck or "its pods are not ready"
        return _Answer(WAITING, 0, f"{canary} waits: {why}; {now_is.stable} keeps the traffic", fresh=fresh)
    if fresh or status.phase == WAITING:
        first = chosen.spec.steps[0]
        told = f"{canary} gets {first.weight} % beside {now_is.stable}: step 1 of {len(chosen.spec.steps)}"
        return _Answer(
            PROGRESSING,
            first.weight,
            told,
            event="RolloutStarted",
            fresh=True,
            again_s=parse_duration_s(first.wait),
        )
    return _progress(chosen.spec, status, canary, now_is, now)


def _settled(status: RolloutStatus, now_is: Situation) -> _Answer:
    """There is nothing to compare: the first revision, or one that has everything."""
    if status.canary == "" and status.phase == PROMOTED and status.stable == now_is.stable:
        return _Answer(PROMOTED, 100, status.message)
    if status.canary == now_is.stable != "" and status.phase in (PROMOTED, PROGRESSING, OVERRIDDEN):
        return _Answer(PROMOTED, 100, f"{now_is.stable} was rolled out", event="RolloutCompleted")
    return _Answer(IDLE, 100, "no revision waits to be rolled out", fresh=bool(status.canary))


def _by_hand(override: RolloutOverride, status: RolloutStatus, canary: str, *, fresh: bool) -> _Answer:
    if override.action == PROMOTE:
        return _Answer(
            PROMOTED, 100, f"{canary} was promoted by hand", status.step, event="RolloutPromoted", fresh=fresh
        )
    assert override.action == ABORT, "admission lets nothing else through"
    return _Answer(
        ROLLED_BACK, 0, f"{canary} was aborted by hand", status.step, event="RolledBack", fresh=fresh
    )


def _progress(
    policy: RolloutPolicySpec, status: RolloutStatus, canary: str, now_is: Situation, now: float
) -> _Answer:
    closed = next((evidence for evidence in status.evidence if evidence.closed), None)
    step = min(status.step, len(policy.steps) - 1)
    at = policy.steps[step]
    if closed is not None:
        return _failed(policy, status, canary, now_is.stable, _why(policy, now_is.stable, closed))
    if now_is.stuck:
        return _failed(policy, status, canary, now_is.stable, f"it does not stay up: {now_is.stuck}")
    left_s = parse_rfc3339(status.since) + parse_duration_s(at.wait) - now
    missing = at.min_requests - status.step_requests
    if left_s > 0 or missing > 0:
        told = _still(canary, at, parse_rfc3339(status.since) + parse_duration_s(at.wait), left_s, missing)
        return _Answer(
            PROGRESSING,
            at.weight,
            told,
            step,
            again_s=left_s if left_s > 0 else None,
            turns=at.weight != status.weight,
        )
    why = f"{status.step_requests} requests at {at.weight} %, and no gate closed ({_summary(status)})"
    if step + 1 == len(policy.steps):
        told = f"{canary} gets everything: {why}"
        return _Answer(PROMOTED, 100, told, step, event="RolloutPromoted", runner_up=f"stay at {at.weight} %")
    following = policy.steps[step + 1]
    return _Answer(
        PROGRESSING,
        following.weight,
        f"{canary} gets {following.weight} %: {why}; step {step + 2} of {len(policy.steps)}",
        step + 1,
        event="RolloutStepped",
        runner_up=f"stay at {at.weight} %",
        turns=True,
        again_s=parse_duration_s(following.wait),
    )


def _failed(policy: RolloutPolicySpec, status: RolloutStatus, canary: str, stable: str, why: str) -> _Answer:
    if policy.on_failure == PAUSE:
        told = f"{canary} stays at {status.weight} %, promote or abort it by hand: {why}"
        return _Answer(PAUSED, status.weight, told, status.step, event="RolloutPaused", runner_up="roll back")
    told = f"{canary} gets nothing any more, {stable} all: {why}"
    stay = f"stay at {status.weight} %"
    return _Answer(ROLLED_BACK, 0, told, status.step, event="RolledBack", runner_up=stay)


def _why(policy: RolloutPolicySpec, stable: str, closed: GateEvidence) -> str:
    rates = (
        f"{closed.canary_rate:.3g} of {closed.requests[-1]} requests"
        f" against {closed.stable_rate:.3g} of {closed.requests[0]} of {stable}"
    )
    alarms = f"false-alarm rate {policy.false_alarm_rate:g}"
    return f"{closed.gate}: {rates}; evidence {strength(closed)} ({alarms})"


def _still(canary: str, at: RolloutStep, end: float, left_s: float, missing: int) -> str:
    waits = [
        f"until {rfc3339(end)}" if left_s > 0 else "",
        f"for {missing} more requests" if missing > 0 else "",
    ]
    return f"{canary} stays at {at.weight} % {' and '.join(filter(None, waits))}"


def _summary(status: RolloutStatus) -> str:
    return (
        "; ".join(f"{one.gate}: {strength(one)}" for one in status.evidence) or "no gate has seen enough yet"
    )
