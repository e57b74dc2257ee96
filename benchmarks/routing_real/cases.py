"""The loads: long shared prefixes and conversations that no single replica's cache holds but the fleet's does, and short prompts.

The tiny model sees 2,048 tokens at once, so its long prompts are 1.6k. Block counts are of 32 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.testing.load.workloads import MultiTurn, SharedPrefix, Unshared

REPLICAS, KV_BLOCKS = 4, 384
GROUPS, PREFIX = 16, 1536
FOOTPRINT_BLOCKS = GROUPS * PREFIX // 32
"""768 of shared prefixes alone: twice what one replica holds, half of what four do."""
CONCURRENCY = 12
SHARED, SKEWED, TURNS, SHORT = "shared-prefix", "shared-prefix, skewed", "multi-turn", "short"


@dataclass(frozen=True)
class Case:
    """`concurrency` conversations at a time; `share` of round robin's throughput as a rate instead, where it is given."""

    name: str
    workload: SharedPrefix | MultiTurn | Unshared
    concurrency: int | None = CONCURRENCY
    share: float = 0.0


PREFIXES = SharedPrefix(name=SHARED, groups=GROUPS, prompts=64, prefix=PREFIX, own=64, output=16)
CASES = (
    Case(SHARED, PREFIXES),
    Case(f"{SHARED}, at one rate", PREFIXES, None, 0.9),
    Case(
        SKEWED,
        SharedPrefix(name=SKEWED, groups=GROUPS, prompts=64, prefix=PREFIX, own=64, output=16, skew=1.2),
    ),
    Case(TURNS, MultiTurn(name=TURNS, turns=6, think=0.2, groups=8, prefix=512, own=128, output=24)),
    Case(SHORT, Unshared(name=SHORT, prompt=24, output=16, spread=0.5)),
)
