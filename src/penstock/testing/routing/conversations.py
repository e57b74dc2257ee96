"""Conversations: each prompt is all that was said before, and something new; the answer comes back with the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from penstock.testing.routing.ask import Ask, chained


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """`users` talk at once, each `turns` turns and then again as somebody new, until `requests` were asked.

    All begin with the same `system_tokens`; a turn adds `turn_tokens` and an answer of `output_tokens`, both uniform in half to one and a
    half of that, after a pause of `think_s` on average (exponential). Lengths are rounded to whole blocks. The first `warming` requests warm up.
    """

    users: int
    turns: int
    requests: int
    system_tokens: int
    turn_tokens: int
    output_tokens: int
    think_s: float
    block_tokens: int
    warming: int = 0


class Conversations:
    """See the module."""

    def __init__(self, name: str, talk: Talk, seed: int) -> None:
        self.name = name
        self._talk = talk
        self._chance = Random(f"conversations {seed}")  # noqa: S311  reproducible, not secret
        self._ids = count(1)
        self._sessions = count()
        self._asked = 0
        self._system = [next(self._ids) for _ in range(talk.system_tokens // talk.block_tokens)]
        self._system_hashes = chained(self._system, talk.block_tokens)

    def arrivals(self) -> Iterator[Ask]:
        """The first turns, within one pause of all users."""
        chance, talk = self._chance, self._talk
        for at in sorted(chance.random() * talk.think_s for _ in range(talk.users)):
            self._asked += 1
            yield self._first(at)

    def after(self, ask: Ask, now: float) -> Ask | None:
        """The next turn, or the first of another conversation."""
        talk = self._talk
        if self._asked >= talk.requests:
            return None
        self._asked += 1
        at = now + self._chance.expovariate(1.0 / talk.think_s)
        if ask.turn + 1 >= talk.turns:
            return self._first(at)
        return self._turn(at, [*ask.ids], [*ask.hashes, *ask.answer_hashes], ask.session, ask.turn + 1)

    def _first(self, at: float) -> Ask:
        return self._turn(at, self._system, self._system_hashes, f"session-{next(self._sessions)}", 0)

    def _turn(self, at: float, ids: list[int], hashes: list[int], session: str, turn: int) -> Ask:
        talk = self._talk
        size = talk.block_tokens
        said, answer = self._blocks(talk.turn_tokens), self._blocks(talk.output_tokens)
        new = [next(self._ids) for _ in range(said + answer)]
        more = chained(new, size, hashes[-1]) if hashes else chained(new, size)
        prompt = [*hashes, *more[:said]]
        return Ask(
            at,
            len(prompt) * size,
            answer * size,
            [*ids, *new],
            prompt,
            more[said:],
            session=session,
            tenant=session,
            turn=turn,
            warms=self._asked <= talk.warming,
        )

    def _blocks(self, tokens: int) -> int:
        return max(1, round(tokens * (0.5 + self._chance.random()) / self._talk.block_tokens))
