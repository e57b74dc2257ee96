"""How urgent is this request, and on whose account does it wait?

Its key has a priority. The request may ask for another: by `x-penstock-priority`, a number or `batch`, or by the name of an
InferenceObjective of its service in `x-llm-d-inference-objective`; the first of the two holds. It may always step back, but get no further
forward than the key's `max_priority`. What is a batch comes after everything that is none. Who has no key has priority 0 and may only step
back.

It waits on the account of its key's tenant, or of its key where that has none; a key that speaks for several callers (`fairness_ids`) names the
account in `x-llm-d-inference-fairness-id`. Each such account weighs as much as its tenant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from penstock.contracts.exchange import KeyRoute, ServiceRoute

PRIORITY = b"x-penstock-priority"
OBJECTIVE = b"x-llm-d-inference-objective"
FAIRNESS_ID = b"x-llm-d-inference-fairness-id"
HEADERS = (PRIORITY, OBJECTIVE, FAIRNESS_ID)
BATCH = "batch"
LEAST, MOST = -(1 << 31), (1 << 31) - 1
MAX_ID = 128
"""Characters of a fairness id that count."""


class Rank(NamedTuple):
    """Higher priorities go first; `account` and its `weight` are for those who share one."""

    priority: int
    account: str
    weight: float = 1.0

    @property
    def band(self) -> str:
        """The priority, as metrics have it."""
        return BATCH if self.priority == LEAST else str(self.priority)


def rank_of(
    key: KeyRoute | None,
    service: ServiceRoute,
    weights: Mapping[str, float],
    headers: Mapping[bytes, bytes],
    *,
    is_batch: bool = False,
) -> Rank:
    """`weights` are those of tenants by name, where they are not 1; `headers` have names in lower case."""
    own, most = (key.priority, max(key.priority, key.max_priority)) if key is not None else (0, 0)
    if is_batch or asks_for_batch(headers):
        priority = LEAST
    else:
        wanted = _number(headers.get(PRIORITY, b"").strip().decode("latin-1"))
        if wanted is None:
            wanted = dict(service.objectives).get(headers.get(OBJECTIVE, b"").decode("latin-1"))
        priority = own if wanted is None else min(wanted, most)
        priority = max(LEAST + 1, min(priority, MOST))
    if key is None:
        return Rank(priority, "")
    account = f"tenant {key.tenant}" if key.tenant else f"key {key.id}"
    fairness_id = headers.get(FAIRNESS_ID, b"").decode("latin-1")[:MAX_ID] if key.fairness_ids else ""
    return Rank(priority, f"{account} {fairness_id}", weights.get(key.tenant, 1.0) if key.tenant else 1.0)


def asks_for_batch(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request says that it is one of a batch; `headers` have names in lower case."""
    return headers.get(PRIORITY, b"").strip().lower() == BATCH.encode()


def _number(text: str) -> int | None:
    """None where it is no number of at most ten digits."""
    digits = text[1:] if text[:1] in ("-", "+") else text
    return int(text) if digits.isascii() and digits.isdecimal() and len(digits) <= 10 else None
