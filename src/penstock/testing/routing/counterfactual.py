"""What would have become of recorded requests under other routing profiles: each played with the gateway's own router and simulated engines.

Profiles are compared with each other, never with the recording itself: its engines were others, and what it measured is told beside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from penstock.contracts.exchange import RoutingRoute
from penstock.engine.simulated.profile import EngineProfile
from penstock.testing.routing.ask import Ask
from penstock.testing.routing.figures import Figures
from penstock.testing.routing.policies.penstock import Penstock
from penstock.testing.routing.policies.penstock_approximate import PenstockApproximate
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.recorded import Recorded, Replayed
from penstock.testing.routing.registry import policy_module
from penstock.testing.routing.world import World


class Rival(NamedTuple):
    """What routes: a profile, or a policy of the simulator, by the name that a person knows it by."""

    name: str
    routing: RoutingRoute | None
    policy: str = ""


class Play(Struct, frozen=True, kw_only=True):
    """What holds for every rival."""

    engine: EngineProfile
    replicas: int
    speed: float = 1.0
    from_s: float = 0.0
    to_s: float = float("inf")
    seed: int = 0


class Outcome(Struct, frozen=True, kw_only=True):
    """Of one rival. `computed_tokens` are those of prompts that no cache held, `prefill_s` what computing them takes of engines, in replica-seconds.

    `saved_prefill_s` and `saved_ttft_s` (of the mean) are what it takes less than the first rival.
    """

    name: str
    figures: Figures
    computed_tokens: int
    prefill_s: float
    saved_prefill_s: float = 0.0
    saved_ttft_s: float = 0.0


def compare(
    recorded: Recorded, rivals: list[Rival], play: Play, progress: Callable[[int, float], None]
) -> list[Outcome]:
    """In the order given. `progress` is told which rival is played, and which share of its requests have come. Raises InvalidInput."""
    outcomes: list[Outcome] = []
    for place, rival in enumerate(rivals):
        outcome = _played(recorded, rival, play, partial(progress, place))
        first = outcomes[0] if outcomes else outcome
        outcomes.append(
            replace(
                outcome,
                saved_prefill_s=first.prefill_s - outcome.prefill_s,
                saved_ttft_s=first.figures.ttft_mean_s - outcome.figures.ttft_mean_s,
            )
        )
    return outcomes


def _played(recorded: Recorded, rival: Rival, play: Play, progress: Callable[[float], None]) -> Outcome:
    engine = replace(play.engine, block_tokens=recorded.block_tokens)
    workload = Replayed(recorded, speed=play.speed, from_s=play.from_s, to_s=play.to_s)
    world = World(engine, play.replicas, _opener(rival), seed=play.seed)
    figures = world.run(_Watched(workload, progress))
    computed = world.tally.queried_tokens - world.tally.hit_tokens
    return Outcome(
        name=rival.name,
        figures=figures,
        computed_tokens=computed,
        prefill_s=computed / engine.prefill_tokens_per_s,
    )


def _opener(rival: Rival) -> Callable[[Setup], Policy]:
    routing = rival.routing
    if routing is None:
        return policy_module(rival.policy).open_policy
    kind = Penstock if routing.kv_events else PenstockApproximate
    return lambda setup: kind(
        setup, replace(routing, block_tokens=setup.block_tokens, candidate=None, candidate_percent=0)
    )


class _Watched:
    """The same workload; how far it has come is told."""

    def __init__(self, workload: Replayed, progress: Callable[[float], None]) -> None:
        self.name = workload.name
        self._workload, self._progress = workload, progress

    def arrivals(self) -> Iterator[Ask]:
        step = max(1, len(self._workload) // 200)
        for place, ask in enumerate(self._workload.arrivals()):
            if place % step == 0:
                self._progress(place / len(self._workload))
            yield ask

    def after(self, ask: Ask, now: float) -> Ask | None:
        return self._workload.after(ask, now)
