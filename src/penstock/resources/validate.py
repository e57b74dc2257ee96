"""Does an object keep the rules of its kind?"""

from __future__ import annotations

from penstock.kit.errors import Cause
from penstock.resources.meta import Resource


def validate(obj: Resource, old: Resource | None = None) -> tuple[Cause, ...]:
    """Every broken rule; none if the object may be stored."""
    return ()
