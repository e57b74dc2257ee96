"""Plays a trace under routing profiles, and shows what each would have saved."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock.cli.api import connect
from penstock.cli.bars import progress_bars
from penstock.cli.console import print_json, print_table
from penstock.cli.manifests import SUFFIXES, read
from penstock.cli.names import of_kind
from penstock.decide.routing_profile import route_of
from penstock.engine.simulated.profile import EngineProfile
from penstock.kit.errors import InvalidInput
from penstock.resources.admission import admit
from penstock.resources.routing import RoutingProfile
from penstock.resources.scheme import kind_of
from penstock.testing.routing.counterfactual import Outcome, Play, Rival, compare
from penstock.testing.routing.recorded import Recorded, read_recorded
from penstock.testing.routing.registry import policy_module
from penstock.testing.sim.trace import Cut

BUILT_IN = "built-in"
PEER = "peer:"
"""Before the name of another router's rule."""
HEADERS = (
    "profile",
    "requests",
    "failed",
    "ttft mean",
    "ttft p50",
    "ttft p99",
    "e2e p99",
    "cached",
    "computed",
    "prefill s",
    "saved s",
    "ttft saved",
)
"""`prefill s` are replica-seconds; what is saved is against the first line."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for: `replicas` 0 means as many endpoints as the trace tells of, `model` "" that there is but one."""

    profiles: list[str]
    engine: EngineProfile
    cut: Cut
    seed: int = 0
    replicas: int = 0
    model: str = ""


def play_profiles(path: Path, wish: Wish, *, json: bool) -> None:
    """To standard output. Raises PlatformError."""
    cut = wish.cut
    if cut.scale != 1.0:
        raise InvalidInput(
            f"--scale: found {cut.scale:g}, but with --profile each request is played once",
            hint="--speed changes how fast they come",
        )
    recorded = read_recorded(path, wish.model)
    rivals = [rival for text in wish.profiles for rival in rivals_of(text)]
    replicas = wish.replicas or recorded.endpoints
    if not replicas:
        raise InvalidInput(
            f"{path} does not say how many endpoints there were",
            hint="--replicas says how many engines to simulate",
        )
    play = Play(
        engine=wish.engine,
        replicas=replicas,
        speed=cut.speed,
        from_s=cut.from_s,
        to_s=float("inf") if cut.to_s is None else cut.to_s,
        seed=wish.seed,
    )
    outcomes = _watched(recorded, rivals, play)
    if json:
        print_json(outcomes)
        return
    print_table(HEADERS, [_row(outcome) for outcome in outcomes])
    if recorded.hit_share >= 0:
        sys.stderr.write(
            f"in the recording itself {100 * recorded.hit_share:.1f} % of the prompts' tokens were cached\n"
        )


def rivals_of(text: str) -> list[Rival]:
    """`built-in`, a file with RoutingProfiles, `peer:NAME`, or the name of a RoutingProfile in the cluster. Raises PlatformError."""
    if text == BUILT_IN:
        return [Rival(text, route_of(None))]
    if text.startswith(PEER):
        policy_module(text.removeprefix(PEER))
        return [Rival(text, None, text.removeprefix(PEER))]
    if text.endswith(SUFFIXES):
        found = [admit(one.document).object for one in read([text])]
        profiles = [one for one in found if isinstance(one, RoutingProfile)]
        if not profiles:
            raise InvalidInput(f"--profile: found no RoutingProfile in {text}, expected at least one")
        return [Rival(one.metadata.name, route_of(one)) for one in profiles]
    api = connect()
    document = api.get(of_kind(kind_of(RoutingProfile)).path(api.namespace, text))
    return [Rival(text, route_of(msgspec.convert(document, RoutingProfile)))]


def _watched(recorded: Recorded, rivals: list[Rival], play: Play) -> list[Outcome]:
    with progress_bars() as bars:
        tasks = [bars.add_task(rival.name, total=1.0) for rival in rivals]
        return compare(
            recorded, rivals, play, lambda place, share: bars.update(tasks[place], completed=share)
        )


def _row(outcome: Outcome) -> tuple[str, ...]:
    figures = outcome.figures
    return (
        outcome.name,
        f"{figures.requests}",
        f"{figures.errors}",
        f"{figures.ttft_mean_s:.3f}",
        f"{figures.ttft_p50_s:.3f}",
        f"{figures.ttft_p99_s:.3f}",
        f"{figures.e2e_p99_s:.2f}",
        f"{100 * figures.hit_share:.1f} %",
        f"{outcome.computed_tokens}",
        f"{outcome.prefill_s:.1f}",
        f"{outcome.saved_prefill_s:.1f}",
        f"{outcome.saved_ttft_s:.3f}",
    )
