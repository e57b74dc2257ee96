"""Who asks what, when: the interface, and clients that are many copies of few kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from penstock.testing.routing.ask import Ask


class Workload(Protocol):
    """Made anew for each run: it is played once. The same seed asks the same, whatever is answered when."""

    name: str

    def arrivals(self) -> Iterator[Ask]:
        """What comes whatever becomes of other requests, in order of time."""
        ...

    def after(self, ask: Ask, now: float) -> Ask | None:
        """What the client of this request asks next, now that it was answered, or failed; not before `now`."""
        ...
