"""When a condition came to be what it is: its time of transition moves only with its status, as Kubernetes has it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from penstock.kit.timestamps import rfc3339
from penstock.resources.meta import Condition


def dated(condition: Condition, before: Iterable[Condition], now: float) -> Condition:
    """The condition with its time; `before` are those that the object had, `now` is in Unix seconds.

    What others wrote without a time gets one.
    """
    known = next((one for one in before if one.type == condition.type), None)
    since = known.last_transition_time if known and known.status == condition.status else None
    return msgspec.structs.replace(condition, last_transition_time=since or rfc3339(now))


def replaced(conditions: Iterable[Condition], by: Condition) -> tuple[Condition, ...]:
    """The conditions with this one last, in the place of the one of its type."""
    return (*(one for one in conditions if one.type != by.type), by)
