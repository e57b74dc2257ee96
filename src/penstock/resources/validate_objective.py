"""Can requests be ordered by this objective?"""

from __future__ import annotations

import re

from penstock.resources.objective import InferenceObjective
from penstock.resources.validation import SUBDOMAIN, SUBDOMAIN_TEXT, Causes, required, wrong

KIND = "[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?"
MOST = (1 << 31) - 1
"""Priorities are numbers of 32 bits; the least of them is what batches have."""


def validate_objective(new: InferenceObjective) -> Causes:
    """Causes in an objective; what the kind's own definition asks for, and that numbers are of 32 bits."""
    pool, priority = new.spec.pool_ref, new.spec.priority
    if not pool.name:
        yield required(
            "spec.poolRef.name", "the InferenceService, or its InferencePool, that the objective is for"
        )
    elif len(pool.name) > 253:
        yield wrong("spec.poolRef.name", pool.name, "must be at most 253 characters")
    if pool.group and (len(pool.group) > 253 or not re.fullmatch(SUBDOMAIN, pool.group)):
        yield wrong("spec.poolRef.group", pool.group, SUBDOMAIN_TEXT)
    if len(pool.kind) > 63 or not re.fullmatch(KIND, pool.kind):
        yield wrong("spec.poolRef.kind", pool.kind, f"must be at most 63 characters that match {KIND}")
    if priority is not None and not -MOST <= priority <= MOST:
        yield wrong("spec.priority", priority, f"must be between {-MOST} and {MOST}")
