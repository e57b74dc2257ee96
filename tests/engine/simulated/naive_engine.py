"""The simulated engine again, slow and plain: one step after the other, one block after the other."""

from penstock.engine.simulated.profile import EngineProfile
from penstock.engine.simulated.request import Request

NOBODY = None


class Sequence:
    def __init__(self, request: Request) -> None:
        self.request = request
        self.tokens = request.prompt_tokens  # to be computed before the next token comes
        self.computed = 0
        self.generated = 0
        self.known = 0
        self.blocks: list[list] = []  # each [hash or None, uses]

    @property
    def is_decoding(self) -> bool:
        return self.computed >= self.tokens


class NaiveEngine:
    """Answers per request: (cached tokens, first token's time, end) under the same assumptions."""

    def __init__(self, profile: EngineProfile) -> None:
        self.p = profile
        self.free: list[list] = [[None, 0] for _ in range(profile.kv_tokens // profile.block_tokens)]
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.adapters: list[str] = []
        self.answers: dict[Request, tuple[int, float, float]] = {}
        self.cached: dict[Request, int] = {}
        self.first: dict[Request, float] = {}
        self.preemptions = 0

    def run(self, arrivals: list[tuple[float, Request]]) -> None:
        now, coming = 0.0, sorted(arrivals, key=lambda a: a[0])
        coming = [(at + self.p.overhead_s, request) for at, request in coming]
        while coming or self.waiting or self.running:
            if not self.waiting and not self.running:
                now = max(now, coming[0][0])
            while coming and coming[0][0] <= now:
                self.waiting.append(Sequence(coming.pop(0)[1]))
            now = self.one_step(now)

    def names(self, s: Sequence) -> list[int]:
        return [*s.request.hashes, *s.request.answer_hashes]

    def find(self, number: int) -> list | None:
        held = (block for s in self.running for block in s.blocks)
        return next((b for b in (*held, *self.free) if b[0] == number), None)

    def one_step(self, now: float) -> float:
        p, left, preempted = self.p, self.p.max_batched_tokens, False
        decoding = [s for s in self.running if s.is_decoding]
        for s in decoding:
            if s not in self.running:
                continue
            context = s.request.prompt_tokens + s.generated  # the last one's KV is computed now
            if (context - 1) % p.block_tokens == 0:
                while s in self.running and not self.free:
                    self.preempt()
                    preempted = True
                if s in self.running:
                    s.blocks.append(self.take())
        decoding = [s for s in self.running if s.is_decoding]
        time = p.step_base_s + p.step_per_context_token_s * sum(
            s.request.prompt_tokens + s.generated for s in decoding
        )
        left -= len(decoding)
        skipped = []
        for s in [s for s in self.running if not s.is_decoding]:
            left, time = self.chunk(s, left, time)
        while self.waiting and left and not preempted and len(self.running) < p.max_sequences:
            s = self.waiting[0]
            adapter = s.request.adapter
            used = {r.request.adapter for r in self.running}
            full = len(self.adapters) >= p.adapter_slots and not set(self.adapters) - used
            if adapter and adapter not in self.adapters and full:
                skipped.append(self.waiting.pop(0))
                continue
            if not self.start(s):
                break
            self.waiting.pop(0)
            if adapter:
                if adapter not in self.adapters:
                    time += p.adapter_load_s
                    if len(self.adapters) >= p.adapter_slots:
                        self.adapters.remove(next(a for a in self.adapters if a not in used))
                else:
                    self.adapters.remove(adapter)
                self.adapters.append(adapter)
            left, time = self.chunk(s, left, time)
        self.waiting[:0] = skipped
        now += time
        for s in decoding:
            s.generated += 1
        for s in [s for s in self.running if s not in decoding and s.is_decoding]:
            self.first.setdefault(s.request, now)
            s.generated += 1
        for s in tuple(self.running):
            if s.is_decoding and s.generated >= s.request.output_tokens:
                self.running.remove(s)
                self.give_back(s, s.request.prompt_tokens + s.generated - 1)
                self.answers[s.request] = (self.cached[s.request], self.first[s.request], now)
        return now

    def chunk(self, s: Sequence, left: int, time: float) -> tuple[int, float]:
        tokens = min(left, s.tokens - s.computed)
        time += tokens / self.p.prefill_tokens_per_s
        time += self.p.attention_pair_s * sum(s.computed + i + 0.5 for i in range(tokens))
        s.computed += tokens
        return left - tokens, time

    def start(self, s: Sequence) -> bool:
        size, names = self.p.block_tokens, self.names(s)
        whole = s.tokens // size
        found = 0
        while found < min(whole, len(names)) and self.find(names[found]):
            found += 1
        hits = [self.find(n) for n in names[:found]]
        need = -(-s.tokens // size) - found
        if need > len(self.free) - sum(any(b is f for f in self.free) for b in hits):
            return False
        s.known, known = found, [self.find(n) for n in names[:whole]]
        for block in known:
            if block is not NOBODY:
                self.free = [f for f in self.free if f is not block]
        for number, block in zip(names[:whole], known, strict=False):
            block = block or self.take()
            block[0] = number
            block[1] += 1
            s.blocks.append(block)
        while len(s.blocks) * size < s.tokens:
            s.blocks.append(self.take(1))
        s.computed = min(found, (s.tokens - 1) // size) * size
        self.cached.setdefault(s.request, s.computed)
        self.running.append(s)
        return True

    def take(self, uses: int = 0) -> list:
        block = self.free.pop(0)
        block[0], block[1] = None, uses
        return block

    def preempt(self) -> None:
        s = self.running.pop()
        self.preemptions += 1
        if s.is_decoding:
            self.give_back(s, s.request.prompt_tokens + s.generated - 1)
        else:
            whole = s.computed // self.p.block_tokens
            whole = max(whole, s.known)
            for block in s.blocks[whole:]:
                if block[0] is not None and block[1] <= 1:
                    block[0] = None
                    block[1] = 0
                    self.free.insert(0, block)
                    continue
                self.one_less(block)
            del s.blocks[whole:]
            self.give_back(s, 0)
        s.tokens = s.request.prompt_tokens + s.generated
        s.computed, s.blocks = 0, []
        self.waiting.insert(0, s)

    def give_back(self, s: Sequence, tokens: int) -> None:
        names = self.names(s)[: tokens // self.p.block_tokens]
        for i, number in enumerate(names[: len(s.blocks)]):
            block = s.blocks[i]
            if block[0] is not None:
                continue
            same = self.find(number) or next((b for b in s.blocks if b[0] == number), None)
            if same is None:
                block[0], block[1] = number, 1
            else:  # equal blocks are kept once
                self.free = [f for f in self.free if f is not same]
                same[1] = max(same[1], 0) + 1
                s.blocks[i] = same
                block[1] = 0
                self.free.insert(0, block)
        for block in reversed(s.blocks):
            self.one_less(block)

    def one_less(self, block: list) -> None:
        block[1] -= 1
        if block[1] <= 0:
            self.free.append(block)
