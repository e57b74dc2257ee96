"""One simulated engine: continuous batching with chunked prefill, as a fluid that is solved exactly from event to event.

A step of the engine takes `step_base_s + step_per_sequence_s · n` for its n decoding sequences, each of which gets one token. While
prompts wait for their prefill, the step also carries as many of their tokens as the budget leaves (`max_batched_tokens - n`, first come
first served) and takes `1 / prefill_tokens_per_s` longer for each. Steps are not counted one by one: between two events (a request
enters, a prompt is done, an answer is done) all rates are constant, so all sequences advance together by `tokens`, and the next event
follows by division. A sequence holds KV memory for its prompt and its whole answer from when it starts; what does not fit waits inside
the engine, in order. So there is no preemption, and no reuse of prefixes. Counted step by step, a first token comes later by up to one
full step, because a prompt must wait for the step that is under way; averages of both agree within that (see the tests).
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from penstock.engine.simulated.profile import EngineProfile

NEVER = float("inf")
_ENTER, _PROMPT, _ANSWER = 0, 1, 2


class Request:
    """One request of a trace. `sent_at` is when a replica got it, `first_at` when its first token came; NEVER until then."""

    __slots__ = ("arrived_at", "first_at", "output_tokens", "prompt_tokens", "sent_at", "service")

    def __init__(self, arrived_at: float, prompt_tokens: int, output_tokens: int, service: int = 0) -> None:
        self.arrived_at = arrived_at
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.service = service
        self.sent_at = NEVER
        self.first_at = NEVER

    @property
    def tokens(self) -> int:
        """KV memory that it takes, in tokens."""
        return self.prompt_tokens + self.output_tokens


class Engine:
    """Call `step()` exactly at `next_at`, and `offer` no later than that; times never go back."""

    __slots__ = (
        "_at",
        "_budget",
        "_by_end",
        "_due",
        "_entering",
        "_kv_free",
        "_order",
        "_prefilled",
        "_profile",
        "_prompts",
        "_queue",
        "_tokens",
        "next_at",
    )

    def __init__(self, profile: EngineProfile, now: float) -> None:
        self._profile = profile
        self._at = now
        self._budget = profile.max_batched_tokens
        self._entering: deque[tuple[float, Request]] = deque()
        self._queue: deque[Request] = deque()
        self._prompts: deque[Request] = deque()
        self._prefilled = 0.0
        self._by_end: list[tuple[float, int, Request]] = []
        self._tokens = 0.0
        self._kv_free = profile.kv_tokens
        self._order = 0
        self._due = _ENTER
        self.next_at = NEVER

    def offer(self, request: Request, now: float) -> None:
        """Takes a request whose tokens fit into the KV memory."""
        self._advance(now)
        self._entering.append((now + self._profile.overhead_s, request))
        self._plan()

    def step(self) -> Request | None:
        """What is due happens; answers the request that ended with it, if one did."""
        self._advance(self.next_at)
        ended: Request | None = None
        if self._due == _PROMPT:
            ended = self._end_prefill()
        elif self._due == _ANSWER:
            _, _, ended = heappop(self._by_end)
            self._kv_free += ended.tokens
        else:
            self._queue.append(self._entering.popleft()[1])
        self._start_waiting()
        self._plan()
        return ended

    def generated_tokens(self, now: float) -> float:
        """Tokens of answers that are not yet complete."""
        self._advance(now)
        begun = sum(end - request.output_tokens for end, _, request in self._by_end)
        return len(self._by_end) * self._tokens - begun

    def _end_prefill(self) -> Request | None:
        request = self._prompts.popleft()
        self._prefilled = 0.0
        request.first_at = self._at
        if request.output_tokens <= 1:
            self._kv_free += request.tokens
            return request
        self._order += 1
        heappush(self._by_end, (self._tokens + request.output_tokens - 1, self._order, request))
        return None

    def _start_waiting(self) -> None:
        queue, limit = self._queue, self._profile.max_sequences
        while queue and queue[0].tokens <= self._kv_free and len(self._by_end) + len(self._prompts) < limit:
            request = queue.popleft()
            self._kv_free -= request.tokens
            self._prompts.append(request)

    def _rates(self) -> tuple[float, float]:
        """Steps a second, and prompt tokens a second."""
        profile, decoding = self._profile, len(self._by_end)
        step_s = profile.step_base_s + profile.step_per_sequence_s * decoding
        if not self._prompts:
            return 1.0 / step_s, 0.0
        chunk = max(1, self._budget - decoding)
        steps = 1.0 / (step_s + chunk / profile.prefill_tokens_per_s)
        return steps, steps * chunk

    def _advance(self, now: float) -> None:
        passed_s = now - self._at
        if passed_s > 0.0:
            if self._by_end or self._prompts:
                steps, prefill = self._rates()
                self._tokens += steps * passed_s
                self._prefilled += prefill * passed_s
            self._at = now

    def _plan(self) -> None:
        """Sets `next_at` and what happens then."""
        at, due = (self._entering[0][0], _ENTER) if self._entering else (NEVER, _ENTER)
        if self._by_end or self._prompts:
            steps, prefill = self._rates()
            if self._prompts:
                done = self._at + max(0.0, self._prompts[0].prompt_tokens - self._prefilled) / prefill
                if done < at:
                    at, due = done, _PROMPT
            if self._by_end:
                done = self._at + max(0.0, self._by_end[0][0] - self._tokens) / steps
                if done < at:
                    at, due = done, _ANSWER
        self.next_at, self._due = at, due
