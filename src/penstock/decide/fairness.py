"""Whose waiting request goes next?

Deficit round robin (Shreedhar and Varghese, 1995) between accounts, by the tokens that engines have to compute for them: in each round an
account may spend as many as its weight allows. One whose request costs more than that goes into debt, and sits out as many rounds as
it takes to pay; so the first of its requests need not wait for credit, and what a request costs does not bound the quantum. Within an
account, who came first goes first.

An account with requests is served once in each round that it is not in debt for, and one that comes anew joins the next round. So a request
that is the first of its account waits at most for what each other account may spend twice, and for one request of each beyond that: however
many others have waiting, and whatever theirs cost. Rounds in which all would sit out are skipped, so a choice costs the same whatever the
requests cost: a few steps for each account that has come or gone, and the logarithm of how many lengths of debt there are.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from heapq import heappop, heappush
from math import floor
from typing import Generic, TypeVar

QUANTUM_TOKENS = 2048.0
"""What an account of weight 1 may spend in a round: a short prompt, by the threshold of routing profiles."""
LEAST_TOKENS = 64.0
"""What a request costs that is cached whole: it takes a place in the engine's batch all the same."""

Request = TypeVar("Request", bound=Hashable)


class _Account(Generic[Request]):
    """`credit` is what it may spend in `round`, in which it was or will be served next; `topped` is the round that it had its share of last."""

    __slots__ = ("credit", "key", "requests", "round", "share", "topped")

    def __init__(self, key: str, share: float, round: int) -> None:
        self.key, self.share = key, share
        self.credit, self.round, self.topped = 0.0, round, round - 1
        self.requests: OrderedDict[Request, float] = OrderedDict()


class Turns(Generic[Request]):
    """Requests that wait, by account. What is owed is remembered as long as anybody waits: without a queue there is nothing to be fair about."""

    __slots__ = ("_accounts", "_count", "_quantum", "_round", "_rounds", "_upcoming")

    def __init__(self, quantum_tokens: float = QUANTUM_TOKENS) -> None:
        """Nobody waits."""
        self._quantum = quantum_tokens
        self._count = 0
        self._forget()

    def __len__(self) -> int:
        return self._count

    def join(self, request: Request, account: str, weight: float, tokens: float) -> None:
        """It waits from now on. `weight` (> 0) is its account's, `tokens` what it costs."""
        owner = self._accounts.get(account)
        if owner is None:
            owner = self._accounts[account] = _Account(account, weight * self._quantum, self._round + 1)
            self._schedule(owner)
        owner.share = weight * self._quantum
        owner.requests[request] = max(tokens, LEAST_TOKENS)
        self._count += 1

    def leave(self, request: Request, account: str) -> None:
        """It waits no longer, without having had its turn."""
        del self._accounts[account].requests[request]
        self._count -= 1
        if not self._count:
            self._forget()

    def first(self) -> Request | None:
        """Whose turn it is, until it is taken or leaves; None where nobody waits. Who joins meanwhile comes later."""
        owner = self._current()
        return next(iter(owner.requests)) if owner is not None else None

    def take(self) -> Request:
        """The first has its turn, and its account pays. Only where somebody waits."""
        owner = self._current()
        assert owner is not None, "somebody waits"
        request, tokens = owner.requests.popitem(last=False)
        owner.credit -= tokens
        self._count -= 1
        if not self._count:
            self._forget()
        elif owner.credit <= 0.0:
            self._rounds[self._round].popleft()
            owner.round = self._round + 1 + floor(-owner.credit / owner.share)
            self._schedule(owner)
        return request

    def _current(self) -> _Account[Request] | None:
        """The account whose turn it is. One without requests is forgotten when its turn comes: it owes nothing any more."""
        while self._upcoming:
            number = self._round = self._upcoming[0]
            members = self._rounds[number]
            while members:
                owner = members[0]
                if owner.requests:
                    if owner.topped < number:
                        owner.credit = min(owner.share, owner.credit + owner.share * (number - owner.topped))
                        owner.topped = number
                    return owner
                members.popleft()
                del self._accounts[owner.key]
            heappop(self._upcoming)
            del self._rounds[number]
        return None

    def _schedule(self, owner: _Account[Request]) -> None:
        members = self._rounds.get(owner.round)
        if members is None:
            members = self._rounds[owner.round] = deque()
            heappush(self._upcoming, owner.round)
        members.append(owner)

    def _forget(self) -> None:
        self._round = 0
        self._accounts: dict[str, _Account[Request]] = {}
        self._rounds: dict[int, deque[_Account[Request]]] = {}
        self._upcoming: list[int] = []
