"""A simulated engine: vLLM's scheduler with its paged KV cache, exact to the step, at the price of an event.

A step gives each decoding sequence one token and fills what is left of the token budget with prompts, in order of arrival; a prompt
that does not fit goes on in the next step. Between events (an arrival that can start, a prompt or an answer that is done, no room for
a block) steps are alike, so any number of them is one jump (`pace.py`). Prompts find cached blocks when they start; the last token of a
prompt is always computed. If a sequence needs a block and there is none, the one that started last loses its own and starts again later,
with what it has generated as part of its prompt.

Simpler than vLLM: a prompt takes its blocks when it starts, not chunk by chunk; equal blocks are kept once; what an answer fills can be
found after its end.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush

from penstock.engine.simulated.adapters import AdapterSlots
from penstock.engine.simulated.blocks import BlockPool
from penstock.engine.simulated.decoding import ENDLESS, Decoding
from penstock.engine.simulated.pace import Pace, prefill_s
from penstock.engine.simulated.profile import EngineProfile
from penstock.engine.simulated.request import NEVER, Happened, Removed, Request, Stored


class Engine:
    """Call `step()` exactly at `next_at`, and `offer` no later than that; times never go back.

    With `records`, what happens to blocks is told. `stride` bounds how many steps one `step()` takes (0: any number).
    """

    def __init__(self, profile: EngineProfile, now: float, *, records: bool = False, stride: int = 0) -> None:
        self.profile = profile
        self.stride = stride
        self.pool = BlockPool(profile.kv_tokens // profile.block_tokens, records=records)
        self.adapters = AdapterSlots(profile.adapter_slots)
        self.next_at = NEVER
        self.queried_tokens = self.hit_tokens = self.preemptions = 0
        self._block = profile.block_tokens
        self._at = now
        self._done = self._planned = 0
        self._pace = Pace()
        self._chunk = self._order = 0
        self._is_open = self._is_once = False
        self._partial: Request | None = None
        self._completing: list[Request] = []
        self._entering: list[tuple[float, int, Request]] = []
        self._waiting: deque[Request] = deque()
        self._running: dict[int, Request] = {}
        self._leaving: list[Request] = []
        self._decoding = Decoding(self.pool, profile.block_tokens)
        self._started: list[Request] = []
        self._ended: list[Request] = []
        self._told: list[Stored | Removed] = []

    @property
    def waiting(self) -> int:
        """Requests that have not begun, or have to begin again."""
        return len(self._waiting) + len(self._entering)

    @property
    def running(self) -> int:
        """Requests whose blocks are held for prefill or decode."""
        return len(self._running)

    @property
    def kv_use(self) -> float:
        """Share of the KV memory that requests hold, 0 to 1."""
        return self.pool.used / self.pool.blocks

    def generated(self, request: Request) -> int:
        """Tokens of its answer at the moment of the last `step()`."""
        if request.order >= 0 and request.start_step >= 0:
            return self._decoding.generated(request, self._done)
        return request.done_tokens

    def adapters_in_use(self) -> tuple[list[str], list[str]]:
        """Those of running and of waiting requests."""
        waiting = (*self._waiting, *(entry[2] for entry in self._entering))
        names = ({one.adapter for one in of if one.adapter} for of in (self._running.values(), waiting))
        running, queued = map(sorted, names)
        return running, queued

    def fits(self, prompt_tokens: int, output_tokens: int) -> bool:
        """Whether such a request can ever be answered."""
        tokens = prompt_tokens + output_tokens
        limit = self.profile.context_tokens or tokens
        return tokens <= limit and -(-tokens // self._block) <= self.pool.blocks

    def offer(self, request: Request, now: float) -> None:
        """Takes a request that `fits`, of at least one prompt and one output token."""
        request.sent_at = now
        profile = self.profile
        enters_at = now + profile.overhead_s + profile.transfer_token_s * request.remote_tokens
        self._order += 1
        heappush(self._entering, (enters_at, self._order, request))
        if not self._planned:
            self.next_at = min(self.next_at, max(now, enters_at))
        elif self._is_open:
            self._cut(enters_at)

    def cancel(self, request: Request, now: float) -> None:
        """It ends with the step that is under way, and is among its ended ones; nothing happens if it has ended already."""
        if request.is_cancelled or request.ended_at < NEVER:
            return
        request.is_cancelled = True
        self._leaving.append(request)
        if self._planned:
            self._cut(now)
        else:
            self.next_at = now

    def release(self, request: Request, now: float) -> None:
        """The blocks of an ended request that is kept are no longer needed."""
        self._free(request)
        if not self._planned and self._waiting:
            self.next_at = now

    def forget(self) -> None:
        """The prefix cache is emptied of all that is not in use."""
        self.pool.forget()

    def step(self) -> Happened:
        """What is due happens, and what comes next is planned."""
        self._started, self._ended, self._told = [], [], []
        self._at = self.next_at
        if self._planned:
            self._finish()
        if self._leaving:
            self._let_go()
        self._plan()
        return Happened(self._started, self._ended, self._told)

    def _cut(self, at: float) -> None:
        """The run of steps ends with the one that is under way at `at`."""
        steps = self._pace.steps_by(max(0.0, at - self._at))
        if steps < self._planned:
            self._planned = steps
            self.next_at = self._at + self._pace.passed_s(steps)

    def _finish(self) -> None:
        steps = self._planned
        self._done += steps
        if self._chunk and self._partial is not None:
            self._partial.prefilled += self._chunk * steps
        self._decoding.advance(steps, self._done)
        if self.pool.removed:
            self._tell_removed()
        for request in self._decoding.ended(self._done):
            self._end(request)
        for request in self._completing:
            self._complete_prompt(request)
        self._completing = []

    def _complete_prompt(self, request: Request) -> None:
        """Its next token is there; it decodes from now on."""
        if self.pool.records:
            self._tell_stored(request, request.known, len(request.held))
        if not request.done_tokens:
            request.first_at = self._at
            self._started.append(request)
        if not self._decoding.begin(request, self._done):
            self._end(request)

    def _end(self, request: Request) -> None:
        request.ended_at = self._at
        self._ended.append(request)
        self._leave(request)
        self._name(request)
        if not request.is_kept:
            self._free(request)

    def _leave(self, request: Request) -> None:
        del self._running[request.order]
        request.order = -1
        if request.adapter:
            self.adapters.leave(request.adapter)

    def _name(self, request: Request) -> None:
        """The whole blocks of its answer so far can be found from now on; the KV of its last token is not computed."""
        first = len(request.held)
        if not request.answer_hashes or first != request.target // self._block:
            return
        whole = (request.prompt_tokens + request.done_tokens - 1) // self._block
        names = [*request.hashes, *request.answer_hashes][first:whole]
        if names:
            self.pool.name(names)
            request.nameless -= len(names)
            request.held = [*request.held, *names]
            if self.pool.records:
                self._tell_stored(request, first, first + len(names))

    def _free(self, request: Request) -> None:
        self.pool.release(request.held, request.nameless)
        request.held, request.nameless = (), 0

    def _let_go(self) -> None:
        """Cancelled requests end."""
        for request in self._leaving:
            if request.ended_at < NEVER:
                continue
            if request.order >= 0:
                self._withdraw(request)
            elif request in self._waiting:
                self._waiting.remove(request)
            else:
                self._entering = [entry for entry in self._entering if entry[2] is not request]
                heapify(self._entering)
            request.ended_at = self._at
            self._ended.append(request)
        self._leaving = []

    def _withdraw(self, request: Request) -> None:
        """A running request gives back its blocks before its end; what was computed of it stays cached."""
        if request is self._partial:
            self._partial = None
            whole = max(request.known, request.prefilled // self._block)
            if self.pool.records:
                self._tell_stored(request, request.known, min(whole, len(request.held)))
            self.pool.drop(request.held[whole:])
            request.held = request.held[:whole]
        else:
            self._decoding.leave(request, self._done)
            self._name(request)
        self._leave(request)
        self._free(request)

    def _preempt(self) -> None:
        """The one that started last begins again, before all that wait."""
        victim = self._running[next(reversed(self._running))]
        self._withdraw(victim)
        victim.preemptions += 1
        self.preemptions += 1
        self._waiting.appendleft(victim)

    def _plan(self) -> None:
        """What the next steps carry, and how many of them are alike."""
        entering = self._entering
        while entering and entering[0][0] <= self._at:
            self._waiting.append(heappop(entering)[2])
        preempted = False
        while not self._decoding.cross_next(self._done):
            self._preempt()
            preempted = True
        decoding = self._decoding
        left = max(0, self.profile.max_batched_tokens - decoding.sequences)
        self._chunk, work_s = 0, 0.0
        self._is_once = preempted
        if self._partial is not None and left:
            partial = self._partial
            left, work_s = self._carry(partial, left)
        if not preempted and left and self._waiting:
            left, more_s = self._admit(left)
            work_s += more_s
        if self.pool.removed:
            self._tell_removed()
        if not decoding.sequences and not work_s and not self._completing and self._partial is None:
            self._planned = 0
            self.next_at = entering[0][0] if entering else NEVER
            return
        self._pace.set(self.profile, decoding.sequences, decoding.context, self._chunk, work_s)
        self._planned = self._alike(left)
        self.next_at = self._at + self._pace.passed_s(self._planned)

    def _admit(self, left: int) -> tuple[int, float]:
        """Starts those that wait, in order, while budget, slots and blocks last; answers the budget left and the work."""
        work_s, skipped, waiting = 0.0, [], self._waiting
        while waiting and left and len(self._running) < self.profile.max_sequences:
            request = waiting[0]
            if request.adapter and not self.adapters.has_room(request.adapter):
                skipped.append(waiting.popleft())
                continue
            if not self._start(request):
                break
            waiting.popleft()
            if request.adapter and self.adapters.take(request.adapter):
                self._is_once = True
                work_s += self.profile.adapter_load_s
            left, more_s = self._carry(request, left)
            work_s += more_s
        waiting.extendleft(reversed(skipped))
        return left, work_s

    def _start(self, request: Request) -> bool:
        """Takes blocks for its whole prompt, if there are so many."""
        size, pool = self._block, self.pool
        target = request.prompt_tokens + request.done_tokens
        hashes = [*request.hashes, *request.answer_hashes] if request.done_tokens else request.hashes
        if len(hashes) > target // size:
            hashes = hashes[: target // size]
        known, idle = pool.match(hashes)
        total = -(-target // size)
        if total - known > pool.free - idle:
            return False
        pool.hold(hashes, known, idle)
        pool.grow(total - len(hashes))
        cached = min(known, (target - 1) // size) * size
        request.held, request.nameless, request.known = hashes, total - len(hashes), known
        request.target, request.prefilled, request.start_step = target, cached, -1
        if request.started_at == NEVER:
            request.started_at = self._at
            request.cached_tokens = cached
            self.queried_tokens += target
            self.hit_tokens += cached
            request.prefilled = max(request.prefilled, min(request.remote_tokens, target - 1))
        self._order += 1
        request.order = self._order
        self._running[request.order] = request
        return True

    def _carry(self, request: Request, left: int) -> tuple[int, float]:
        """As much of its prompt as the next step can carry; answers the budget left and the work."""
        tokens = min(left, request.target - request.prefilled)
        work_s = prefill_s(self.profile, request.prefilled, tokens)
        if request.prefilled + tokens == request.target:
            request.prefilled = request.target
            self._completing.append(request)
            self._partial = None
        else:
            self._partial, self._chunk = request, tokens
        return left - tokens, work_s

    def _alike(self, left: int) -> int:
        """How many steps from now on are alike."""
        if self._completing or self._is_once:
            steps = 1
        elif self._chunk and self._partial is not None:
            steps = (self._partial.target - self._partial.prefilled - 1) // self._chunk
        else:
            steps = self.stride or ENDLESS
        if self.stride:
            steps = min(steps, self.stride)
        decoding = self._decoding
        if steps > 1:
            steps = decoding.steps_with_room(self._done, min(steps, decoding.steps_to_end(self._done)))
        self._is_open = left > 0 and (not self._waiting or self.adapters.slots > 0)
        if self._is_open and self._entering:
            steps = min(steps, self._pace.steps_by(self._entering[0][0] - self._at))
        return steps

    def _tell_stored(self, request: Request, first: int, end: int) -> None:
        if self.pool.removed:
            self._tell_removed()
        if end > first:
            self._told.append(Stored(request, first, end))

    def _tell_removed(self) -> None:
        self._told.append(Removed(tuple(self.pool.removed)))
        self.pool.removed = []
