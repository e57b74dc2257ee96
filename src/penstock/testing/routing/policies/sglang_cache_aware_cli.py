"""SGLang's gateway, cache_aware, defaults of its command line: threshold 0.3, balance 64 and 1.5, trees of 2^26 characters every 120 s.

vLLM's router has the same rule with the other defaults.
"""

from __future__ import annotations

from penstock.testing.routing.policies.sglang_cache_aware import CacheAware
from penstock.testing.routing.policy import Policy, Setup


class CacheAwareCli(CacheAware):
    """See the module."""

    threshold, balance_abs, balance_rel = 0.3, 64, 1.5
    tree_characters, evict_s = 1 << 26, 120.0


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return CacheAwareCli(setup)
