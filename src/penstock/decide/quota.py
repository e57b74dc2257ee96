"""Within which rate may this caller ask now?

A `Bucket` is the state of one RateLimit of one owner (a key or a tenant): it holds at most one minute's worth of requests and of
tokens and is refilled continuously. A call takes one request and an estimate of its tokens from every bucket that it falls under,
or from none; when it has ended the estimate is exchanged for the true count. A level may so go below zero, and recovers by refill.

A caller's `max_tokens` is a ceiling that is rarely reached, so at most the whole bucket is reserved for a call; only a prompt that
alone is more than the bucket can hold is refused for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Literal, NamedTuple

from msgspec import Struct

from penstock.contracts.exchange import RateLimit

Unit = Literal["requests", "tokens"]
DEFAULT_COMPLETION_TOKENS = 512
"""Reserved for a completion where the caller allows no number."""
BYTES_PER_TOKEN = 4
MAX_TOLD_TOKENS = 1 << 32
"""An engine that tells of more for one call is not believed."""
_TOLERANCE = 1e-3
"""What rounding may lack after the exact wait; a level that it lets below zero has to be refilled all the same."""


class Bucket:
    """Levels of `limit` at the monotonic time `at`, in requests and tokens; a side without a limit holds infinitely many."""

    __slots__ = (
        "at",
        "id",
        "limit",
        "max_requests",
        "max_tokens",
        "owner",
        "requests",
        "requests_per_s",
        "tokens",
        "tokens_per_s",
    )

    def __init__(self, id: str, owner: str, limit: RateLimit, now: float) -> None:
        """Full. `id` is the same for the same limit in every gateway; `owner` is said in refusals: `the key prod/ci`."""
        self.id, self.owner, self.limit, self.at = id, owner, limit, now
        self.requests = self.max_requests = float(limit.requests_per_minute or inf)
        self.tokens = self.max_tokens = float(limit.tokens_per_minute or inf)
        self.requests_per_s = limit.requests_per_minute / 60
        self.tokens_per_s = limit.tokens_per_minute / 60


class Refusal(NamedTuple):
    """`needed` is what the bucket lacks, `retry_after_s` when it would have it if nobody else asked; inf: never."""

    bucket: Bucket
    unit: Unit
    needed: float
    retry_after_s: float

    @property
    def message(self) -> str:
        """For the caller: which limit, and what was asked of it."""
        limit = self.bucket.limit
        allowed = limit.requests_per_minute if self.unit == "requests" else limit.tokens_per_minute
        where = "" if limit.model == "*" else f" to {limit.model}"
        rate = f"{self.bucket.owner} may send {allowed} {self.unit} a minute{where}"
        if self.retry_after_s == inf:
            return f"{rate}, and this prompt alone has about {self.needed:.0f}"
        asked = f": this request counts as {self.needed:.0f}, and" if self.unit == "tokens" else ","
        return f"{rate}{asked} the limit is used up for {self.retry_after_s:.3f} s"


class Reservation(Struct, frozen=True, gc=False):
    """What a call holds until it is settled: `tokens` is the whole estimate, `prompt` the part of it that is sure.

    `is_shared` says that it was taken from buckets outside of this process.
    """

    buckets: tuple[Bucket, ...]
    prompt: int
    tokens: int
    is_shared: bool = False


class Standing(Struct, frozen=True, gc=False):
    """How one unit of the tightest limit stands: `reset_s` until its bucket would be full."""

    limit: int
    remaining: int
    reset_s: float


def prompt_tokens(body_bytes: int) -> int:
    """An estimate, rounded up; text has about four bytes to the token."""
    return -(-body_bytes // BYTES_PER_TOKEN)


def refill(bucket: Bucket, now: float) -> None:
    """Up to `now`; a time that has passed changes nothing."""
    elapsed_s = now - bucket.at
    if elapsed_s <= 0.0:
        return
    bucket.at = now
    requests = bucket.requests + elapsed_s * bucket.requests_per_s
    bucket.requests = requests if requests < bucket.max_requests else bucket.max_requests
    tokens = bucket.tokens + elapsed_s * bucket.tokens_per_s
    bucket.tokens = tokens if tokens < bucket.max_tokens else bucket.max_tokens


def reserve(buckets: Sequence[Bucket], prompt: int, tokens: int, now: float) -> Refusal | None:
    """Take one request and `tokens` from every bucket, or nothing; `prompt` is the part of `tokens` that is sure."""
    for bucket in buckets:
        refill(bucket, now)
        share = tokens if tokens < bucket.max_tokens else bucket.max_tokens
        if (
            bucket.requests < 1.0 - _TOLERANCE
            or bucket.tokens < share - _TOLERANCE
            or prompt > bucket.max_tokens
        ):
            return lasting(buckets, prompt, tokens, now)
    for bucket in buckets:
        bucket.requests -= 1.0
        bucket.tokens -= tokens if tokens < bucket.max_tokens else bucket.max_tokens
    return None


def lasting(buckets: Sequence[Bucket], prompt: int, tokens: int, now: float) -> Refusal:
    """Of the refusals by buckets that do not all have what is asked for, the one that lasts longest."""
    worst: Refusal | None = None
    for bucket in buckets:
        refill(bucket, now)
        share = reserved(bucket, tokens)
        for refusal in (
            Refusal(bucket, "requests", 1, _wait_s(1.0 - bucket.requests, bucket.requests_per_s)),
            Refusal(bucket, "tokens", share, _wait_s(share - bucket.tokens, bucket.tokens_per_s)),
            Refusal(bucket, "tokens", prompt, inf if prompt > bucket.max_tokens else 0.0),
        ):
            if worst is None or refusal.retry_after_s > worst.retry_after_s:
                worst = refusal
    assert worst is not None
    return worst


def reserved(bucket: Bucket, tokens: int) -> int:
    """What `reserve` takes from this bucket for an estimate of `tokens`: never more than it can hold."""
    return tokens if tokens < bucket.max_tokens else bucket.limit.tokens_per_minute


def debit(bucket: Bucket, requests: float, tokens: float, now: float) -> None:
    """Take what was used already, whatever is left; a negative number gives back, and never beyond full."""
    refill(bucket, now)
    level = bucket.requests - requests
    bucket.requests = level if level < bucket.max_requests else bucket.max_requests
    level = bucket.tokens - tokens
    bucket.tokens = level if level < bucket.max_tokens else bucket.max_tokens


def settle(held: Reservation, requests: float, used: int, now: float) -> None:
    """Exchange what is held for what was used: as `debit` of the difference, from every bucket."""
    for bucket in held.buckets:
        if bucket.at < now:
            refill(bucket, now)
        most = bucket.max_tokens
        level = bucket.tokens + (held.tokens if held.tokens < most else most) - used
        bucket.tokens = level if level < most else most
        if requests:
            level = bucket.requests - requests
            bucket.requests = level if level < bucket.max_requests else bucket.max_requests


def used_tokens(prompt: int, told_prompt: int, told_completion: int) -> int | None:
    """The tokens of a call as the engine told them (-1: it did not); None: it told nothing, what was reserved stays taken."""
    if told_prompt < 0 and told_completion < 0:
        return None
    used = (told_prompt if told_prompt >= 0 else prompt) + (told_completion if told_completion > 0 else 0)
    return used if used < MAX_TOLD_TOKENS else MAX_TOLD_TOKENS


def standing(buckets: Sequence[Bucket], now: float) -> tuple[Standing | None, Standing | None]:
    """Requests and tokens, each of the limit that has the least left; None where nothing limits them."""
    requests = tokens = buckets[0]
    for bucket in buckets:
        if bucket.at < now:
            refill(bucket, now)
        if bucket.requests < requests.requests:
            requests = bucket
        if bucket.tokens < tokens.tokens:
            tokens = bucket
    return (
        _standing(requests.max_requests, requests.requests, requests.requests_per_s),
        _standing(tokens.max_tokens, tokens.tokens, tokens.tokens_per_s),
    )


def _standing(capacity: float, level: float, per_s: float) -> Standing | None:
    if capacity == inf:
        return None
    return Standing(int(capacity), int(level + _TOLERANCE) if level > 0.0 else 0, (capacity - level) / per_s)


def _wait_s(lacking: float, per_s: float) -> float:
    return lacking / per_s if lacking > 0.0 else 0.0
