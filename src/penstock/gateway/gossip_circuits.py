"""What gateways tell each other of endpoints that they leave alone.

Another gateway's word is believed once for each time that it opens a circuit, and only if the endpoint answers nothing here within PROOF_S
after it: a gateway that is cut off from engines cannot make others leave them. Who believes it probes the endpoint by itself in the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from penstock.gateway.endpoints import Endpoints
from penstock.gateway.gossip_codec import Opening
from penstock.kit.hashing import draw

PROOF_S = 0.25
AGAIN_S = 1.0
"""What is open still is told again, for those that did not hear it."""
MAX_HEARSAY = 4096


class _Word(NamedTuple):
    """Of another gateway, at its `opening`th opening; `answers` were had here when it was heard."""

    opening: int
    until: float
    due_at: float
    answers: int


class CircuitGossip:
    """Between `endpoints` of this gateway and those of others. Endpoints are told by the hash of their name."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Nothing was told, and nothing heard."""
        self._endpoints = endpoints
        self._names: dict[int, str] = {}
        self._told: dict[str, tuple[int, float]] = {}
        self._words: dict[tuple[str, int], _Word] = {}
        self._undecided: set[tuple[str, int]] = set()

    def keep(self) -> None:
        """There are other endpoints now."""
        self._names = {draw(name): name for name in self._endpoints.states()}

    def openings(self, now: float) -> Iterator[Opening]:
        """What is to be told now."""
        circuits = self._endpoints.circuits
        for name in [name for name in self._told if name not in circuits]:
            del self._told[name]
        for name, circuit in circuits.items():
            if circuit.state != "open" or circuit.open_until <= now:
                continue
            opening = self._endpoints.openings.get(name, 0)
            if not opening:
                continue  # hearsay itself, which is not passed on
            told, told_at = self._told.get(name, (0, 0.0))
            if opening != told or now - told_at >= AGAIN_S:
                self._told[name] = (opening, now)
                yield Opening(draw(name), opening, round((circuit.open_until - now) * 1000))

    def hear(self, place: str, openings: list[Opening], now: float) -> None:
        """The gateway at `place` says so."""
        for told in openings:
            key = (place, told.endpoint)
            name = self._names.get(told.endpoint)
            before = self._words.get(key)
            if name is None or (before is not None and before.opening >= told.opening):
                continue
            until = now + told.left_ms / 1000
            self._words.pop(key, None)
            self._words[key] = _Word(told.opening, until, now + PROOF_S, self._endpoints.answers(name))
            self._undecided.add(key)
            if len(self._words) > MAX_HEARSAY:
                oldest = next(iter(self._words))
                del self._words[oldest]
                self._undecided.discard(oldest)

    def forget(self, place: str) -> None:
        """Another gateway is there now: it counts from the start."""
        for key in [key for key in self._words if key[0] == place]:
            del self._words[key]
            self._undecided.discard(key)

    def decide(self, now: float) -> None:
        """Believe what was not refuted."""
        for key in [key for key in self._undecided if self._words[key].due_at <= now]:
            self._undecided.discard(key)
            word, name = self._words[key], self._names.get(key[1])
            if name is not None:
                self._endpoints.told_open(name, word.until, word.answers)
