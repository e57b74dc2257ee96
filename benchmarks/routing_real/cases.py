"""The loads: long shared prefixes and conversations that no single replica's cache holds but the fleet's does, and short prompts.

The tiny model sees 2,048 tokens at once, so its long prompts are 1.6k. Block counts are of 32 tokens. Two cases are of what else happens in
fleets. `drifting` is llm-d's benchmark whose prefixes fill 73 % of its KV memory, five prompts each (llm-d-kv-cache/benchmarking/73-capacity), but
those prefixes are only the hot ones of that moment, as in the traces of Wang et al., "KVCache Cache in the Wild" (USENIX ATC 2025): few
prefixes make up most of what is asked for, and for a short while; some come back after they were evicted. `restart` is `shared-prefix`, but
in the middle of each run one engine is killed, and starts again under its address.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.testing.load.workloads import MultiTurn, SharedPrefix, Unshared

REPLICAS, KV_BLOCKS = 4, 384
GROUPS, PREFIX = 16, 1536
FOOTPRINT_BLOCKS = GROUPS * PREFIX // 32
"""768 of shared prefixes alone: twice what one replica holds, half of what four do."""
HOT, DRIFTING_GROUPS, DRIFTING_PROMPTS = 24, 48, 5
"""24 prefixes of 48 blocks are 75 % of the fleet's 1,536; 48 are 150 %. While 24 others come, each with five prompts, the fleet stores as much as it holds."""
CORES = 0.4
"""Of each engine: 1.6 of two cores; the rest is for router and load."""
CONCURRENCY = 12
SHARED, SKEWED, TURNS, SHORT = "shared-prefix", "shared-prefix, skewed", "multi-turn", "short"
DRIFTING, RESTART = "drifting", "restart"


@dataclass(frozen=True)
class Case:
    """`concurrency` conversations at a time; `share` of round robin's throughput as a rate instead, where it is given.

    `stretch` makes its runs longer than others'. With `kills` one engine is killed in the middle of each.
    """

    name: str
    workload: SharedPrefix | MultiTurn | Unshared
    concurrency: int | None = CONCURRENCY
    share: float = 0.0
    stretch: float = 1.0
    kills: bool = False


PREFIXES = SharedPrefix(name=SHARED, groups=GROUPS, prompts=64, prefix=PREFIX, own=64, output=16)
CASES = (
    Case(SHARED, PREFIXES),
    Case(f"{SHARED}, at one rate", PREFIXES, None, 0.9),
    Case(
        SKEWED,
        SharedPrefix(name=SKEWED, groups=GROUPS, prompts=64, prefix=PREFIX, own=64, output=16, skew=1.2),
    ),
    Case(TURNS, MultiTurn(name=TURNS, turns=6, think=0.2, groups=8, prefix=512, own=128, output=24)),
    Case(
        DRIFTING,
        SharedPrefix(
            name=DRIFTING,
            groups=DRIFTING_GROUPS,
            prompts=DRIFTING_PROMPTS,
            hot=HOT,
            skew=1.0,
            prefix=PREFIX,
            own=64,
            output=16,
        ),
    ),
    Case(SHORT, Unshared(name=SHORT, prompt=24, output=16, spread=0.5)),
    Case(RESTART, PREFIXES, stretch=2.0, kills=True),
)
