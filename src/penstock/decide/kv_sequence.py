"""Does what an engine just told about its KV cache join on to what was known, or was something missed?

An engine numbers its batches of KV events from 0, once per process, dates them, and may keep the last ones for who asks again. A consumer
that applies them without a gap knows what the cache holds. One that missed some must ask again: a block whose removal was missed would draw
requests for ever. One that begins late holds nothing that is wrong, only less than there is, and learns the rest as it is stored anew.

Numbers and dates are the engine's word, and one that is wild must not silence it: what keeps coming under numbers that are taken for known
is another count. Of an engine that keeps nothing what follows a gap is taken all the same; only what was missed stays in doubt.
Source: vLLM, `vllm/distributed/kv_events.py`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

RETRY_S = 30.0
"""How long after a replay that failed the next is asked for."""

REPEATS_S = 5.0
"""Longer than what came during a replay, and was replayed as well, takes to be passed over."""

Outcome = Literal[
    "started",
    "applied",
    "repeated",
    "gap",
    "late",
    "restarted",
    "cleared",
    "untrusted",
    "replayed",
    "lost",
    "complete",
    "failed",
]
"""What it turned out to mean.

`started`: nothing is known yet. `applied`: the next in order. `repeated`: known already. `gap`: batches were missed. `late`: the first one
heard is not the engine's first. `restarted`: another process tells now. `cleared`: the cache is empty, so nothing that was missed matters.
`untrusted`: something before it is missing, which
cannot be had, or not yet. Of a replay: `replayed`: the next in order. `lost`: the engine no longer keeps
all that was missed. `complete`: it told all. `failed`: it told too little, took too long, or could not be had.
"""


class Sequence(Struct, frozen=True, kw_only=True, gc=False):
    """What is known of one engine's numbers. `last` was applied last and is dated `last_at`; -1 for none yet.

    A replay that is under way must reach `target`; none is asked for before `retry_at`. Times are in seconds, `last_at` by the engine's
    clock. While not `is_trusted`, removals may have been missed. `repeats_since`: since when batches come that are known already; -1: they
    do not.
    """

    last: int = -1
    last_at: float = 0.0
    target: int = -1
    is_trusted: bool = True
    retry_at: float = 0.0
    repeats_since: float = -1.0


class Step(NamedTuple):
    """What to do, in this order: drop all that the endpoint held; trust it no more; trust it; apply the batch; ask for a replay.

    `replay_from` is -1 where none is to be asked for. Its first batch is one that is known already: by its date it shows that the same
    process still tells.
    """

    state: Sequence
    outcome: Outcome
    drop: bool = False
    distrust: bool = False
    trust: bool = False
    apply: bool = False
    replay_from: int = -1


def started(*, can_replay: bool) -> Step:
    """What to begin with. An idle engine tells nothing for long, so one that `can_replay` is asked."""
    return Step(Sequence(), "started", drop=True, replay_from=0 if can_replay else -1)


def heard(
    state: Sequence, number: int, at: float, now: float, *, can_replay: bool, clears: bool = False
) -> Step:
    """What the batch `number`, dated `at` by its engine, means; `clears`: it says that all blocks are gone.

    Not to be asked while a replay is under way: what comes meanwhile waits.
    """
    if number <= state.last and at <= state.last_at:
        return _repeated(state, number, at, now, can_replay=can_replay)
    if number <= state.last:
        return _restarted(number, at, can_replay=can_replay)
    if number == state.last + 1 and (state.is_trusted or can_replay):
        return Step(_joined(number, at), "applied", apply=True, trust=True)
    if clears:
        return Step(_joined(number, at), "cleared", drop=True, apply=True, trust=True)
    return _missed(state, number, at, now, can_replay=can_replay)


def replayed(state: Sequence, number: int, at: float) -> Step:
    """What a batch of a replay means."""
    if number == state.last and at != state.last_at:
        return Step(Sequence(target=state.target), "restarted", drop=True, replay_from=0)
    if number <= state.last:
        return Step(state, "repeated")
    if number == state.last + 1:
        return Step(_replayed(state, number, at), "replayed", apply=True)
    return Step(_replayed(state, number, at), "lost", drop=True, apply=True)


def replay_ended(state: Sequence, now: float) -> Step:
    """What it means that the engine told all that it keeps."""
    if state.last < state.target:
        return replay_failed(state, now)
    return Step(_joined(state.last, state.last_at), "complete", trust=True)


def replay_failed(state: Sequence, now: float) -> Step:
    """What it means that a replay took too long, was too much, or could not be understood."""
    untrusted = replace(state, is_trusted=False, target=-1, retry_at=now + RETRY_S)
    return Step(untrusted, "failed", distrust=state.is_trusted)


def _repeated(state: Sequence, number: int, at: float, now: float, *, can_replay: bool) -> Step:
    if state.repeats_since < 0:
        return Step(replace(state, repeats_since=now), "repeated")
    if now - state.repeats_since < REPEATS_S:
        return Step(state, "repeated")
    return _restarted(number, at, can_replay=can_replay)


def _restarted(number: int, at: float, *, can_replay: bool) -> Step:
    if number == 0 or not can_replay:
        return Step(_joined(number, at), "restarted", drop=True, apply=True, trust=True)
    return Step(Sequence(target=number), "restarted", drop=True, replay_from=0)


def _missed(state: Sequence, number: int, at: float, now: float, *, can_replay: bool) -> Step:
    outcome: Outcome = "gap" if state.last >= 0 else "late"
    if can_replay and now >= state.retry_at:
        return Step(replace(state, target=number), outcome, replay_from=max(state.last, 0))
    if state.last < 0 and not can_replay:
        return Step(_joined(number, at), "late", apply=True, trust=True)
    if not can_replay:
        missed = Sequence(last=number, last_at=at, is_trusted=False)
        return Step(
            missed, outcome if state.is_trusted else "untrusted", distrust=state.is_trusted, apply=True
        )
    if not state.is_trusted:
        return Step(state, "untrusted")
    return Step(replace(state, is_trusted=False), outcome, distrust=True)


def _joined(number: int, at: float) -> Sequence:
    return Sequence(last=number, last_at=at)


def _replayed(state: Sequence, number: int, at: float) -> Sequence:
    """Trusted again only when the replay has ended: until then there is more that was missed."""
    return replace(state, last=number, last_at=at)
