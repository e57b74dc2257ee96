"""The rate limits of keys and tenants on the request path: reserve before a call runs, settle when it has ended.

Buckets live in this worker. `quota_peers.py` tells the other workers of this machine what was taken from them, `quota_redis.py`
keeps them for several gateways; docs/explanation/rate-limits.md says what each of them promises.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from penstock.contracts.exchange import KeyRoute, RateLimit, RouteTable, TenantRoute
from penstock.decide.access import matches_any
from penstock.decide.quota import (
    DEFAULT_COMPLETION_TOKENS,
    Bucket,
    Refusal,
    Reservation,
    prompt_tokens,
    reserve,
    reserved,
    settle,
    standing,
    used_tokens,
)
from penstock.gateway.call import Call
from penstock.gateway.wire.message import Headers
from penstock.kit.clock import Clock
from penstock.kit.errors import Exhausted, InvalidInput, PlatformError
from penstock.kit.hashing import stable_hash

Spent = Callable[[Bucket, int, int], None]
"""Told of requests and tokens that were taken from a bucket here; negative: given back."""
MAX_MATCHED = 65_536
"""Pairs of key and model whose buckets are remembered; more are looked up again."""
GENERATES = ("/completions", "/messages", "/responses", "/chat", "/generate")
"""Paths that end so make text, of a length that the caller need not say."""
NO_TEXT = (b"base64", b'"input_audio"', b'"images"')
"""Bodies with these carry pictures or sound, whose bytes say little about tokens."""

_LINES = b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"
_REQUESTS, _TOKENS = (_LINES % ((unit,) * 3) for unit in (b"requests", b"tokens"))


class Quota:
    """Exact within one worker. `waits` says that `reserve_async` has to be used. One writer: the event loop of this worker."""

    waits = False

    def __init__(self, clock: Clock) -> None:
        """No key is limited before a table says so."""
        self._clock = clock
        self._keys: tuple[KeyRoute, ...] = ()
        self._tenants: tuple[TenantRoute, ...] = ()
        self._limited: dict[str, tuple[Bucket, ...]] = {}
        self._matched: dict[tuple[str, str, str], tuple[Bucket, ...]] = {}
        self.buckets: dict[str, Bucket] = {}
        self.spent: Spent | None = None

    @property
    def faults(self) -> dict[str, int]:
        """What kept limits from being exact, by cause."""
        return {}

    def apply(self, table: RouteTable) -> None:
        """Limits as in `table` from now on. A limit that stays keeps its levels; a changed one starts full."""
        if table.keys == self._keys and table.tenants == self._tenants:
            return
        self._keys, self._tenants = table.keys, table.tenants
        now, old = self._clock.monotonic(), self.buckets
        tenants = {tenant.name: tenant.limits for tenant in table.tenants}
        self.buckets, self._limited = {}, {}
        self._matched.clear()
        for key in table.keys:
            owners = (
                (f"key/{key.id}", f"the key {key.namespace}/{key.name}", key.limits),
                (f"tenant/{key.tenant}", f"the tenant {key.tenant}", tenants.get(key.tenant, ())),
            )
            buckets: dict[str, Bucket] = {}
            for owner_id, owner, limits in owners:
                for limit in limits:
                    if limit.requests_per_minute > 0 or limit.tokens_per_minute > 0:
                        name = bucket_id(owner_id, limit)
                        kept = self.buckets.get(name) or old.get(name) or Bucket(name, owner, limit, now)
                        buckets[name] = self.buckets[name] = kept
            if buckets:
                self._limited[key.id] = tuple(buckets.values())

    def reserve(self, call: Call) -> None:
        """Take what the call is thought to need. Raises Exhausted, or InvalidInput where it can never be had."""
        self.take(call, self.buckets_of(call))

    def take(self, call: Call, buckets: tuple[Bucket, ...]) -> None:
        """`reserve`, where it is known which buckets the call falls under."""
        if not buckets:
            return
        prompt, tokens = estimate(call)
        now = self._clock.monotonic()
        refusal = reserve(buckets, prompt, tokens, now)
        if refusal is not None:
            if refusal.retry_after_s == inf and not is_text(call):
                refusal = reserve(buckets, 0, tokens, now)
            if refusal is not None:
                raise refused(refusal)
        call.reservation = Reservation(buckets, prompt, tokens)
        if self.spent is not None:
            for bucket in buckets:
                self.spent(bucket, 1, reserved(bucket, tokens))

    async def reserve_async(self, call: Call) -> None:
        """`reserve`, where buckets may lie outside of this process."""
        self.reserve(call)

    def settle(self, call: Call) -> None:
        """Exchange the estimate for what was used; once, however the call ended."""
        held = call.reservation
        if held is None:
            return
        call.reservation = None
        ended = outcome(call, held)
        if ended is not None:
            requests, used = ended
            settle(held, requests, used, call.last_byte_at or self._clock.monotonic())
            if self.spent is not None:
                for bucket in held.buckets:
                    self.spent(bucket, requests, used - reserved(bucket, held.tokens))

    def lines(self, call: Call) -> bytes:
        """OpenAI's `x-ratelimit-*` of the tightest limits that hold for this call, as they stand when it is answered: header lines, each
        with its end.
        """
        held = call.reservation
        buckets = held.buckets if held is not None else self.buckets_of(call)
        if not buckets:
            return b""
        requests, tokens = standing(buckets, call.first_byte_at or self._clock.monotonic())
        told = b""
        if requests is not None:
            told = _REQUESTS % (requests.limit, requests.remaining, duration(requests.reset_s))
        if tokens is not None:
            told += _TOKENS % (tokens.limit, tokens.remaining, duration(tokens.reset_s))
        return told

    def headers(self, call: Call) -> Headers:
        """The same, one by one."""
        return [
            (name, value)
            for name, _, value in (line.partition(b": ") for line in self.lines(call).splitlines())
        ]

    def buckets_of(self, call: Call) -> tuple[Bucket, ...]:
        """Those that this call falls under; none if its key has no limits, or no service is known yet."""
        key, service = call.key, call.service
        if key is None or service is None or key.id not in self._limited:
            return ()
        pair = (key.id, service.namespace, service.name)
        found = self._matched.get(pair)
        if found is None:
            name = f"{service.namespace}/{service.name}"
            found = tuple(b for b in self._limited[key.id] if matches_any((b.limit.model,), name))
            if len(self._matched) >= MAX_MATCHED:
                self._matched.clear()
            self._matched[pair] = found
        return found


def estimate(call: Call) -> tuple[int, int]:
    """Tokens of the prompt, and of the whole call."""
    prompt = prompt_tokens(len(call.request.body))
    if call.max_tokens > 0:
        return prompt, prompt + call.max_tokens
    return prompt, prompt + (DEFAULT_COMPLETION_TOKENS if call.target.path.endswith(GENERATES) else 0)


def outcome(call: Call, held: Reservation) -> tuple[int, int] | None:
    """Requests to take (-1: no engine answered, it is given back) and tokens that were used; None: what is held stays taken."""
    if not call.attempts or call.error == "no_endpoint_answered":
        return -1, 0
    used = used_tokens(held.prompt, call.prompt_tokens, call.completion_tokens)
    return None if used is None else (0, used)


def is_text(call: Call) -> bool:
    """Whether the body's size says how many tokens the prompt has."""
    request = call.request
    if call.target.protocol in ("v1", "v2") or b"json" not in request.head.header(b"content-type"):
        return False
    return not any(mark in request.body for mark in NO_TEXT)


def refused(refusal: Refusal) -> PlatformError:
    """What the caller is told."""
    if refusal.retry_after_s == inf:
        return InvalidInput(
            refusal.message,
            code="rate_limit_unreachable",
            hint="shorten the prompt, or ask for a higher limit: waiting does not help",
        )
    return Exhausted(
        refusal.message,
        code="rate_limit_exceeded",
        hint="send it again after the time in retry-after",
        retry_after_s=refusal.retry_after_s,
    )


def duration(seconds: float) -> bytes:
    """As OpenAI writes it: `120ms`, `7.66s`, `6m0s`, `1h0m0s`; rounded up."""
    ms = int(seconds * 1000 + 0.999999)
    if ms < 1000:
        return b"%dms" % ms
    if ms < 60_000:
        return b"%gs" % (ms / 1000)
    minutes, s = divmod(-(-ms // 1000), 60)
    return b"%dm%ds" % (minutes, s) if minutes < 60 else b"%dh%dm%ds" % (*divmod(minutes, 60), s)


def bucket_id(owner_id: str, limit: RateLimit) -> str:
    """The same for the same limit in every gateway."""
    return f"{owner_id}/{stable_hash(limit)}"
