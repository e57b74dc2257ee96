"""What is compared: traces, laws with their one knob, an engine, cold starts, and one simulation of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec
from benchmarks.autoscaling.foresight import foreseeing
from benchmarks.autoscaling.synthetic import RATES, write

from penstock.engine.simulated.profile import EngineProfile, StartTimes, load_profile
from penstock.testing.sim.policy import Setup, policy_of
from penstock.testing.sim.report import summed_up
from penstock.testing.sim.trace import Cut, Trace
from penstock.testing.sim.world import Settings, World

TRACES = Path(__file__).parents[3] / "shared" / "traces" / "llm"
ENGINE = "llama-8b-a100"
SLO_TTFT_S = 5.0
"""Three times what the longest ordinary prompts need alone: the 99th percentiles of the traces are 4, 7 and 10 thousand tokens."""
OBJECTIVE = 0.99
COLD_STARTS_S = {108.3: "vLLM 48193: start to first token", 23.9: "vLLM 48193: with reuse of the engine"}
SETTLING_S = 600.0
"""So much of each trace is played but not counted: all begin with the same replicas, and none knows the trace."""
SEEDS = (0, 1, 2)
TARGETS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0, 32.0, 40.0, 50.0, 64.0)
FORESIGHTS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2)
OURS = "forecast"


@dataclass(frozen=True)
class Case:
    """One trace, cut so that a few to some tens of replicas serve it; `targets` are tried for it, `initial` replicas are there."""

    name: str
    title: str
    file: Path
    cut: Cut
    initial: int
    targets: tuple[float, ...] = TARGETS


CASES = (
    Case(
        "azure-conversation",
        "Azure conversation (9 of 10 requests, drawn anew for each seed)",
        TRACES / "azure2023_conv_to1850.csv",
        Cut(scale=0.9),
        4,
    ),
    Case(
        "azure-code",
        "Azure code (9 of 10 requests, drawn anew for each seed)",
        TRACES / "azure2023_code_to1850.csv",
        Cut(scale=0.9),
        8,
    ),
    Case(
        "servegen-week1",
        "ServeGen week 1 (rates times 0.005, 19:00 to 21:00 of its first day)",
        TRACES / "servegen_m-small_week1_arrivals.csv",
        Cut(from_s=68400.0, to_s=75600.0, scale=0.005),
        4,
        (0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0),
    ),
)
FEW_TARGETS = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0)


def others(folder: Path) -> tuple[Case, ...]:
    """Traces that no target is about; those made by formula are written into `folder`."""
    mooncake = Case(
        "mooncake-conversation",
        "Mooncake conversation (as it is)",
        TRACES / "mooncake_conversation_lt2100000ms.jsonl",
        Cut(),
        20,
        FEW_TARGETS,
    )
    made = (
        Case(name, f"By formula, one hour: {RATES[name][0]}", path, Cut(), 3, FEW_TARGETS)
        for name, path in write(folder).items()
    )
    return (mooncake, *made)


@dataclass(frozen=True)
class Law:
    """`policy` as `penstock simulate --policy` takes it; `has_knob`: a target of requests at once is tried."""

    name: str
    title: str
    policy: str
    has_knob: bool = True


PEERS = (
    Law("kpa", "Knative's law", "kpa"),
    Law("gpu", "Knative's law, GPU profile", "gpu"),
    Law("hpa", "HPA on concurrency", "hpa"),
    Law("keda", "KEDA on concurrency", "keda"),
)
FORECAST = Law(OURS, "forecast class", "forecast", has_knob=False)
FIXED = Law("fixed", "best fixed count", "fixed:{setting:g}")
FORESIGHT = Law("foresight", "with foresight", "")


class Run(NamedTuple):
    """One simulation: `setting` is the law's knob, None for its defaults."""

    case: Case
    law: Law
    setting: float | None
    cold_s: float
    seed: int
    slo_s: float = SLO_TTFT_S


@dataclass(frozen=True)
class Figures:
    """What one simulation came to."""

    replica_s: float
    replicas_mean: float
    attainment: float
    ttft_p50_s: float
    ttft_p99_s: float
    scale_events: int
    cost: float
    currency: str = field(default="USD")


def engine(cold_s: float) -> EngineProfile:
    """The profile with a cold start of a stated length."""
    profile = load_profile(ENGINE)
    return msgspec.structs.replace(profile, start=StartTimes(placing_s=1.0, loading_s=cold_s - 1.0))


def play(run: Run) -> Figures:
    """One simulation, in a process of its own or not."""
    case, law = run.case, run.law
    trace = Trace(case.file, case.cut, run.seed)
    setup = Setup(
        start_s=trace.start_s,
        slo_ttft_s=run.slo_s,
        initial=case.initial,
        min_replicas=1,
        max_replicas=200,
        target=run.setting if law.has_knob else None,
    )
    profile = engine(run.cold_s)
    settings = Settings(
        setup=setup, end_s=trace.end_s, profile=profile, measure_from_s=trace.start_s + SETTLING_S
    )
    if law.name == FORESIGHT.name:
        made = foreseeing(trace, run.cold_s, profile.prefill_tokens_per_s, run.setting or 1.0)
    else:
        made = policy_of(law.policy.format(setting=run.setting or 1.0))
    world = World(settings, made)
    world.run(trace)
    result = summed_up(world, trace=case.name, policy=law.name, seed=run.seed)
    return Figures(
        result.replica_seconds,
        result.replicas_mean,
        result.attainment,
        result.ttft_s.p50,
        result.ttft_s.p99,
        result.scale_ups + result.scale_downs,
        result.cost,
        result.currency,
    )
