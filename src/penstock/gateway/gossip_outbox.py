"""What is yet to be told to other gateways: counts first, then circuits, what could not be followed, and how soon endpoints answer; then
chains, the newest first.

Counts are told when they change, and again every REFRESH_S while there are any, so that a lost message matters no longer. That nothing is
left is told twice. Chains wait in a queue of bounded length, in which the oldest make room.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Collection, Sequence
from itertools import islice
from typing import TypeVar

from penstock.gateway.gossip_chains import MARK_BLOCKS, Chains
from penstock.gateway.gossip_codec import (
    HASH_BYTES,
    HEAD_BYTES,
    INSERT_BYTES,
    MAX_CHAIN_BLOCKS,
    MAX_PARTS,
    MOST,
    OPENING_BYTES,
    SAMPLE_BYTES,
    TALLY_BYTES,
    Insert,
    Message,
    Opening,
    Sample,
    Tally,
    packed,
)
from penstock.gateway.shares import NONE, Counts

REFRESH_S = 1.0
SAMPLE_S = 0.25
"""Twelve answers say how fast an endpoint is: those of three seconds."""
MAX_PENDING = 1024
MAX_UNHEARD = 256
"""While there is nobody to tell: what the first one is told."""
MAX_RECENT = 512
"""Chains that a gateway is told which has just begun."""
MAX_MISSING = 256

V = TypeVar("V")


class Outbox:
    """Of the gateway at `place`, which is there `since`. `chains` are those that all know; what is told is added to them."""

    def __init__(self, place: str, since: int, chains: Chains) -> None:
        """There is nothing to tell. `pushed_out` counts chains that made room before they were told to those who listen."""
        self._place, self._since, self._serial, self._chains = place, since, 0, chains
        self._due: dict[int, Counts] = {}
        self._told: dict[int, tuple[Counts, float]] = {}
        self._openings: dict[int, Opening] = {}
        self._samples: dict[int, Sample] = {}
        self._sampled_at: dict[int, float] = {}
        self._missing: dict[int, None] = {}
        self._pending: deque[tuple[int, Sequence[int]]] = deque()
        self._recent: dict[tuple[int, int], None] = {}
        self.is_heard = False
        self.pushed_out = 0

    def keep(self, endpoints: Collection[int]) -> None:
        """Nothing is told of endpoints other than these."""
        for endpoint in [one for one in self._told if one not in endpoints]:
            del self._told[endpoint]
        for waiting in (self._due, self._samples, self._sampled_at):
            for endpoint in [one for one in waiting if one not in endpoints]:
                del waiting[endpoint]

    def counted(self, endpoint: int, counts: Counts) -> None:
        """So much is under way there now."""
        told = self._told.get(endpoint)
        if counts == (NONE if told is None else told[0]):
            self._due.pop(endpoint, None)
        else:
            self._due[endpoint] = counts

    def sent(self, endpoint: int, hashes: Sequence[int]) -> None:
        """A prompt with this chain went there; it is not changed afterwards."""
        self._pending.append((endpoint, hashes))
        while len(self._pending) > (MAX_PENDING if self.is_heard else MAX_UNHEARD):
            self._pending.popleft()
            self.pushed_out += self.is_heard

    def opened(self, opening: Opening) -> None:
        """A circuit is open."""
        self._openings[opening.endpoint] = opening

    def learned(
        self, endpoint: int, uncached_tokens: float, first_s: float, between_s: float, now: float
    ) -> None:
        """An answer came from there; of several within SAMPLE_S the first one is told."""
        if self._sampled_at.get(endpoint, now - SAMPLE_S) > now - SAMPLE_S:
            return
        self._sampled_at[endpoint] = now
        numbers = (uncached_tokens, first_s * 1e6, between_s * 1e6)
        self._samples[endpoint] = Sample(endpoint, *(min(round(number), MOST) for number in numbers))

    def missed(self, anchor: int) -> None:
        """A chain was told that begins as one that is not known here."""
        if len(self._missing) < MAX_MISSING:
            self._missing[anchor] = None

    def retell(self, anchors: Collection[int]) -> None:
        """Somebody missed these chains: those that were told from here of late are told anew, to the end of what waits."""
        for anchor in anchors:
            self._chains.unmark(anchor)
        self._again([key for key in self._recent if key[1] in anchors])

    def introduce(self) -> None:
        """There is a gateway that knows nothing: tell all counts, and anew the chains that were told last."""
        for endpoint, (counts, _) in self._told.items():
            if counts != NONE:
                self._due.setdefault(endpoint, counts)
        self._chains.unmark_all()
        self._again(list(self._recent))

    def _again(self, recent: Sequence[tuple[int, int]]) -> None:
        for endpoint, last in recent[: -1 - (MAX_PENDING - len(self._pending)) : -1]:
            chain = self._chains.get(last)
            if chain is not None:
                self._pending.appendleft((endpoint, chain))

    def refresh(self, now: float) -> None:
        """What was told REFRESH_S ago is due again."""
        for endpoint, (counts, told_at) in self._told.items():
            if told_at > now - REFRESH_S:
                return
            self._due.setdefault(endpoint, counts)

    def hello(self) -> Message:
        """That this gateway is there."""
        self._serial += 1
        return Message(self._place, self._since, self._serial, [], [], [], [], [])

    def message(self, room: int, now: float) -> Message | None:
        """The next one, of at most `room` bytes (at least 512). None where there is nothing to tell."""
        room = most = room - HEAD_BYTES
        tallies = self._tallies(room, now)
        room -= len(tallies) * TALLY_BYTES
        openings = _take(self._openings, room // OPENING_BYTES)
        room -= len(openings) * OPENING_BYTES
        missing = _take(self._missing, room // (HASH_BYTES + 1))
        room -= len(missing) * (HASH_BYTES + 1)
        samples = [sample for _, sample in _take(self._samples, room // SAMPLE_BYTES)]
        room -= len(samples) * SAMPLE_BYTES
        inserts = self._inserts(room, most)
        if not (tallies or openings or missing or samples or inserts):
            return None
        self._serial += 1
        told = [opening for _, opening in openings]
        anchors = [anchor for anchor, _ in missing]
        return Message(self._place, self._since, self._serial, tallies, inserts, told, anchors, samples)

    def _tallies(self, room: int, now: float) -> list[Tally]:
        tallies = []
        for endpoint, counts in _take(self._due, room // TALLY_BYTES):
            before = self._told.pop(endpoint, None)
            if counts != NONE or (before is not None and before[0] != NONE):
                self._told[endpoint] = (counts, now)
            tallies.append(Tally(endpoint, *(min(count, MOST) for count in counts)))
        return tallies

    def _inserts(self, room: int, most: int) -> list[Insert]:
        inserts: list[Insert] = []
        while self._pending and len(inserts) < MAX_PARTS:
            insert = self._insert(room, most)
            if insert is None:
                break
            inserts.append(insert)
            room -= INSERT_BYTES + len(insert.tail)
        return inserts

    def _insert(self, room: int, most: int) -> Insert | None:
        """The newest chain; of one that not even a message of its own has room for, the beginning: the rest follows in the next ones."""
        endpoint, hashes = self._pending[-1]
        anchor, position = self._chains.common(hashes)
        end = min(len(hashes), MAX_CHAIN_BLOCKS)
        whole = position + (most - INSERT_BYTES) // HASH_BYTES
        if is_cut := end > whole:
            end = whole - whole % MARK_BLOCKS
        if INSERT_BYTES + max(0, end - position) * HASH_BYTES > room:
            return None
        if not is_cut:
            self._pending.pop()
        chain = array("Q", hashes[:end])
        self._chains.add(chain)
        self._remember(endpoint, chain[-1])
        return Insert(endpoint, anchor, min(position, end), packed(chain[position:]))

    def _remember(self, endpoint: int, last: int) -> None:
        self._recent.pop((endpoint, last), None)
        self._recent[endpoint, last] = None
        if len(self._recent) > MAX_RECENT:
            del self._recent[next(iter(self._recent))]


def _take(source: dict[int, V], count: int) -> list[tuple[int, V]]:
    """The oldest, which are no more in `source` then."""
    taken = list(islice(source.items(), min(max(count, 0), MAX_PARTS)))
    for key, _ in taken:
        del source[key]
    return taken
