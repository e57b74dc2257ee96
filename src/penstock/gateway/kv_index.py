"""Which endpoint of a service is taken to hold which beginnings of prompts, and how far that is to be believed.

An endpoint whose engine tells of its cache without a gap is *precise*: it holds what it told, and for `GUESS_S` what was just sent to it.
Any other is *approximate*: it holds what was sent to it and what was told, as far as its cache reaches. An endpoint begins approximate. It
becomes precise with the first blocks that are told after `restarted`, with `cleared`, and with `trust` (a gap was filled); approximate again
with `distrust`, and with blocks of a size that cannot be cut into ours. What an approximate endpoint was taken to hold stays when it becomes
precise, and ages: it is used again only where a request is sent for its sake, and then it is there.

Where endpoints hold whole chains only, lookups jump (`Held` gives tails up before heads, so that the holder of a block holds all before it). Of
one that tells of its blocks it is watched which follow which; engines may remove any, and once there is a hole each block is looked at.

All is done at once and in memory, by one thread. What must be forgotten at once (a restart) is forgotten by a change of the endpoint's bit;
the old bit is cleaned up bit by bit, with every later change and by `tidy`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence, Sized
from typing import NamedTuple

from penstock.decide.kv_trust import APPROXIMATE, DISTRUSTED, PRECISE, Trust, answered, believed_anew
from penstock.gateway.kv_blocks import EngineBlocks, EngineHash
from penstock.gateway.kv_held import Held
from penstock.gateway.kv_links import Links
from penstock.gateway.kv_owners import Owners
from penstock.gateway.kv_worth import HotPrefix, HotPrefixes, Rate

GUESS_S = 30.0
"""How long an engine that tells may take to tell what a request stored: the wait in its queue, and the prompt's computation."""

CAPACITY_BLOCKS = 32_768
"""An endpoint's cache where nothing is known of it: half a million tokens in blocks of 16."""

MOST_BLOCKS = 1 << 20
"""Of one endpoint's cache, whatever its engine says: some 100 MB here, and 16 million tokens in blocks of 16."""

CLEANED_BLOCKS = 512
"""How many are cleaned up with each change, at about 0.2 us each."""


class Knowledge(NamedTuple):
    """What is known of one endpoint's cache. `unfit_size` is that of the engine's blocks where they cannot be used, else 0.

    `skipped_blocks` were told of but could not be placed, or let go but never told of.
    """

    trust: Trust
    is_precise: bool
    blocks: int
    capacity_blocks: int
    guessed_blocks: int
    skipped_blocks: int
    unfit_size: int


class _Endpoint:
    """One endpoint's part: what it is taken to hold, and apart from that, until when what is `guesses` to be."""

    __slots__ = (
        "bit",
        "confidence",
        "earned",
        "guesses",
        "held",
        "is_followed",
        "is_precise",
        "links",
        "skipped_blocks",
        "told",
        "trust",
        "unfit_size",
    )

    def __init__(self, bit: int, held: Held, told: EngineBlocks) -> None:
        self.bit, self.held, self.told = bit, held, told
        self.guesses: dict[int, float] = {}
        self.links: Links | None = None
        self.is_followed = self.is_precise = False
        self.skipped_blocks = self.unfit_size = 0
        self.earned = Rate()
        self.believe(Trust(prior=APPROXIMATE))

    def believe(self, trust: Trust) -> None:
        """`confidence` is asked for by each request, of all who hold anything of it."""
        self.trust, self.confidence = trust, trust.confidence


class KvIndex:
    """One for a service. `block_tokens` is the size of the blocks that prompts are hashed in; `model` what their chains begin with."""

    def __init__(self, block_tokens: int, model: str = "") -> None:
        self.block_tokens, self.model = block_tokens, model
        self._owners = Owners()
        self._endpoints: dict[str, _Endpoint] = {}
        self._guesses: deque[tuple[float, _Endpoint, Sequence[int]]] = deque()
        self._hot = HotPrefixes()
        self._discarded: deque[Sized] = deque()

    def add(self, endpoint: str, capacity_blocks: int = CAPACITY_BLOCKS) -> None:
        """It may be asked of from now on; for one that is known, its cache is of this size now, or of `MOST_BLOCKS`."""
        capacity = min(max(capacity_blocks, 1), MOST_BLOCKS)
        one = self._endpoints.get(endpoint)
        if one is None:
            told = EngineBlocks(self.model, self.block_tokens, capacity)
            self._endpoints[endpoint] = _Endpoint(self._owners.open(endpoint), Held(capacity), told)
        else:
            one.told.capacity = capacity
            gone = one.held.resize(capacity)
            self._owners.take(gone, one.bit)
            if one.links is not None:
                self._unlink(one, gone)

    def forget(self, endpoint: str) -> None:
        """It is gone; one that is unknown is as well."""
        one = self._endpoints.pop(endpoint, None)
        if one is not None:
            self._drop_all(one)

    def match(self, hashes: Sequence[int], now: float) -> Mapping[str, int]:
        """How many blocks from the start of this chain each endpoint is taken to hold. Who holds none is left out."""
        self._expire(now)
        return self._owners.match(hashes)

    def sent(self, endpoint: str, hashes: Sequence[int], now: float) -> int:
        """A request with this chain went there, and will have it stored. Nothing for an endpoint that is unknown.

        Returns about how many of its blocks were held by anyone before.
        """
        one = self._endpoints.get(endpoint)
        self._expire(now)
        if one is None or not hashes:
            return 0
        reach = self._owners.reach(hashes)
        if reach:
            self._hot.used(hashes[reach - 1], reach, now)
        known = one.held.leading(hashes)
        one.earned.add(known, now)
        self._will_hold(one, hashes, known, now)
        return reach

    def warmed(self, endpoint: str, hashes: Sequence[int], now: float) -> None:
        """It was made to store this chain, without anybody having asked for it."""
        one = self._endpoints.get(endpoint)
        self._expire(now)
        if one is not None and hashes:
            self._will_hold(one, hashes, one.held.leading(hashes), now)

    def _will_hold(self, one: _Endpoint, hashes: Sequence[int], known: int, now: float) -> None:
        """`known` of these are held already, from the start."""
        if not one.is_precise:
            self._use(one, hashes)
            return
        self._use(one, hashes[:known])
        self._guess(one, hashes, known, now)

    def stored(
        self,
        endpoint: str,
        parent: EngineHash | None,
        engine_hashes: Sequence[EngineHash],
        tokens: Sequence[int],
        block_size: int,
        adapter: str = "",
        extras: Sequence[object] = (),
    ) -> None:
        """Its engine stored these blocks, chained on `parent` (None: a beginning).

        `tokens` are those of all blocks, `extras` the `extra_keys` of each. Blocks that cannot be placed are counted and left out; blocks
        of a size that neither divides ours nor is divided by it leave the endpoint approximate.
        """
        one = self._endpoints.get(endpoint)
        if one is None:
            return
        if not one.told.fits(block_size):
            one.skipped_blocks += len(engine_hashes)
            one.unfit_size = block_size
            if one.is_followed:
                self.distrust(endpoint)
            return
        one.unfit_size = 0
        cut = one.told.store(parent, engine_hashes, tokens, block_size, adapter, extras)
        one.skipped_blocks += cut.skipped
        if cut.hashes and one.is_followed and not one.is_precise:
            self._become(one, is_followed=True, is_precise=True, prior=PRECISE)
        is_joined = cut.is_beginning or cut.before in one.held or cut.before in one.guesses
        if cut.hashes and (one.links is None or not is_joined):
            self._loosen(one)
        self._use(one, cut.hashes, cut.before)
        self._lose(one, cut.forgotten)

    def removed(self, endpoint: str, engine_hashes: Sequence[EngineHash]) -> None:
        """Its engine let these blocks go; such as it never told of are counted."""
        one = self._endpoints.get(endpoint)
        if one is not None:
            gone, unknown = one.told.remove(engine_hashes)
            one.skipped_blocks += unknown
            self._lose(one, gone)

    def cleared(self, endpoint: str) -> None:
        """Its engine let all blocks go: whatever was missed matters no more."""
        self.restarted(endpoint)
        self.trust(endpoint)

    def restarted(self, endpoint: str) -> None:
        """Nothing of what its cache held is known any more; its engine may tell of it from now on."""
        one = self._endpoints.get(endpoint)
        if one is not None:
            if one.held or one.guesses or one.told:
                capacity = one.held.capacity
                self._drop_all(one)
                one.bit, one.held = self._owners.open(endpoint), Held(capacity)
            self._unlinked(one)
            one.links = Links()
            self._become(one, is_followed=True, is_precise=False, prior=APPROXIMATE)

    def died(self, endpoint: str) -> None:
        """Its engine is gone, with all that its cache held; another one may take its place."""
        one = self._endpoints.get(endpoint)
        if one is not None:
            was_followed = one.is_followed
            self.restarted(endpoint)
            one.is_followed = was_followed

    def trust(self, endpoint: str) -> None:
        """Its engine tells of its cache, and what was missed has been told after all."""
        one = self._endpoints.get(endpoint)
        if one is not None and not one.is_precise:
            self._become(one, is_followed=True, is_precise=True, prior=PRECISE)

    def distrust(self, endpoint: str) -> None:
        """Its engine told something that was missed. What it is taken to hold stays, and ages with what is sent there."""
        one = self._endpoints.get(endpoint)
        if one is not None:
            self._become(one, is_followed=False, is_precise=False, prior=DISTRUSTED)

    def answered(self, endpoint: str, predicted_tokens: float, cached_tokens: float) -> None:
        """It answered a request of whose prompt it was taken to hold `predicted_tokens`, and found `cached_tokens` cached."""
        one = self._endpoints.get(endpoint)
        if one is not None:
            one.believe(answered(one.trust, predicted_tokens, cached_tokens))

    def knowledge(self, endpoint: str) -> Knowledge | None:
        """What is known of one endpoint's cache, and how well; None for an endpoint that is unknown."""
        one = self._endpoints.get(endpoint)
        if one is None:
            return None
        return Knowledge(
            one.trust,
            one.is_precise,
            len(one.held),
            one.held.capacity,
            len(one.guesses),
            one.skipped_blocks,
            one.unfit_size,
        )

    def is_precise(self, endpoint: str) -> bool:
        """Whether its engine tells of its cache without a gap."""
        one = self._endpoints.get(endpoint)
        return one is not None and one.is_precise

    def confidence(self, endpoint: str) -> float:
        """In [0, 1]: how far `match` is to be believed of it; 0 for an endpoint that is unknown."""
        one = self._endpoints.get(endpoint)
        return 0.0 if one is None else one.confidence

    def believed(self, matched: Mapping[str, int], block_tokens: float) -> dict[str, float]:
        """So many tokens of what was `matched` each is expected to hold, by its confidence."""
        known = self._endpoints
        return {name: blocks * block_tokens * known[name].confidence for name, blocks in matched.items()}

    def value(self, endpoint: str, now: float) -> float:
        """How many blocks per second its cache has spared of late; 0 for an endpoint that is unknown."""
        one = self._endpoints.get(endpoint)
        return 0.0 if one is None else one.earned.per_s(now)

    def hottest(self, count: int, now: float) -> tuple[HotPrefix, ...]:
        """The prefixes that most requests began with, of those that were held somewhere already; at most `count`."""
        return self._hot.hottest(count, now)

    def tidy(self, now: float, limit: int = CLEANED_BLOCKS) -> int:
        """Forget guesses that did not come true, and clean up at most `limit` blocks; returns how many are left to be cleaned up."""
        self._expire(now)
        return self._tidy(limit)

    def __len__(self) -> int:
        """How many blocks are held anywhere, with those that are yet to be cleaned up."""
        return len(self._owners)

    def _become(self, one: _Endpoint, *, is_followed: bool, is_precise: bool, prior: float) -> None:
        one.is_followed, one.is_precise = is_followed, is_precise
        one.believe(believed_anew(one.trust, prior))

    def _use(self, one: _Endpoint, hashes: Sequence[int], before: int = 0) -> None:
        fresh, gone = one.held.use(hashes)
        if one.links is not None:
            one.links.add(before, hashes, [key for key in fresh if key not in one.guesses])
            self._unlink(one, gone)
        self._owners.give(fresh, one.bit)
        self._owners.take(gone, one.bit)
        for key in fresh if one.guesses else ():
            one.guesses.pop(key, None)
        self._tidy(CLEANED_BLOCKS + 2 * len(fresh))

    def _lose(self, one: _Endpoint, hashes: Sequence[int]) -> None:
        gone = one.held.drop(hashes)
        self._owners.take(gone, one.bit)
        self._unlink(one, gone)

    def _unlink(self, one: _Endpoint, gone: Sequence[int]) -> None:
        if gone and (one.links is None or one.links.remove(gone)):
            self._loosen(one)

    def _loosen(self, one: _Endpoint) -> None:
        """It has holes from now on, and it is no use to look for more."""
        self._owners.loosen(one.bit)
        self._unlinked(one)

    def _guess(self, one: _Endpoint, hashes: Sequence[int], known: int, now: float) -> None:
        """What is held is not guessed as well; `known` of these are, from the start. No more is guessed than the cache has room for."""
        room = max(one.held.capacity - len(one.guesses), 0)
        guessed = [key for key in hashes[known:] if key not in one.held][:room]
        if guessed:
            if one.links is not None:
                one.links.add(0, hashes, [key for key in guessed if key not in one.guesses])
            one.guesses.update(dict.fromkeys(guessed, now + GUESS_S))
            self._owners.give(guessed, one.bit)
            self._guesses.append((now + GUESS_S, one, guessed))

    def _expire(self, now: float) -> None:
        while self._guesses and self._guesses[0][0] <= now:
            deadline, one, hashes = self._guesses.popleft()
            late = [key for key in hashes if one.guesses.get(key) == deadline]
            for key in late:
                del one.guesses[key]
            self._owners.take(late, one.bit)
            self._unlink(one, late)

    def _unlinked(self, one: _Endpoint) -> None:
        if one.links is not None:
            self._discarded += filter(None, one.links.parts)
            one.links = None

    def _tidy(self, limit: int) -> int:
        freed = 0
        while self._discarded and freed < limit:
            freed += len(self._discarded.popleft())
        return self._owners.tidy(limit)

    def _drop_all(self, one: _Endpoint) -> None:
        """Move what it holds to the old bit. Its guesses, what is under way, go with it: what is sent again is guessed anew."""
        one.held.resize(one.held.capacity + len(one.guesses))
        one.held.use([*one.guesses])
        self._owners.close(one.bit, one.held)
        one.guesses = {}
        self._discarded += filter(None, one.told.clear())
