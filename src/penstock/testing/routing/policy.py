"""What a router is asked and told in the simulator, and what all policies count alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import NamedTuple

from penstock.engine.simulated.model import Engine
from penstock.engine.simulated.profile import EngineProfile
from penstock.engine.simulated.request import Removed, Stored
from penstock.testing.routing.ask import Ask


class Batch(NamedTuple):
    """KV events of one step, numbered from 0 for each engine process and dated by its clock."""

    number: int
    at: float
    events: Sequence[Stored | Removed]


class Setup(NamedTuple):
    """What a policy is made for. Of `engines` (the list changes when one is restarted) all but the oracle read only the metrics.

    `replay` answers the batches of a replica from a number on; None where engines keep none.
    """

    profile: EngineProfile
    engines: Sequence[Engine]
    seed: int
    replay: Callable[[int, int], Sequence[Batch]] | None = None

    @property
    def block_tokens(self) -> int:
        """Of the engines; everybody hashes in the same blocks."""
        return self.profile.block_tokens

    @property
    def capacity_blocks(self) -> int:
        """Of one replica's cache."""
        return self.profile.kv_tokens // self.profile.block_tokens


class Policy:
    """One router. `scrape_s` is how often it reads engines' metrics (0: never), `hears_events` whether it hears of their caches.

    Counts of requests under way are its own; `waiting`, `running` and `kv_use` are what engines said last.
    """

    scrape_s = 0.0
    hears_events = False

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.replicas = len(setup.engines)
        self.everyone = range(self.replicas)
        self.chance = Random(f"policy {setup.seed}")  # noqa: S311  reproducible, not secret
        self.in_flight = [0] * self.replicas
        self.waiting = [0] * self.replicas
        self.running = [0] * self.replicas
        self.kv_use = [0.0] * self.replicas

    def choose(self, ask: Ask, now: float) -> int:
        """The replica that this request goes to."""
        raise NotImplementedError

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """It went there: right after it was chosen."""
        self.in_flight[replica] += 1

    def began(self, ask: Ask, replica: int, now: float) -> None:
        """Its first token came."""

    def ended(self, ask: Ask, replica: int, now: float, cached_tokens: int) -> None:
        """It was answered; so many tokens of its prompt were found in the cache, -1 if it failed."""
        self.in_flight[replica] -= 1

    def scraped(self, now: float) -> None:
        """Engines' metrics are read."""
        for replica, engine in enumerate(self.setup.engines):
            self.waiting[replica] = engine.waiting
            self.running[replica] = engine.running
            self.kv_use[replica] = engine.kv_use

    def told(self, replica: int, batch: Batch, now: float) -> None:
        """An engine tells what it stored and removed. Who does not watch the numbers misses what is lost."""
        for event in batch.events:
            if isinstance(event, Removed):
                self.removed(replica, event.hashes)
            else:
                self.stored(replica, (*event.request.hashes, *event.request.answer_hashes)[: event.end])

    def expected(self, ask: Ask) -> float:
        """The tokens of its prompt that were expected to be cached when it was sent; -1 where nothing is expected."""
        return -1.0

    def meet(self, others: Sequence[Policy]) -> None:
        """These routers route for the same engines, and can be told of what this one does. Once, before all else."""

    def gossip(self, now: float) -> None:
        """It tells those that it has met what has changed."""

    def stored(self, replica: int, hashes: Sequence[int]) -> None:
        """It holds this chain of blocks."""

    def removed(self, replica: int, hashes: Sequence[int]) -> None:
        """It holds these blocks no more."""

    def least(self, costs: Sequence[float], among: Collection[int] = ()) -> int:
        """Which of these replicas (none named: all) costs least; equals by chance."""
        if among:
            low = min(map(costs.__getitem__, among))
            equal = [place for place in among if costs[place] == low]
            return equal[0] if len(equal) == 1 else self.chance.choice(equal)
        low = min(costs)
        if costs.count(low) == 1:
            return costs.index(low)
        return self.chance.choice([place for place, cost in enumerate(costs) if cost == low])
