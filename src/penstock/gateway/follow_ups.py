"""What answers have added to prompts: the next turn of a conversation begins with the prompt before and its answer, and both are held where it was given.

Engines that tell of their caches tell of answers too. Of any other only prompts are known; so it is kept in mind which prompts were answered
where, and with how many tokens, by the last block of the prompt. No session has to be named for that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

MOST_ANSWERS = 16_384
"""About 3 MB; of more, those go that were given longest ago."""


class FollowUps:
    """One for a service. Of several answers to one prompt the last one counts."""

    __slots__ = ("_answers",)

    def __init__(self) -> None:
        self._answers: OrderedDict[int, tuple[str, int]] = OrderedDict()

    def answered(self, endpoint: str, hashes: Sequence[int], tokens: int) -> None:
        """`endpoint` has answered a prompt of these blocks with so many tokens."""
        if not hashes or tokens <= 0:
            return
        self._answers[hashes[-1]] = endpoint, tokens
        self._answers.move_to_end(hashes[-1])
        if len(self._answers) > MOST_ANSWERS:
            self._answers.popitem(last=False)

    def after(self, hashes: Sequence[int], matched: Mapping[str, int]) -> tuple[str, int] | None:
        """Who should hold how many tokens more of a prompt than the blocks `matched` there: one that holds as much as any."""
        if not matched or not self._answers:
            return None
        most = max(matched.values())
        found = self._answers.get(hashes[most - 1])
        return found if found is not None and matched.get(found[0]) == most else None

    def clear(self) -> None:
        """Prompts are cut into blocks of another size now."""
        self._answers.clear()

    def __len__(self) -> int:
        """How many answers are kept in mind."""
        return len(self._answers)
