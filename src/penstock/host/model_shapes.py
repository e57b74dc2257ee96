"""The shapes of models, read once in the background and kept: whoever asks never waits.

What was read of a remote source is kept in a file, so that a restart asks nobody; after a day it is read anew, and what could not be read
after a minute. Both the file and what is read at once are bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from penstock.contracts.source import public
from penstock.decide.model_shape import ModelShape, with_draft
from penstock.decide.served_model import Served
from penstock.host.kubelet.layout import write_atomically
from penstock.kit.clock import Clock
from penstock.kit.errors import PlatformError

log = logging.getLogger(__name__)
FRESH_S, AGAIN_S = 86_400.0, 60.0
TIMEOUT_S = 10.0
"""After so long a model counts as one that cannot be read."""
AT_ONCE = 2
MAX_SHAPES = 256
"""Those read longest ago are forgotten."""
MAX_BYTES = 16 << 20


class Known(Struct, frozen=True, omit_defaults=True):
    """A shape, or why there is none. `read_at` is in seconds since the epoch."""

    shape: ModelShape | None = None
    failure: str = ""
    read_at: float = 0.0


class ModelShapes:
    """`read(model)` blocks, and raises PlatformError for what cannot be read; it runs in threads. `path` is where shapes are kept."""

    def __init__(self, read: Callable[[str], ModelShape], path: Path, clock: Clock) -> None:
        self._read = read
        self._path = path
        self._clock = clock
        self._known: dict[str, Known] | None = None
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    @property
    def is_reading(self) -> bool:
        """Whether an answer is on its way."""
        return bool(self._reading)

    def get(self, model: str) -> Known | None:
        """What is known; None while the model is read for the first time. Call it from the event loop."""
        if self._known is None:
            self._known = self._load()
        known = self._known.get(public(model))
        age_s = self._clock.now() - known.read_at if known else 0.0
        if known is None or age_s > (AGAIN_S if known.failure else FRESH_S):
            self._begin(model)
        return known

    def served(self, served: Served) -> Known | None:
        """As `get`, of the model and of what speculates for it."""
        known = self.get(served.model)
        if known is None or known.shape is None or not served.draft:
            return known
        draft = self.get(served.draft)
        if draft is None or draft.shape is None:
            return draft
        both = with_draft(known.shape, draft.shape)
        return Known(shape=both, read_at=max(known.read_at, draft.read_at))

    def close(self) -> None:
        """Wait for nobody any more."""
        for task in self._reading.values():
            task.cancel()

    def _begin(self, model: str) -> None:
        name = public(model)
        if name not in self._reading:
            task = asyncio.get_running_loop().create_task(self._learn(model), name=f"headers of {name}")
            self._reading[name] = task
            task.add_done_callback(lambda _: self._reading.pop(name, None))

    async def _learn(self, model: str) -> None:
        async with self._slots:
            known = await self._ask(model)
        kept = self._known if self._known is not None else {}
        before = kept.get(public(model))
        if known.failure and before is not None and before.shape is not None:
            known = msgspec.structs.replace(before, read_at=self._clock.now())
        kept[public(model)] = known
        for name in sorted(kept, key=lambda each: kept[each].read_at)[: max(0, len(kept) - MAX_SHAPES)]:
            del kept[name]
        await asyncio.to_thread(self._save, msgspec.json.encode(kept))

    async def _ask(self, model: str) -> Known:
        now = self._clock.now()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                shape = await asyncio.to_thread(self._read, model)
        except TimeoutError:
            return Known(failure=f"its source has not answered for {TIMEOUT_S:.0f} s", read_at=now)
        except PlatformError as error:
            return Known(failure=error.message[:300], read_at=now)
        except Exception as error:  # whatever a foreign file or server can cause must not stop placement
            log.exception("the headers of %s", public(model))
            return Known(failure=f"its headers cannot be read ({type(error).__name__})", read_at=now)
        return Known(shape=shape, read_at=now)

    def _load(self) -> dict[str, Known]:
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(MAX_BYTES), type=dict[str, Known])
        except (OSError, msgspec.DecodeError):
            return {}

    def _save(self, content: bytes) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._path, content)
        except OSError as error:
            log.warning("%s: cannot be written to: %s", self._path, error.strerror)
