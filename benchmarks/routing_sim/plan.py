"""What is played of each fleet: by whom, with how many seeds, for how long.

Eight replicas play whole ramps and traces, and half of what settles sooner, from cold. Larger fleets play less, and of that the first part
warms up: in it each user of a closed loop and each conversation has an answer or two, and a shared prefix comes once to five times. Shorter, it
would tell of nothing but all users' first questions, which come at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.routing_sim.cases import Size

from penstock.testing.routing.registry import policy_names

WARMING = 2 / 3

EIGHT = {
    "kthena-4096": 0.5,
    "kthena-256": 0.5,
    "llm-d-73": 1.0,
    "llm-d-37": 1.0,
    "mooncake-conversation": 1.0,
    "mooncake-synthetic": 1.0,
    "short": 0.5,
    "multi-turn": 0.5,
}
SIXTY_FOUR = {
    "kthena-4096": 0.06,
    "kthena-256": 0.06,
    "llm-d-73": 0.2,
    "llm-d-37": 0.2,
    "mooncake-conversation": 0.15,
    "mooncake-synthetic": 0.4,
    "short": 0.06,
    "multi-turn": 0.2,
}
FIVE_HUNDRED_TWELVE = {
    "kthena-4096": 0.055,
    "kthena-256": 0.055,
    "llm-d-73": 0.1,
    "llm-d-37": 0.12,
    "mooncake-conversation": 0.04,
    "mooncake-synthetic": 0.08,
    "short": 0.02,
    "multi-turn": 0.12,
}


class Plan(NamedTuple):
    """Of a fleet: who plays, with how many seeds, which share of each case's whole run, times `scale`, and which share of that warms up."""

    replicas: int
    policies: Sequence[str]
    seeds: int
    shares: Mapping[str, float]
    warming: float = 0.0
    scale: float = 1.0

    def sizes(self, case: str) -> list[Size]:
        """One for each seed."""
        share = self.shares[case] * self.scale
        return [Size(self.replicas, seed, share, self.warming) for seed in range(self.seeds)]


PLAN = (
    Plan(8, policy_names(), 5, EIGHT),
    Plan(64, policy_names(), 5, SIXTY_FOUR, WARMING),
    Plan(512, policy_names(), 5, FIVE_HUNDRED_TWELVE, WARMING),
)
QUICK = (Plan(8, policy_names(), 1, EIGHT, scale=0.2),)
