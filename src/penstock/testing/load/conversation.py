"""What a load is made of: conversations of one or several turns. A single request is a conversation of one turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from penstock.testing.load.text import Piece


class Turn(NamedTuple):
    """What the user says, how long the answer shall be, and what time passes before it is said, once the last answer is there."""

    pieces: tuple[Piece, ...]
    output_tokens: int
    think_s: float = 0.0


class Conversation(NamedTuple):
    """Every turn is sent with all that was said before it, answers as they came. `system` comes first; () for none.

    `at_s` is when it begins, counted from the load's beginning, where the workload says so itself: None where it does not.
    """

    turns: tuple[Turn, ...]
    system: tuple[Piece, ...] = ()
    at_s: float | None = None


class Workload(Protocol):
    """Something to send."""

    @property
    def name(self) -> str:
        """As results name it."""
        ...

    @property
    def timed(self) -> bool:
        """Whether its conversations say when they begin."""
        ...

    def conversations(self, seed: int) -> Iterator[Conversation]:
        """The same ones for the same seed; without end, unless the workload has one."""
        ...
