"""A consumer of KV events never takes for held what an engine let go, however batches are lost, repeated, late, or of another process."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.decide.kv_sequence import (
    REPEATS_S,
    RETRY_S,
    Sequence,
    Step,
    heard,
    replay_ended,
    replay_failed,
    replayed,
    started,
)


def joined(last: int = 4, at: float = 40.0) -> Sequence:
    return Sequence(last=last, last_at=at)


def test_the_next_number_is_applied() -> None:
    step = heard(joined(), 5, 50.0, 0.0, can_replay=True)
    assert (step.outcome, step.apply, step.state) == ("applied", True, joined(5, 50.0))
    assert not step.drop
    assert not step.distrust
    assert step.replay_from == -1


def test_the_first_batch_of_an_engine_is_applied_without_a_replay() -> None:
    step = heard(started(can_replay=False).state, 0, 1.0, 0.0, can_replay=False)
    assert (step.outcome, step.apply) == ("applied", True)


def test_an_engine_is_asked_for_all_at_first_because_an_idle_one_says_nothing() -> None:
    assert started(can_replay=True).replay_from == 0
    assert started(can_replay=False).replay_from == -1


def test_a_batch_heard_twice_is_applied_once() -> None:
    for number, at in ((4, 40.0), (2, 20.0)):
        step = heard(joined(), number, at, 0.0, can_replay=True)
        assert step == Step(replace(joined(), repeats_since=0.0), "repeated")


@pytest.mark.parametrize("can_replay", [True, False])
def test_what_comes_for_long_under_numbers_that_are_known_is_another_count(can_replay: bool) -> None:
    state = joined(1 << 40, 1e12)
    for number in range(10):
        step = heard(state, number, number, 7.0 + number * REPEATS_S / 10, can_replay=can_replay)
        assert (step.outcome, step.apply, step.drop) == ("repeated", False, False)
        state = step.state
    step = heard(state, 10, 10.0, 7.0 + REPEATS_S, can_replay=can_replay)
    assert (step.outcome, step.drop, step.apply) == ("restarted", True, not can_replay)
    assert (step.replay_from >= 0) is can_replay


def test_now_and_then_a_batch_that_is_known_is_nothing() -> None:
    state = joined()
    for number in range(5, 50):
        assert heard(state, number - 1, state.last_at, number * 100.0, can_replay=True).outcome == "repeated"
        state = heard(state, number, number * 10.0, number * 100.0, can_replay=True).state


def test_a_gap_asks_again_from_the_last_that_is_known() -> None:
    step = heard(joined(), 7, 70.0, 0.0, can_replay=True)
    assert (step.outcome, step.replay_from, step.apply) == ("gap", 4, False)
    state = step.state
    for number in (4, 5, 6, 7):
        step = replayed(state, number, number * 10.0)
        assert step.apply is (number > 4)
        state = step.state
    end = replay_ended(state, 0.0)
    assert (end.outcome, end.state) == ("complete", joined(7, 70.0))


def test_a_gap_without_replay_is_trusted_no_more_and_says_so_once() -> None:
    step = heard(joined(), 7, 70.0, 0.0, can_replay=False)
    assert (step.outcome, step.distrust, step.trust, step.apply) == ("gap", True, False, True)
    for number in (8, 9, 12):
        step = heard(step.state, number, number * 10.0, 0.0, can_replay=False)
        assert (step.outcome, step.distrust, step.trust, step.apply) == ("untrusted", False, False, True)


def test_an_empty_cache_ends_every_doubt() -> None:
    doubtful = heard(joined(), 7, 70.0, 0.0, can_replay=False).state
    step = heard(doubtful, 8, 90.0, 0.0, can_replay=False, clears=True)
    assert (step.outcome, step.drop, step.apply, step.state) == ("cleared", True, True, joined(8, 90.0))


def test_a_later_date_under_an_earlier_number_is_another_process() -> None:
    first = heard(joined(), 0, 99.0, 0.0, can_replay=True)
    assert (first.outcome, first.drop, first.apply, first.state) == ("restarted", True, True, joined(0, 99.0))
    later = heard(joined(), 3, 99.0, 0.0, can_replay=True)
    assert (later.outcome, later.drop, later.apply, later.replay_from) == ("restarted", True, False, 0)
    same = heard(joined(), 4, 99.0, 0.0, can_replay=False)
    assert (same.outcome, same.drop, same.apply) == ("restarted", True, True)


def test_another_process_that_has_told_more_than_the_one_before_is_known_by_the_date_of_its_replay() -> None:
    gap = heard(joined(), 7, 700.0, 0.0, can_replay=True)
    step = replayed(gap.state, 4, 400.0)
    assert (step.outcome, step.drop, step.apply, step.replay_from) == ("restarted", True, False, 0)
    assert step.state.target == 7


def test_what_the_engine_no_longer_keeps_makes_all_that_was_known_doubtful() -> None:
    gap = heard(joined(), 50, 500.0, 0.0, can_replay=True)
    step = replayed(gap.state, 40, 400.0)
    assert (step.outcome, step.drop, step.apply) == ("lost", True, True)


def test_late_comers_begin_where_they_are_when_nothing_is_kept() -> None:
    step = heard(Sequence(), 7, 70.0, 0.0, can_replay=False)
    assert (step.outcome, step.apply, step.state) == ("late", True, joined(7, 70.0))
    assert heard(Sequence(), 7, 70.0, 0.0, can_replay=True).replay_from == 0


def test_a_replay_that_fails_is_tried_again_only_after_a_while() -> None:
    gap = heard(joined(), 7, 70.0, 0.0, can_replay=True)
    failed = replay_failed(gap.state, 10.0)
    assert (failed.outcome, failed.distrust) == ("failed", True)
    soon = heard(failed.state, 8, 80.0, 10.0 + RETRY_S - 0.1, can_replay=True)
    assert (soon.outcome, soon.apply, soon.replay_from) == ("untrusted", False, -1)
    then = heard(failed.state, 9, 90.0, 10.0 + RETRY_S, can_replay=True)
    assert (then.outcome, then.replay_from) == ("gap", 4)


def test_a_replay_that_ends_before_what_was_heard_has_failed() -> None:
    gap = heard(joined(), 7, 70.0, 0.0, can_replay=True)
    step = replay_ended(replayed(gap.state, 5, 50.0).state, 3.0)
    assert (step.outcome, step.distrust, step.state.is_trusted) == ("failed", True, False)


@pytest.mark.parametrize("can_replay", [True, False])
def test_an_idle_engine_that_has_told_nothing_yet_is_trusted(can_replay: bool) -> None:
    step = replay_ended(started(can_replay=can_replay).state, 0.0)
    assert step.state.is_trusted
    assert heard(step.state, 0, 1.0, 0.0, can_replay=can_replay).outcome == "applied"


@dataclass
class World:
    """An engine whose batch N adds block N and lets block N-3 go, and a consumer that hears some of it."""

    kept: int
    can_replay: bool
    published: list[tuple[float, int]] = field(default_factory=list)
    held: set[int] = field(default_factory=set)
    state: Sequence = field(default_factory=Sequence)
    is_trusted: bool = True
    clock: float = 0.0
    process: int = 0
    told_by: int = 0
    is_mistaken: bool = False
    began_late: bool = False

    def truth(self) -> set[int]:
        return {self._block(n) for n in range(max(0, len(self.published) - 3), len(self.published))}

    def _block(self, number: int) -> int:
        return self.process * 10_000 + number

    def publish(self) -> None:
        self.clock += 1.0
        self.published.append((self.clock, len(self.published)))

    def restart(self) -> None:
        self.process += 1
        self.published = []

    def hear(self) -> None:
        at, number = self.published[-1]
        self.take(heard(self.state, number, at, self.clock, can_replay=self.can_replay), number)

    def take(self, step: Step, number: int) -> None:
        self.state = step.state
        if step.drop:
            self.held.clear()
        if step.drop or step.distrust:
            self.is_trusted = False
        self.began_late |= step.outcome == "late" or (step.outcome == "restarted" and number > 0)
        if step.apply:
            self.is_mistaken |= self.told_by != self.process and not step.drop and bool(self.held)
            self.told_by = self.process
            self.held.add(self._block(number))
            self.held.discard(self._block(number - 3))
        self.is_trusted |= step.trust
        if step.replay_from >= 0:
            self.replay(step.replay_from)

    def replay(self, start: int) -> None:
        for at, number in self.published[-self.kept :]:
            if number < start:
                continue
            step = replayed(self.state, number, at)
            self.take(step, number)
            if step.replay_from >= 0:
                return
        step = replay_ended(self.state, self.clock)
        self.take(step, -1)


@given(
    st.lists(st.sampled_from(["heard", "heard", "heard", "lost", "repeated", "restart"]), max_size=60),
    st.integers(1, 20),
    st.booleans(),
)
def test_what_is_trusted_is_never_more_than_the_engine_holds(
    story: list[str], kept: int, can_replay: bool
) -> None:
    world = World(kept, can_replay)
    for happening in story:
        if happening == "restart":
            world.restart()
            continue
        if happening != "repeated" or not world.published:
            world.publish()
        if happening == "lost":
            continue
        world.hear()
        if (
            world.is_mistaken
        ):  # another process told exactly the next number: nothing in the format tells them apart
            return
        if world.is_trusted and (can_replay or not world.began_late):
            assert world.held <= world.truth()
        if can_replay and kept == 20 and world.is_trusted and len(world.published) <= 20:
            assert world.held == world.truth()
