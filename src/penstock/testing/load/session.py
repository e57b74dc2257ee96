"""One bench: repeats against one target or several, interleaved, or a search for the knee."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from penstock.kit.tasks import end
from penstock.testing.load.check import find_model, probe
from penstock.testing.load.client import Client
from penstock.testing.load.compare import Ratio, compared
from penstock.testing.load.conversation import Workload
from penstock.testing.load.knee import KneeSearch
from penstock.testing.load.outcome import Outcome
from penstock.testing.load.player import Pace, Player, Recording, Speech
from penstock.testing.load.summary import Objective, Result, result_of, summed_up
from penstock.testing.load.target import Api, Target
from penstock.testing.load.text import Writer

FIRST_RATE_PER_S = 1.0


class Setup(Struct, frozen=True, kw_only=True):
    """What all runs have in common. `model` "" stands for the only one that a target has."""

    workload: Workload
    pace: Pace
    objective: Objective
    model: str = ""
    api: Api = "chat"
    ignores_eos: bool = True
    repeats: int = 1
    seed: int = 0
    timeout_s: float = 600.0
    tokenizer: Path | None = None


class Step(Struct, frozen=True):
    """One rate that the search for the knee tried."""

    rate_per_s: float
    attainment: float
    errors: int
    ttft_p99_s: float


class Knee(Struct, frozen=True):
    """`rate_per_s` is 0 if no rate held; `is_found` says whether a rate a little above it failed."""

    target: str
    rate_per_s: float
    is_found: bool
    steps: tuple[Step, ...]


class Told:
    """Who watches is told of runs and answers. This one tells nobody."""

    def began(self, target: str, run: str) -> None:
        """A run against a target begins; `run` says which."""

    def answered(self, outcome: Outcome) -> None:
        """A request of it has ended."""

    def ended(self) -> None:
        """It is over."""


class Bench:
    """Targets that were looked at, and the runs against them. Use inside one event loop; `close` it.

    `stop` ends it early: what has ended by then is told, of the run under way too, but ratios are only of pairs of whole runs.
    """

    def __init__(self, setup: Setup, targets: Sequence[Target], told: Told | None = None) -> None:
        self._setup, self._told = setup, told or Told()
        self._clients = [Client(target, setup.timeout_s) for target in targets]
        self._speeches: list[Speech] = []
        self.recordings: list[list[Recording]] = [[] for _ in targets]
        self._writer = Writer(setup.tokenizer)
        self._stopping = asyncio.Event()

    @property
    def is_stopped(self) -> bool:
        """Whether it was ended early."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End the run under way, and begin no other."""
        self._stopping.set()

    async def check(self) -> None:
        """Raises PlatformError before anything is measured."""
        setup = self._setup
        for client in self._clients:
            model, doubt = await find_model(client, setup.model)
            speech = Speech(model=model, api=setup.api, ignores_eos=setup.ignores_eos)
            await probe(client, speech, self._writer.salted(f"probe {setup.seed}"), doubt)
            self._speeches.append(speech)

    async def measure(self) -> tuple[tuple[Result, ...], tuple[Ratio, ...]]:
        """All repeats, and the first target's ratios to each other one. Targets take turns; the order turns with every repeat.

        Of a bench that was stopped only the targets that answered have results.
        """
        setup, pairs = self._setup, 0
        for number, (repeat, side) in enumerate(self._turns(), 1):
            run = f"{repeat + 1}/{setup.repeats}"
            recording = await self._run(side, setup.pace, repeat, f"{repeat} {side}", run)
            self.recordings[side].append(recording)
            if self.is_stopped:
                break
            pairs = number // len(self._clients)
        ratios = self._ratios(pairs) if pairs else ()
        sides = [side for side in range(len(self._clients)) if not self.is_stopped or self._has_answers(side)]
        results = tuple(map(self._result, sides))
        self.recordings = [self.recordings[side] for side in sides]
        return results, ratios

    def _has_answers(self, side: int) -> bool:
        return any(one.outcomes for one in self.recordings[side])

    def _turns(self) -> Iterator[tuple[int, int]]:
        """Which repeat, and which target."""
        sides = range(len(self._clients))
        for repeat in range(self._setup.repeats):
            for side in sides if repeat % 2 == 0 else reversed(sides):
                yield repeat, side

    def _ratios(self, pairs: int) -> tuple[Ratio, ...]:
        setup = self._setup
        first, *others = (recordings[:pairs] for recordings in self.recordings)
        return tuple(
            ratio
            for recordings, client in zip(others, self._clients[1:], strict=True)
            for ratio in compared(first, recordings, setup.objective, setup.seed, client.target.url)
        )

    async def find_knee(self, max_steps: int) -> tuple[Knee, ...]:
        """Of each target; of a search that was stopped those that have a step."""
        found = [await self._knee(side, max_steps) for side in range(len(self._clients))]
        return tuple(one for one in found if one.steps)

    async def _knee(self, side: int, max_steps: int) -> Knee:
        setup, url = self._setup, self._clients[side].target.url
        search = KneeSearch(setup.pace.rate_per_s or FIRST_RATE_PER_S, max_steps)
        steps: list[Step] = []
        while not (search.is_over or self.is_stopped):
            rate, number = search.rate_per_s, len(steps)
            pace = replace(setup.pace, rate_per_s=rate)
            salt = f"knee {number} {side}"
            recording = await self._run(side, pace, number, salt, f"{rate:.3g} a second")
            if self.is_stopped:
                break
            summary = summed_up([recording], setup.objective)
            search.tell(summary.attainment)
            errors = summary.requests - summary.answered
            steps.append(Step(rate, summary.attainment, errors, summary.ttft_s.p99))
            self.recordings[side].append(recording)
        return Knee(url, search.knee_per_s, search.is_found, tuple(steps))

    def close(self) -> None:
        """Drop all connections."""
        for client in self._clients:
            client.close()

    async def _run(self, side: int, pace: Pace, repeat: int, salt: str, run: str) -> Recording:
        """Texts of each run are its own, so that none finds those of the one before it in a cache; times and lengths are a repeat's."""
        setup = self._setup
        writer = self._writer.salted(f"{setup.seed} {salt}")
        player = Player(self._clients[side], writer, self._speeches[side], self._told.answered)
        self._told.began(self._clients[side].target.url, run)
        playing = asyncio.create_task(player.play(setup.workload, pace, setup.seed + repeat))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((playing, stopping), return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                return playing.result()
            return player.recorded()
        finally:
            await end(task for task in (playing, stopping) if not task.done())
            self._told.ended()

    def _result(self, side: int) -> Result:
        setup = self._setup
        return result_of(
            self.recordings[side],
            setup.objective,
            target=self._clients[side].target.url,
            model=self._speeches[side].model,
            workload=setup.workload.name,
            pace=shown(setup.pace),
        )


def shown(pace: Pace) -> str:
    """A pace in words."""
    if pace.concurrency is not None:
        return f"{pace.concurrency} at a time"
    return "its own times" if pace.rate_per_s is None else f"{pace.rate_per_s:g} a second"
