"""What tests of the simulator share: a plain engine profile and made-up requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from penstock.engine.simulated.profile import EngineProfile, StartTimes
from penstock.testing.sim.engine import Request
from penstock.testing.sim.policy import Observation, Policy, Setup, Wish
from penstock.testing.sim.world import Settings, World

TRACES = Path(__file__).parents[3] / "shared" / "traces" / "llm"


def shared_trace(name: str) -> Path:
    if not TRACES.is_dir():
        pytest.skip("../shared is absent")
    return TRACES / name


def profile(**changes: Any) -> EngineProfile:
    """10 ms a step, 1,000 prompt tokens a second, 10 s to start."""
    values: dict[str, Any] = {
        "name": "plain",
        "description": "round numbers",
        "gpus": 1,
        "gpu_hour_price": 3.6,
        "start": StartTimes(placing_s=1.0, downloading_s=2.0, loading_s=3.0, warming_s=4.0),
        "prefill_tokens_per_s": 1000.0,
        "step_base_s": 0.01,
        "step_per_sequence_s": 0.0,
        "overhead_s": 0.0,
        "max_batched_tokens": 100,
        "max_sequences": 64,
        "kv_tokens": 100_000,
        "sources": {},
    }
    return EngineProfile(**{**values, **changes})


class Scripted:
    """Answers what a function of the observation says."""

    tick_s = 2.0

    def __init__(self, answer: Callable[[Observation], int]) -> None:
        self.answer = answer
        self.seen: list[Observation] = []

    def decide(self, seen: Observation) -> Wish:
        self.seen.append(seen)
        desired = self.answer(seen)
        return Wish(desired, ("the script says so",), settled=not seen.in_flight)


def world(
    law: Callable[[Setup], Policy],
    *,
    end_s: float = 100.0,
    initial: int = 1,
    container_concurrency: int = 0,
    engine: EngineProfile | None = None,
    **settings: Any,
) -> World:
    setup = Setup(start_s=0.0, slo_ttft_s=1.0, initial=initial, container_concurrency=container_concurrency)
    return World(Settings(setup=setup, end_s=end_s, profile=engine or profile(), **settings), law)


def requests(*times: float, prompt: int = 10, output: int = 10) -> Iterable[Request]:
    return [Request(at, prompt, output) for at in times]
