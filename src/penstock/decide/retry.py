"""Try again, try elsewhere, or give up?

Only while nothing of an answer has been passed on. A reused connection that ended without an answer was most likely closed by
the engine while idle: once more, on a fresh connection to the same endpoint.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Failure = Literal["not_sent", "no_answer_reused", "no_answer", "status_503", "cut_off"]
Action = Literal["again", "elsewhere", "give_up"]
MAX_ATTEMPTS = 4
SET_ASIDE_FIRST_S = 0.25
SET_ASIDE_MAX_S = 10.0


class Retry(NamedTuple):
    """What to do; `set_aside` says that the endpoint should be avoided for a while."""

    action: Action
    set_aside: bool
    reason: str


def retry(failure: Failure, attempt: int, *, others: bool) -> Retry:
    """`attempt` is 1 for the first; `others` says whether an endpoint is left that has not failed this request."""
    if failure == "cut_off":
        return Retry("give_up", True, "part of the answer has been passed on")
    if attempt >= MAX_ATTEMPTS:
        return Retry("give_up", failure in ("not_sent", "no_answer"), f"{attempt} attempts failed")
    if failure == "no_answer_reused":
        return Retry("again", False, "an idle connection was closed by the engine")
    if not others:
        return Retry("give_up", failure != "status_503", "no other endpoint is ready")
    return Retry(
        "elsewhere", failure != "status_503", f"{failure.replace('_', ' ')}, another endpoint is ready"
    )


def set_aside_s(failures: int) -> float:
    """How long an endpoint is avoided after so many failures in a row: 0.25 s, doubling to 10 s."""
    return min(SET_ASIDE_MAX_S, SET_ASIDE_FIRST_S * 2.0 ** min(failures - 1, 16)) if failures > 0 else 0.0
