"""The sequences that decode: when each needs its next block, when each ends, and how much context they read together."""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace

from penstock.engine.simulated.blocks import BlockPool
from penstock.engine.simulated.request import Request

ENDLESS = 1 << 62


class Decoding:
    """Steps are numbered; `done` is the last one that is over. Entries of requests that left are passed over when their step comes."""

    __slots__ = ("_block", "_crossings", "_ends", "_pool", "context", "sequences")

    def __init__(self, pool: BlockPool, block_tokens: int) -> None:
        self.sequences = self.context = 0
        self._pool = pool
        self._block = block_tokens
        self._ends: list[tuple[int, int, Request]] = []
        self._crossings: list[tuple[int, int, Request]] = []

    def begin(self, request: Request, done: int) -> bool:
        """Its prompt is computed and one token came with step `done`; answers whether it has more to come."""
        request.start_step = done
        request.end_step = done + request.output_tokens - request.done_tokens - 1
        if request.end_step <= done:
            request.done_tokens += 1
            return False
        self.sequences += 1
        self.context += request.target + 1
        heappush(self._ends, (request.end_step, request.order, request))
        crossing = done + 1 + -request.target % self._block
        if crossing <= request.end_step:
            heappush(self._crossings, (crossing, request.order, request))
        return True

    def leave(self, request: Request, done: int) -> None:
        """It decodes no more."""
        tokens = self.generated(request, done)
        self.sequences -= 1
        self.context -= request.prompt_tokens + tokens
        request.done_tokens = tokens

    def generated(self, request: Request, done: int) -> int:
        """Tokens of its answer."""
        return request.done_tokens + 1 + done - request.start_step

    def advance(self, steps: int, done: int) -> None:
        """So many steps are over, the last of them `done`; there were blocks for all."""
        self.context += self.sequences * steps
        crossings, taken = self._crossings, 0
        while crossings and crossings[0][0] <= done:
            taken += self._cross()
        if taken:
            self._pool.grow(taken)

    def ended(self, done: int) -> list[Request]:
        """Those that have their last token, in order."""
        found, ends = [], self._ends
        while ends and ends[0][0] <= done:
            _, order, request = heappop(ends)
            if request.order == order:
                self.leave(request, done)
                found.append(request)
        return found

    def cross_next(self, done: int) -> bool:
        """Gives blocks to those that need one for the step after `done`, as long as there are any; answers whether there were."""
        crossings = self._crossings
        while crossings and crossings[0][0] <= done + 1:
            _, order, request = crossings[0]
            if request.order == order and not self._pool.free:
                return False
            if self._cross():
                self._pool.grow()
        return True

    def steps_to_end(self, done: int) -> int:
        """How many steps there are until somebody may end."""
        return self._ends[0][0] - done if self._ends else ENDLESS

    def steps_with_room(self, done: int, steps: int) -> int:
        """For how many of so many steps there are blocks, whatever else happens."""
        before = self._crossings[0][0] - done - 1 if self._crossings else steps
        if before >= steps:
            return steps
        free = self._pool.free // self.sequences * self._block + 1 if self.sequences else 1
        return min(steps, max(free, before))

    def _cross(self) -> bool:
        """The next that needs a block is to have it, unless it left."""
        step, order, request = self._crossings[0]
        if request.order != order:
            heappop(self._crossings)
            return False
        request.nameless += 1
        if step + self._block <= request.end_step:
            heapreplace(self._crossings, (step + self._block, order, request))
        else:
            heappop(self._crossings)
        return True
