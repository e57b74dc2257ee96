"""Whose prompts are tokenized here: services whose model's tokenizer is at hand, as long as it does what the engine does.

It is loaded before it counts: until then, and while it is given up, a service's prompts are hashed as text. Whoever keeps an index by
those hashes is told of each change, for hashes of texts and of tokens never meet.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from msgspec.structs import replace

from penstock.contracts.exchange import ServiceRoute
from penstock.contracts.tokenizing import BYTES_TOKENIZER, Ask, Told
from penstock.decide.tokenizer_trust import (
    NEW,
    Question,
    Standing,
    given_up,
    is_quick,
    judged,
    patience_s,
    tried_again,
)
from penstock.gateway.tokenizer_process import TokenizerProcess
from penstock.kit.clock import Clock
from penstock.kit.errors import Unavailable

LOAD_S = 60.0
MIN_HIT_TOKENS = 256
"""What is expected to be cached of a prompt is evidence from there on."""
MISSING = "missing_tokenizer"
Id = tuple[str, str]
logger = logging.getLogger(__name__)


class _Service:
    __slots__ = ("folder", "is_used", "loading", "standing")

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.is_used = False
        self.standing = NEW
        self.loading: asyncio.Task[None] | None = None


class Tokenizers:
    """By namespace and name."""

    def __init__(self, process: TokenizerProcess, root: Path, clock: Clock) -> None:
        """`root` is what the folders of routes are below. `counts` are prompts that were not tokenized though they should, and tokenizers given up, by reason."""
        self._process, self._root, self._clock = process, root, clock
        self._services: dict[Id, _Service] = {}
        self.counts: Counter[str] = Counter()
        self.on_change: Callable[[Id], None] = lambda _: None

    def keep(self, services: Iterable[ServiceRoute]) -> None:
        """Tokenize for those of these that have a tokenizer, and of whose endpoints one has to be chosen; for no others."""
        wanted = {(s.namespace, s.name): f for s in services if (f := self._folder(s))}
        for key in self._services.keys() - wanted.keys():
            gone = self._services.pop(key)
            if gone.loading is not None:
                gone.loading.cancel()
            if gone.is_used:
                self.on_change(key)
        for key, folder in wanted.items():
            one = self._services.get(key)
            if one is None:
                one = self._services[key] = _Service(folder)
                self._load(key, one)
            elif one.folder != folder:
                one.folder = folder
                if one.standing.reason:
                    self._load(key, one)

    def is_used(self, key: Id) -> bool:
        """Whether this service's prompts are hashed as tokens."""
        one = self._services.get(key)
        return one is not None and one.is_used

    async def tokenize(
        self, key: Id, body: bytes, block_tokens: int, seed: int, max_tokens: int
    ) -> Told | None:
        """The prompt of an OpenAI request, and how long it took to get it; None where it could not be had in time."""
        one = self._services.get(key)
        if one is None or not one.is_used:
            return None
        began, ask = self._clock.monotonic(), Ask(one.folder, body, block_tokens, seed, max_tokens)
        try:
            told = await self._process.ask(ask, patience_s(len(body)))
        except Unavailable as error:
            self.counts[error.code] += 1
            if error.code == "late" and not any(other.loading for other in self._services.values()):
                self._judge(key, one, "slow", is_good=False)
            return None
        if told.broken:
            self._give_up(key, one, given_up(one.standing, told.broken, self._clock.monotonic()))
            return None
        if told.error:
            self.counts["refused"] += 1
            return None
        return replace(told, took_s=self._clock.monotonic() - began)

    def answered(
        self, key: Id, told: Told, tokens: int, expected_tokens: float, cached_tokens: int, whole_s: float
    ) -> None:
        """A prompt that was `told` was answered after `whole_s`; the engine counted `tokens`.

        It was expected to hold `expected_tokens` of them, and found `cached_tokens` (-1: it did not say).
        """
        one = self._services.get(key)
        if one is None or not one.is_used:
            return
        self._judge(key, one, "disagrees", is_good=told.tokens == tokens)
        self._judge(key, one, "slow", is_good=is_quick(told.took_s, whole_s))
        if cached_tokens >= 0 and expected_tokens >= MIN_HIT_TOKENS:
            self._judge(key, one, "hits_fail", is_good=cached_tokens >= expected_tokens / 2)

    def tidy(self, now: float) -> None:
        """Try again what has rested."""
        for key, one in self._services.items():
            if one.standing.reason and one.standing.until <= now:
                self._load(key, one)

    async def close(self) -> None:
        """End the process."""
        loading = [one.loading for one in self._services.values() if one.loading is not None]
        self._services.clear()
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        await self._process.close()

    def _folder(self, service: ServiceRoute) -> str:
        """Empty for none, or none that is needed, or one that leads elsewhere."""
        told = service.tokenizer
        if not told or service.routing is None or sum(len(r.endpoints) for r in service.revisions) < 2:
            return ""
        if told == BYTES_TOKENIZER:
            return told
        path = PurePosixPath(told)
        return "" if path.is_absolute() or ".." in path.parts else str(self._root / path)

    def _load(self, key: Id, one: _Service) -> None:
        if one.loading is None:
            one.standing = tried_again(one.standing)
            one.loading = asyncio.create_task(self._loaded(key, one), name=f"tokenizer of {key[0]}/{key[1]}")

    async def _loaded(self, key: Id, one: _Service) -> None:
        reason = MISSING
        if _is_there(one.folder):
            try:
                reason = (await self._process.ask(Ask(one.folder), LOAD_S)).broken
            except Unavailable as error:
                reason = error.code
        one.loading = None
        if reason:
            self._give_up(key, one, given_up(one.standing, reason, self._clock.monotonic()))
        else:
            one.is_used = True
            logger.info("prompts for %s/%s are tokenized as the engine does", *key)
            self.on_change(key)

    def _judge(self, key: Id, one: _Service, question: Question, *, is_good: bool) -> None:
        standing = judged(one.standing, question, is_good=is_good, now=self._clock.monotonic())
        if standing.reason:
            self._give_up(key, one, standing)
        else:
            one.standing = standing

    def _give_up(self, key: Id, one: _Service, standing: Standing) -> None:
        """What it is told by a question that was under way meanwhile is told once."""
        if one.standing.reason:
            return
        one.standing = standing
        self.counts[standing.reason] += 1
        logger.log(
            logging.INFO if standing.reason == MISSING else logging.WARNING,
            "prompts for %s/%s are hashed as text: their tokenizer %s",
            *key,
            _told(standing.reason),
        )
        if one.is_used:
            one.is_used = False
            self.on_change(key)


def _is_there(folder: str) -> bool:
    """Where pods run on other machines no process is started to find that out."""
    return folder == BYTES_TOKENIZER or Path(folder).is_dir()


def _told(reason: str) -> str:
    return {
        "disagrees": "counts other tokens than the engine",
        "hits_fail": "makes blocks that the engine does not find",
        "slow": "takes too long",
        MISSING: "is not on this machine",
        "not_installed": 'needs what `pip install "penstock[cpu]"` installs',
    }.get(reason, f"cannot be used ({reason})")
