"""From the first step to everything, or back: with the requests, the waits and the words of people that decide it."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from worlds import NOW, service

from penstock.contracts.exchange import LATENCY_BOUNDS_S
from penstock.decide.evidence import observe
from penstock.decide.progression import Advance, Situation, advance, replay, shares_of
from penstock.decide.rollout_policy import chosen_policy
from penstock.kit.timestamps import rfc3339
from penstock.resources.meta import ObjectMeta
from penstock.resources.rollout import (
    RevisionCounts,
    RolloutGate,
    RolloutOverride,
    RolloutPolicy,
    RolloutPolicySpec,
    RolloutStatus,
    RolloutStep,
    SignalCounts,
)

OLD, NEW, NEWER = (f"iris-predictor-0000{n}" for n in (1, 2, 3))
STEPS = tuple(RolloutStep(weight=weight, wait="60s", min_requests=50) for weight in (10, 50))
BOTH = Situation(newest=NEW, latest_ready=NEW, stable=OLD)


class Story:
    """One component's rollout as requests come in."""

    def __init__(self, *gates: RolloutGate, **policy: Any) -> None:
        spec = RolloutPolicySpec(**({"steps": STEPS, "gates": gates} | policy))
        named = RolloutPolicy(metadata=ObjectMeta(name="careful"), spec=spec)
        self.chosen = chosen_policy(service(annotations={"penstock.dev/rollout-policy": "careful"}), [named])
        self.status = RolloutStatus()
        self.now = NOW
        self.is_ = BOTH
        self.rng = random.Random(1)
        self.events: list[str] = []

    def step(self, seconds: float = 0, **situation: Any) -> Advance:
        self.now += seconds
        self.is_ = msgspec.structs.replace(self.is_, **situation)
        done = advance(self.chosen, self.status, self.is_, self.now)
        self.status = done.status
        if done.event:
            self.events.append(done.event[1])
        again = advance(self.chosen, self.status, self.is_, self.now)
        said = msgspec.structs.replace(again.status, message=self.status.message)
        assert (said, again.event) == (self.status, None), "to decide twice changes nothing"
        return done

    def serve(self, seconds: int = 70, rate: int = 50, bad: float = 0.0, seen: Any = None) -> None:
        """Requests of each second are told and looked at."""
        for _ in range(seconds):
            if self.status.phase != "Progressing":
                return
            share = self.status.weight / 100
            chosen = sum(self.rng.random() < share for _ in range(rate))
            failed = sum(self.rng.random() < bad for _ in range(chosen))
            told = seen or (lambda n, canary: RevisionCounts(requests=n))
            old, new = told(rate - chosen, False), told(chosen, True)
            new = msgspec.structs.replace(new, failures=new.failures + failed)
            assert self.chosen.spec is not None
            self.status = observe(self.chosen.spec, self.status, old, new)
            self.step(1)


ERRORS = RolloutGate(signal="errorRate", max_increase=0.01)


def test_a_good_canary_goes_from_step_to_step_and_is_promoted() -> None:
    story = Story(ERRORS)
    story.step()
    assert (story.status.phase, story.status.weight, story.status.step) == ("Progressing", 10, 0)
    story.serve(59)
    assert story.status.weight == 10, "its wait is not over"
    story.serve(2)
    assert (story.status.weight, story.status.step) == (50, 1)
    story.serve(61)
    assert (story.status.phase, story.status.weight) == ("Promoted", 100)
    story.step(newest=NEW, stable=NEW)
    assert story.events == ["RolloutStarted", "RolloutStepped", "RolloutPromoted", "RolloutCompleted"]


def test_a_step_lasts_until_enough_requests_were_answered() -> None:
    story = Story(ERRORS)
    story.step()
    story.serve(600, rate=0)
    assert story.status.weight == 10
    assert story.status.message.endswith("for 50 more requests")


def test_a_canary_that_fails_is_rolled_back_with_the_evidence_and_stays_so() -> None:
    story = Story(ERRORS)
    story.step()
    story.serve(60, bad=0.3)
    assert story.status.phase == "RolledBack"
    assert shares_of(story.status) == ({}, frozenset({NEW}))
    assert "evidence" in story.status.message
    assert "errorRate" in story.status.message
    story.step(3600, latest_ready=OLD)
    assert story.status.phase == "RolledBack"
    assert story.events == ["RolloutStarted", "RolledBack"]


@pytest.mark.parametrize(
    ("gate", "good", "bad"),
    [
        (RolloutGate(signal="ttft", max_ratio=1.25), 0.1, 0.3),
        (RolloutGate(signal="ttft", max_seconds=0.2), 0.1, 0.3),
        (RolloutGate(signal="interTokenTime", max_ratio=1.5), 0.02, 0.05),
    ],
)
def test_a_slow_canary_is_rolled_back_and_one_as_slow_as_allowed_is_not(
    gate: RolloutGate, good: float, bad: float
) -> None:
    for canary_s, phase in ((bad, "RolledBack"), (good * 1.1, "Promoted")):

        def seen(n: int, canary: bool, slow_s: float = canary_s) -> RevisionCounts:
            counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
            spent = slow_s if canary else good
            counts[next(i for i, bound_s in enumerate(LATENCY_BOUNDS_S) if spent <= bound_s)] = n
            return RevisionCounts(requests=n, ttft=tuple(counts), inter_token=tuple(20 * c for c in counts))

        story = Story(gate)
        story.step()
        story.serve(130, seen=seen)
        assert story.status.phase == phase, canary_s


def test_a_reported_signal_is_a_gate_like_any_other() -> None:
    def seen(n: int, canary: bool) -> RevisionCounts:
        return RevisionCounts(
            requests=n, signals=(SignalCounts(name="drift", exceeded=n // 2 if canary else 0, total=n),)
        )

    for gate, phase in (("drift", "RolledBack"), ("other", "Promoted")):
        story = Story(RolloutGate(signal=gate, max_increase=0.05))
        story.step()
        story.serve(130, seen=seen)
        assert story.status.phase == phase


def test_a_policy_may_hold_the_share_instead_of_rolling_back() -> None:
    story = Story(ERRORS, on_failure="Pause")
    story.step()
    story.serve(60, bad=0.3)
    assert (story.status.phase, story.status.weight) == ("Paused", 10)
    story.step(override=RolloutOverride(action="Promote", revision=NEW))
    assert (story.status.phase, story.status.weight) == ("Promoted", 100)


def test_what_was_rolled_back_is_tried_again_only_as_a_new_revision_or_by_hand() -> None:
    story = Story(ERRORS)
    story.step()
    story.serve(60, bad=0.5)
    story.step(newest=NEWER, latest_ready=OLD)
    assert (story.status.phase, story.status.canary) == ("Waiting", NEWER)
    assert shares_of(story.status) == ({NEWER: 0}, frozenset())
    story.step(latest_ready=NEWER)
    assert (story.status.phase, story.status.weight, story.status.evidence) == ("Progressing", 10, ())
    story.step(newest=OLD, latest_ready=OLD)
    assert story.status.phase == "Idle"
    story.step(newest=NEW, latest_ready=NEW, override=RolloutOverride(action="Promote", revision=NEW))
    assert story.status.phase == "Promoted"


def test_a_persons_word_about_one_revision_says_nothing_about_the_next() -> None:
    story = Story(ERRORS)
    story.step(override=RolloutOverride(action="Abort", revision=NEW))
    assert story.status.phase == "RolledBack"
    story.step(newest=NEWER, latest_ready=NEWER)
    assert story.status.phase == "Progressing"


def test_a_revision_that_does_not_get_ready_gets_nothing_and_says_why() -> None:
    story = Story(ERRORS)
    story.step(latest_ready=OLD, stuck="it was not ready within 600 s")
    assert (story.status.phase, story.status.weight) == ("Waiting", 0)
    assert story.status.message == f"{NEW} waits: it was not ready within 600 s; {OLD} keeps the traffic"


def test_a_canary_that_answered_and_does_not_stay_up_is_rolled_back() -> None:
    story = Story(ERRORS)
    story.step()
    story.serve(5)
    story.step(stuck="container main: exit code 1")
    assert story.status.phase == "RolledBack"
    assert story.status.message.endswith("it does not stay up: container main: exit code 1")


def test_the_users_own_percent_holds_and_afterwards_the_steps_begin_again() -> None:
    story = Story(ERRORS)
    story.step()
    story.serve(30)
    story.step(asked=70)
    assert (story.status.phase, story.status.weight) == ("Overridden", 70)
    story.step(asked=None)
    assert (story.status.phase, story.status.weight, story.status.step_requests) == ("Progressing", 10, 0)


def test_without_the_named_policy_nothing_moves_and_it_is_said() -> None:
    story = Story(ERRORS)
    story.chosen = chosen_policy(service(annotations={"penstock.dev/rollout-policy": "gone"}), [])
    story.step()
    assert (story.status.phase, story.status.weight) == ("Waiting", 0)
    assert "no RolloutPolicy 'gone'" in story.status.message


def test_the_first_revision_has_nothing_to_be_compared_with() -> None:
    story = Story(ERRORS)
    assert story.step(stable="", latest_ready="").status.phase == "Idle"
    assert story.step(stable=NEW).status.canary == ""


def test_a_restart_in_the_middle_changes_nothing() -> None:
    one, other = Story(ERRORS), Story(ERRORS)
    for story in (one, other):
        story.step()
    for _ in range(12):
        one.serve(10, bad=0.02)
        other.serve(10, bad=0.02)
        other.status = msgspec.json.decode(msgspec.json.encode(other.status), type=RolloutStatus)
        assert other.status == one.status


def test_each_recorded_decision_can_be_taken_again() -> None:
    story = Story(ERRORS)
    story.step()
    story.serve(100, bad=0.05)
    story.serve(100, bad=0.5)
    recorded = msgspec.json.decode(msgspec.json.encode(story.status.decisions))
    assert len(recorded) >= 2
    for decision in recorded:
        again = replay(decision["input"]).status
        assert (again.phase, again.weight, [again.message]) == (
            decision["phase"],
            decision["weight"],
            decision["reasons"],
        )


def test_times_are_kept_as_they_are_written() -> None:
    story = Story(ERRORS)
    story.step()
    assert story.status.since == rfc3339(NOW)
