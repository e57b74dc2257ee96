"""One simulation from beginning to end: a trace, a policy, an engine; what `penstock simulate` and benchmarks call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from penstock.engine.simulated.profile import EngineProfile
from penstock.kit.errors import InvalidInput
from penstock.testing.sim.policy import Setup, policy_of
from penstock.testing.sim.report import Result, summed_up
from penstock.testing.sim.trace import Cut, Trace
from penstock.testing.sim.world import Settings, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All that holds for every trace and policy that are compared. `skip_s`: so much of the beginning is played, but not counted.

    `target`, `min_replicas`, `max_replicas`, `initial` and `container_concurrency` are as in `policy.Setup`; for the rest see
    `trace.Cut` and `world.Settings`.
    """

    profile: EngineProfile
    slo_ttft_s: float = 2.0
    cut: Cut = field(default_factory=Cut)
    seed: int = 0
    services: int = 1
    skip_s: float = 0.0
    initial: int = 1
    min_replicas: int = 0
    max_replicas: int = 0
    target: float | None = None
    container_concurrency: int = 0
    gpus: int = 0
    hold_s: float = 600.0
    gpu_hour_price: float | None = None

    def __post_init__(self) -> None:
        if 0 < self.max_replicas < self.min_replicas:
            most = f"at most --max-replicas {self.max_replicas}"
            raise InvalidInput(f"--min-replicas: found {self.min_replicas}, expected {most}")


def simulate(
    path: Path, policy: str, scenario: Scenario, progress: Callable[[float], None] | None = None
) -> Result:
    """`progress` is told which share of the trace is played. Raises InvalidInput and NotFound."""
    trace = Trace(path, scenario.cut, scenario.seed, scenario.services)
    setup = Setup(
        start_s=trace.start_s,
        slo_ttft_s=scenario.slo_ttft_s,
        initial=scenario.initial,
        min_replicas=scenario.min_replicas,
        max_replicas=scenario.max_replicas,
        target=scenario.target,
        container_concurrency=scenario.container_concurrency,
    )
    settings = Settings(
        setup=setup,
        end_s=trace.end_s,
        profile=scenario.profile,
        services=scenario.services,
        gpus=scenario.gpus,
        hold_s=scenario.hold_s,
        measure_from_s=trace.start_s + scenario.skip_s,
    )
    world = World(settings, policy_of(policy))
    world.run(trace, _share(progress, trace) if progress else None)
    return summed_up(
        world, trace=trace.name, policy=policy, seed=scenario.seed, gpu_hour_price=scenario.gpu_hour_price
    )


def _share(progress: Callable[[float], None], trace: Trace) -> Callable[[float], None]:
    """Tells no more often than a person can see."""
    span_s = trace.end_s - trace.start_s
    told = 0.0

    def tell(at: float) -> None:
        nonlocal told
        share = (at - trace.start_s) / span_s
        if share - told >= 0.005:
            told = share
            progress(share)

    return tell
