"""Which tokens of an API key hold?

A key has one token, and while it is being rotated the older ones beside it until their time is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from penstock.kit.errors import InvalidInput
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.access import ApiKey, ApiKeySpec, ApiKeyStatus, IssuedToken

Phase = Literal["Pending", "Active", "Expired", "Revoked"]
MAX_TOKENS = 4
"""Tokens of one key that hold at the same time."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a key stands, why in words, and when that changes by itself (Unix seconds, None: never)."""

    phase: Phase
    message: str
    changes_at: float | None = None


def holding(spec: ApiKeySpec, status: ApiKeyStatus, now: float) -> tuple[tuple[IssuedToken, float], ...]:
    """The tokens that hold at `now` if the key is not revoked, each with its end in Unix seconds (0: none)."""
    key_ends = _ends(spec.expires_at)
    found = []
    for token in status.hashes:
        ends = [end for end in (key_ends, _ends(token.expires_at)) if end]
        if not ends or min(ends) > now:
            found.append((token, min(ends, default=0.0)))
    return tuple(found)


def issued(status: ApiKeyStatus, id: str, hash: str, now: float, overlap_s: int) -> ApiKeyStatus | None:
    """The status with a new token; older ones hold for `overlap_s` more seconds at most. None: too many would hold.

    `id` is taken for a key that has none yet. Times are whole seconds: an overlap of 0 ends older tokens at once.
    """
    older = []
    for token in status.hashes:
        end = _ends(token.expires_at)
        left = min(end, now + overlap_s) if end else now + overlap_s
        if overlap_s and left > now:
            older.append(msgspec.structs.replace(token, expires_at=rfc3339(left)))
    if len(older) >= MAX_TOKENS:
        return None
    fresh = IssuedToken(hash=hash, created_at=rfc3339(now))
    return msgspec.structs.replace(status, id=status.id or id, hashes=(fresh, *older))


def standing(key: ApiKey, *, tenant_exists: bool, now: float) -> Standing:
    """What a person is told of a key."""
    if key.spec.disabled:
        return Standing("Revoked", "spec.disabled is true")
    key_ends = _ends(key.spec.expires_at)
    if key_ends and key_ends <= now:
        return Standing("Expired", f"it expired at {key.spec.expires_at}")
    tokens = holding(key.spec, key.status, now)
    if not tokens:
        return Standing("Pending", "no token was issued: `penstock keys rotate` issues one", key_ends or None)
    if not tenant_exists:
        return Standing("Pending", f"the Tenant {key.spec.tenant!r} does not exist", key_ends or None)
    ends = [end for _, end in tokens if end]
    plural = f"{len(tokens)} tokens hold" if len(tokens) > 1 else "its token holds"
    return Standing("Active", plural, min(ends, default=None))


def _ends(text: str | None) -> float:
    """Unix seconds, 0 where there is no end. What is no time ends at once: a key that is unclear is no key."""
    if not text:
        return 0.0
    try:
        return parse_rfc3339(text)
    except InvalidInput:
        return 1.0
