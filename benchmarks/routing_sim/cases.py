"""What is compared: workloads with their engines, and one run of one policy on one of them.

Load and working set grow with the replicas. The larger the fleet, the shorter the run: `scale` of requests, or of time. Of a short run the
first `warming` share fills caches and is not measured.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import process_time
from typing import NamedTuple

from msgspec.structs import replace

from penstock.engine.simulated.profile import EngineProfile, load_profile
from penstock.testing.routing.conversations import Conversations, Talk
from penstock.testing.routing.figures import Figures
from penstock.testing.routing.mooncake import BLOCK_TOKENS, Recorded, Replay, read_trace
from penstock.testing.routing.registry import policy_module
from penstock.testing.routing.shared_prefix import ClosedLoop, OpenLoop, Shape
from penstock.testing.routing.workload import Workload
from penstock.testing.routing.world import ALL_WELL, Conditions, World

TRACES = Path(__file__).parents[3] / "shared" / "traces" / "llm"
CONVERSATION = TRACES / "mooncake_conversation_lt2100000ms.jsonl"
SYNTHETIC = TRACES / "mooncake_synthetic_lt600000ms.jsonl"
CONTEXT_TOKENS = 131_072
"""Llama 3.1's, by whose 70B model the traces are played."""


class Size(NamedTuple):
    """A fleet, a seed, which share of the whole run is played, and which share of that warms up."""

    replicas: int
    seed: int
    scale: float
    warming: float = 0.0


@dataclass(frozen=True)
class Case:
    """`block_tokens` is what everybody hashes in; `file` is the trace that it needs."""

    name: str
    title: str
    profile: str
    block_tokens: int
    open: Callable[[Size, int], Workload]
    file: Path | None = None

    def engine(self) -> EngineProfile:
        return replace(load_profile(self.profile), block_tokens=self.block_tokens)


def kthena(name: str, shared: int, output: int) -> Callable[[Size, int], Workload]:
    """256 groups of 32 requests for three replicas, 300 at once; a question of 128 tokens (the data set's default)."""

    def open_workload(size: Size, block: int) -> Workload:
        shape = Shape(
            groups=round(256 * size.replicas / 3),
            prompts=32,
            shared_tokens=shared,
            own_tokens=128,
            output_tokens=output,
            block_tokens=block,
        )
        asked = round(shape.groups * shape.prompts * size.scale)
        warming = round(asked * size.warming)
        return ClosedLoop(name, shape, 100 * size.replicas, asked, size.seed, warming=warming)

    return open_workload


def open_loop(name: str, shape: Shape, rates: Sequence[float], size: Size) -> OpenLoop:
    each = [rate * size.replicas for rate in rates]
    stage_s = 60.0 * size.scale
    warming_s = stage_s * len(rates) * size.warming
    return OpenLoop(name, shape, each, stage_s * (1.0 - size.warming), size.seed, warming_s=warming_s)


def ramp(
    name: str, groups: float, prompts: int, shared: int, own: int, rates: tuple[float, ...]
) -> Callable[[Size, int], Workload]:
    """`groups` and `rates` are of one replica; each rate is held for a minute."""

    def open_workload(size: Size, block: int) -> Workload:
        shape = Shape(
            groups=round(groups * size.replicas),
            prompts=prompts,
            shared_tokens=shared,
            own_tokens=own,
            output_tokens=1000,
            block_tokens=block,
        )
        return open_loop(name, shape, rates, size)

    return open_workload


@lru_cache(maxsize=2)
def trace(path: Path) -> Recorded:
    """Without what no engine of the profile could answer: three prompts of the synthetic trace."""
    whole = read_trace(path)
    lines = tuple(line for line in whole.lines if line.input_length + line.output_length <= CONTEXT_TOKENS)
    return Recorded(whole.name, lines)


def mooncake(path: Path, until_s: float, speed: float) -> Callable[[Size, int], Workload]:
    """One copy of the trace for each eight replicas; nine of ten requests, drawn anew for each seed."""

    def open_workload(size: Size, block: int) -> Workload:
        assert block == BLOCK_TOKENS, "the trace's own blocks"
        copies = max(1, size.replicas // 8)
        plays_s = until_s * size.scale
        return Replay(
            trace(path),
            until_s=plays_s,
            speed=speed,
            copies=copies,
            kept=0.9,
            seed=size.seed,
            warming_s=plays_s * size.warming,
        )

    return open_workload


def short(size: Size, block: int) -> Workload:
    """Chat questions of 200 tokens that nothing else begins like."""
    shape = Shape(
        groups=1 << 20, prompts=1, shared_tokens=0, own_tokens=200, output_tokens=128, block_tokens=block
    )
    return open_loop("short", shape, [24.0], size)


def turns(size: Size, block: int) -> Workload:
    """Working set: 60 users of up to 7,400 tokens, about one replica's cache."""
    asked = round(800 * size.replicas * size.scale)
    talk = Talk(
        users=60 * size.replicas,
        turns=8,
        requests=asked,
        warming=round(asked * size.warming),
        system_tokens=1024,
        turn_tokens=512,
        output_tokens=256,
        think_s=5.0,
        block_tokens=block,
    )
    return Conversations("multi-turn", talk, size.seed)


CASES = (
    Case("kthena-4096", "Kthena, system prompts of 4,096 tokens", "qwen-7b-910b", 128, kthena("kthena-4096", 4096, 256)),
    Case("kthena-256", "Kthena, system prompts of 256 tokens", "qwen-7b-910b", 128, kthena("kthena-256", 256, 1024)),
    Case("llm-d-73", "llm-d, prefixes 73 % of KV capacity", "qwen-32b-2xh100", 64, ramp("llm-d-73", 18.75, 5, 6000, 1200, (0.4, 0.8, 1.2, 1.6, 2.0, 2.4))),
    Case("llm-d-37", "llm-d, prefixes 37 % of KV capacity", "llama-70b-4xh100", 64, ramp("llm-d-37", 20.75, 3, 8000, 1000, (0.4, 0.8, 1.2, 1.6, 2.0))),
    Case("mooncake-conversation", "Mooncake conversation", "llama-70b-4xh100", BLOCK_TOKENS, mooncake(CONVERSATION, 2100.0, 1.0), CONVERSATION),
    Case("mooncake-synthetic", "Mooncake synthetic", "llama-70b-4xh100", BLOCK_TOKENS, mooncake(SYNTHETIC, 600.0, 0.8), SYNTHETIC),
    Case("short", "Short prompts, nothing shared", "llama-8b-h100", 64, short),
    Case("multi-turn", "Conversations of eight turns", "llama-8b-h100", 64, turns),
)  # fmt: skip


class Run(NamedTuple):
    """One simulation; it can be sent to another process."""

    case: str
    policy: str
    size: Size
    conditions: Conditions = ALL_WELL


class Played(NamedTuple):
    """What came of it, and the processor time that it took."""

    figures: Figures
    took_s: float


def play(run: Run) -> Played:
    began = process_time()
    case = next(case for case in CASES if case.name == run.case)
    size = run.size
    world = World(
        case.engine(),
        size.replicas,
        policy_module(run.policy).open_policy,
        seed=size.seed,
        conditions=run.conditions,
    )
    gc.disable()  # what lives, lives to the end of the run; looking for garbage in it takes a tenth of the time
    try:
        figures = world.run(case.open(size, case.block_tokens))
    finally:
        gc.enable()
    return Played(figures, process_time() - began)
