"""Buckets in Redis, so that all gateways together keep to a limit exactly.

The buckets of this process are an image of those in Redis, as of the last answer. While Redis is away they are what calls are judged
by: a gateway then keeps to the limits by itself, says so once in the log, and counts each call that was judged so.
"""

from __future__ import annotations

import asyncio
from math import inf

from penstock.decide.quota import Bucket, Reservation, debit, lasting, refill, reserved
from penstock.gateway.call import Call
from penstock.gateway.quota import Quota, estimate, is_text, outcome, refused
from penstock.gateway.redis_client import Answer, Command, RedisClient
from penstock.kit.clock import Clock

Changes = list[tuple[Bucket, int, int]]
"""Requests and tokens to take from each bucket."""
PREFIX = "{penstock:quota}:"
"""Of every key; the braces keep them in one slot, so that a script may touch several."""
SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local levels, enough = {}, true

local function level(value, per_minute, elapsed_min)
  return math.min(per_minute, (tonumber(value) or per_minute) + elapsed_min * per_minute)
end

for i, key in ipairs(KEYS) do
  local first = i * 4 - 2
  local want = {tonumber(ARGV[first]), tonumber(ARGV[first + 1])}
  local most = {tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3])}
  local held = redis.call('HMGET', key, 'requests', 'tokens', 'at')
  local elapsed_min = math.max(0, now - (tonumber(held[3]) or now)) / 60000
  levels[i] = {level(held[1], most[1], elapsed_min), level(held[2], most[2], elapsed_min), want, most}
  for unit = 1, 2 do
    if most[unit] > 0 and levels[i][unit] < want[unit] - 0.001 then enough = false end
  end
end

local answer = {enough and 1 or 0}
for i, key in ipairs(KEYS) do
  local row, full_min = levels[i], 0
  local want, most = row[3], row[4]
  for unit = 1, 2 do
    if most[unit] > 0 then
      if enough or ARGV[1] == 'debit' then row[unit] = math.min(most[unit], row[unit] - want[unit]) end
      full_min = math.max(full_min, (most[unit] - row[unit]) / most[unit])
    end
    answer[#answer + 1] = string.format('%.6f', row[unit])
  end
  if enough or ARGV[1] == 'debit' then
    redis.call('HSET', key, 'requests', string.format('%.17g', row[1]), 'tokens', string.format('%.17g', row[2]),
      'at', string.format('%.17g', now))
    redis.call('PEXPIRE', key, math.ceil(full_min * 60000) + 1000)
  end
end
return answer
"""
"""KEYS: buckets. ARGV: `reserve` (all or none) or `debit`, then for each bucket the requests and tokens to take, and its two limits
per minute (0: none). Answers 1 or 0, then the levels of each bucket. A bucket that is full again is forgotten."""


class RedisQuota(Quota):
    """`fallbacks` counts calls that were judged by this gateway alone."""

    waits = True

    def __init__(self, clock: Clock, redis: RedisClient) -> None:
        """`redis` is run by whoever made it."""
        super().__init__(clock)
        self._redis = redis
        self.fallbacks = 0

    @property
    def faults(self) -> dict[str, int]:
        """Calls that were judged by this gateway alone, and settlements that Redis did not get."""
        return {"judged_alone": self.fallbacks, "settlement_lost": self._redis.lost}

    async def reserve_async(self, call: Call) -> None:
        """As `reserve`, from the buckets that all gateways share; from this one's own while Redis is away."""
        buckets = self.buckets_of(call)
        if not buckets:
            return
        prompt, tokens = estimate(call)
        if not is_text(call):
            prompt = 0
        if any(prompt > bucket.max_tokens for bucket in buckets):
            raise refused(lasting(buckets, prompt, tokens, self._clock.monotonic()))
        answer = await self._take([(bucket, 1, reserved(bucket, tokens)) for bucket in buckets])
        if answer is None:
            self.fallbacks += 1
            self.reserve(call)
            return
        now = self._clock.monotonic()
        self._mirror(buckets, answer, now)
        if answer[0] != 1:
            raise refused(lasting(buckets, prompt, tokens, now))
        call.reservation = Reservation(buckets, prompt, tokens, is_shared=True)

    def settle(self, call: Call) -> None:
        """As for a single gateway; told to Redis without waiting for it."""
        held = call.reservation
        if held is None or not held.is_shared:
            super().settle(call)
            return
        call.reservation = None
        ended = outcome(call, held)
        if ended is not None:
            requests, used = ended
            now = self._clock.monotonic()
            changes = [(bucket, requests, used - reserved(bucket, held.tokens)) for bucket in held.buckets]
            for bucket, _, tokens in changes:
                debit(bucket, requests, tokens, now)
            self._redis.tell(_command("debit", changes))

    async def _take(self, changes: Changes) -> Answer | None:
        future = self._redis.ask(_command("reserve", changes))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(lambda done: self._give_back(changes, done.result()))
            raise

    def _give_back(self, changes: Changes, answer: Answer | None) -> None:
        """What nobody waits for any more."""
        if answer is not None and answer[0] == 1:
            self._redis.tell(_command("debit", [(bucket, -r, -t) for bucket, r, t in changes]))

    def _mirror(self, buckets: tuple[Bucket, ...], answer: Answer, now: float) -> None:
        for i, bucket in enumerate(buckets):
            refill(bucket, now)
            if bucket.max_requests != inf:
                bucket.requests = float(answer[1 + 2 * i])
            if bucket.max_tokens != inf:
                bucket.tokens = float(answer[2 + 2 * i])


def _command(mode: str, changes: Changes) -> Command:
    arguments: list[str | int] = [mode]
    for bucket, requests, tokens in changes:
        limit = bucket.limit
        arguments += (requests, tokens, limit.requests_per_minute, limit.tokens_per_minute)
    return Command(SCRIPT, tuple(PREFIX + bucket.id for bucket, _, _ in changes), tuple(arguments))
