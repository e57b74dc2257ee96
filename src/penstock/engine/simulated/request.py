"""What a simulated engine is asked, and what it tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

NEVER = float("inf")


class Request:
    """One request; the engine writes what becomes of it into it.

    `hashes` name the prompt's whole blocks, each chained on the one before and on whatever else makes blocks differ (an adapter, a salt);
    `answer_hashes` go on with the whole blocks that the answer fills, where they are known. The KV of the first `remote_tokens` comes
    from another engine. With `is_kept` its blocks stay in use after its end, until the engine is told to `release` it.

    Times are NEVER until they come: `sent_at` offered, `started_at` prefill begun, `first_at` first token, `ended_at` last token.
    `cached_tokens` were found when it started first.
    """

    __slots__ = (
        "adapter",
        "answer_hashes",
        "cached_tokens",
        "data",
        "done_tokens",
        "end_step",
        "ended_at",
        "first_at",
        "hashes",
        "held",
        "is_cancelled",
        "is_kept",
        "known",
        "nameless",
        "order",
        "output_tokens",
        "preemptions",
        "prefilled",
        "prompt_tokens",
        "remote_tokens",
        "sent_at",
        "start_step",
        "started_at",
        "target",
    )

    def __init__(
        self,
        prompt_tokens: int,
        output_tokens: int,
        hashes: Sequence[int] = (),
        answer_hashes: Sequence[int] = (),
        *,
        adapter: str = "",
        remote_tokens: int = 0,
        is_kept: bool = False,
        data: Any = None,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.hashes = hashes
        self.answer_hashes = answer_hashes
        self.adapter = adapter
        self.remote_tokens = remote_tokens
        self.is_kept = is_kept
        self.data = data
        self.sent_at = self.started_at = self.first_at = self.ended_at = NEVER
        self.cached_tokens = 0
        self.preemptions = 0
        self.is_cancelled = False
        # Below is the engine's own: where it stands in this admission, counted in steps and tokens.
        self.order = -1
        self.held: Sequence[int] = ()
        self.nameless = self.known = 0
        self.target = prompt_tokens
        self.prefilled = 0
        self.done_tokens = 0
        self.start_step = self.end_step = -1


class Stored(NamedTuple):
    """The blocks `first` to before `end` of prompt and answer can be found from now on."""

    request: Request
    first: int
    end: int


class Removed(NamedTuple):
    """Blocks that were evicted."""

    hashes: tuple[int, ...]


class Happened(NamedTuple):
    """At one moment: who got a first token, who ended (cancelled ones too), and what became of blocks, in order."""

    started: Sequence[Request]
    ended: Sequence[Request]
    blocks: Sequence[Stored | Removed]
