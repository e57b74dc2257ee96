"""Is this tokenizer the one that the engine uses, and is it worth waiting for?

Three questions are asked of each answer, and the share of those that speak against the tokenizer fades: did the engine count as many
tokens (one more at the beginning, and no block is the same)? Was what it was sure to hold found cached? Was the prompt tokenized in a
small part of the time that the answer took to begin? Once too many say no, or it fails altogether, prompts are hashed as text for a while, twice as long each time.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

Question = Literal["disagrees", "hits_fail", "slow"]
"""By what a no means."""

KEPT = 0.95
"""Of earlier evidence, with each new one: the last 20 count."""
ENOUGH: dict[Question, float] = {"disagrees": 6.0, "hits_fail": 6.0, "slow": 15.0}
"""Less evidence than that is none. The first prompts of a busy service come all at once, and none of them was tokenized before: that the first 16 are
slow says nothing of those that come later."""
MOST: dict[Question, float] = {"disagrees": 0.2, "hits_fail": 0.9, "slow": 0.5}
"""Shares of no from which on it is given up. Hits also fail since caches are full; then text would fail as well."""
FIRST_REST_S = 60.0
LAST_REST_S = 3600.0

PATIENCE_S = 0.1
PATIENCE_BYTE_S = 2e-6
"""A prompt of 128 KB, some 30,000 tokens, may take 0.36 s: an engine takes a multiple of that to compute it."""

PART = 0.2
"""Of the time until an answer begins: more is slow."""
AT_ONCE_S = 0.01
"""Is slow for nobody."""


class Tally(Struct, frozen=True, gc=False):
    """Fading counts."""

    good: float = 0.0
    bad: float = 0.0


class Standing(Struct, frozen=True, gc=False):
    """What is known of one service's tokenizer. `reason` says why it is not used until `until` (monotonic seconds), "" where it is."""

    disagrees: Tally = Tally()
    hits_fail: Tally = Tally()
    slow: Tally = Tally()
    reason: str = ""
    until: float = 0.0
    rests: int = 0


NEW = Standing()


def judged(standing: Standing, question: Question, *, is_good: bool, now: float) -> Standing:
    """One more piece of evidence. Of a tokenizer that is not used there is none."""
    if standing.reason:
        return standing
    before: Tally = getattr(standing, question)
    tally = Tally(before.good * KEPT + is_good, before.bad * KEPT + (not is_good))
    total = tally.good + tally.bad
    if total >= ENOUGH[question] and tally.bad > MOST[question] * total:
        return given_up(standing, question, now)
    return replace(standing, **{question: tally})


def given_up(standing: Standing, reason: str, now: float) -> Standing:
    """It cannot be used, or shall not."""
    rest_s = min(FIRST_REST_S * 2.0**standing.rests, LAST_REST_S)
    return Standing(reason=reason, until=now + rest_s, rests=min(standing.rests + 1, 16))


def tried_again(standing: Standing) -> Standing:
    """It has rested: there is no evidence against it, but how often it was given up is not forgotten."""
    return Standing(rests=standing.rests)


def is_quick(took_s: float, whole_s: float) -> bool:
    """Whether `took_s` was little of the `whole_s` from the request to the beginning of its answer."""
    return took_s <= max(AT_ONCE_S, PART * whole_s)


def patience_s(size_bytes: int) -> float:
    """How long a prompt of that size may wait to be tokenized."""
    return PATIENCE_S + size_bytes * PATIENCE_BYTE_S
