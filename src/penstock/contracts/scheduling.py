"""What is known when a request is routed, and what the parts of a routing profile are asked: filters, scorers, a picker.

Each part is one file in `plugins/{filters,scorers,pickers}/`, named as profiles name it (`kv-use` is `kv_use.py`). It offers
`open_filter`, `open_scorer` or `open_picker`, which checks its parameters; what comes back is asked for each request, and so may
neither wait nor allocate more than it answers. A view's columns stand in the order of its `loads`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from math import inf
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from penstock.contracts.exchange import CONTEXT_LENGTH_LABELS, Endpoint

UNKNOWN = -1.0


class Prompt(Struct, frozen=True, kw_only=True, gc=False):
    """What routing knows of one request; nothing of its words.

    `draw` is a number in [0, 2^64) that is always the same for the same request: what else is equal is decided by it. `tokens` are
    those of the prompt, estimated where no tokenizer is at hand; `hashes` those of its whole blocks of `block_tokens`, each chained on
    the one before. `output_tokens` is what the caller allows, 0 where it does not say. `session` is what the turns of one conversation
    have in common. `only` are the endpoints (`address:port`) that the caller leaves, None for all.
    """

    draw: int
    tokens: int = 0
    hashes: Sequence[int] = ()
    block_tokens: float = 0.0
    output_tokens: int = 0
    adapter: str = ""
    session: str = ""
    is_batch: bool = False
    only: Collection[str] | None = None


class Load(Struct, kw_only=True):
    """One endpoint as routing sees it. It belongs to the gateway, which changes it as requests come and go; plugins only read.

    `in_flight` are requests under way, `prefilling` those of them without a first token yet; `own_in_flight` are this gateway's, and
    `own_sent_s` is the sum of the moments at which they were sent. `uncached_tokens` are the tokens of
    prompts that the engine has yet to compute; `context_tokens` those that it holds for answers under way. Both are this platform's own
    count, without asking the engine. What engines say of themselves is UNKNOWN until they have: `waiting` and `running` requests,
    `kv_use` in [0, 1]; `told_in_flight` were in flight when they did, and `capacity` is how many it answers at once, as
    far as that showed. `kv_tokens` is how many its cache holds, 0 where that is unknown.

    `prefill_s` (per request) and `prefill_token_s` (per uncached token) say how fast prompts are computed there, `decode_s` the time between
    tokens of an answer, `is_measured` whether they were learned from it; they hold in seconds only then. So many requests as `step_requests`
    double the time between tokens, as its runtime says; 0 where that does not. `confidence` in [0, 1] is how much of what it was taken to
    hold it did hold of late. `adapters` are those that it has loaded, `adapter_slots` how many it can, 0 where unknown.
    `cold_at` is when a prompt of which nobody held anything was last sent there, monotonic; -inf for never.
    Of several `ranks` behind one address (vLLM's data parallelism) each has its own cache, and nobody here chooses among them.
    """

    endpoint: Endpoint
    revision: str = ""
    weight: float = 1.0
    is_open: bool = True
    in_flight: int = 0
    own_in_flight: int = 0
    own_sent_s: float = 0.0
    prefilling: int = 0
    uncached_tokens: float = 0.0
    context_tokens: float = 0.0
    waiting: float = UNKNOWN
    running: float = UNKNOWN
    kv_use: float = UNKNOWN
    told_in_flight: int = 0
    capacity: float = UNKNOWN
    kv_tokens: int = 0
    prefill_s: float = 0.0
    prefill_token_s: float = 0.0
    decode_s: float = 0.0
    step_requests: float = 0.0
    is_measured: bool = False
    confidence: float = 1.0
    adapters: frozenset[str] = frozenset()
    adapter_slots: int = 0
    labels: Mapping[str, str] = {}
    token_price: float = 0.0
    cold_at: float = -inf
    ranks: int = 1


class View(Struct, frozen=True, gc=False):
    """The endpoints that may be chosen, and how many tokens of this prompt's beginning each is expected to hold; `now` is monotonic, in s."""

    loads: Sequence[Load]
    cached_tokens: Sequence[float]
    now: float = 0.0


class Filter(Protocol):
    """Leaves endpoints out. One that `insists` leaves a request without any rather than with one that does not suit."""

    insists: bool

    def keep(self, prompt: Prompt, view: View) -> Sequence[int] | None:
        """The places of those that stay, in order; None for all."""
        ...


class Scorer(Protocol):
    """Says how well each endpoint suits, from 0 (not at all) to 1."""

    def score(self, prompt: Prompt, view: View) -> Sequence[float]:
        """One number for each, in order."""
        ...


class Picker(Protocol):
    """Chooses by the weighted sums of all scores."""

    def pick(self, prompt: Prompt, scores: Sequence[float]) -> int:
        """The place of the one that is taken. `scores` are not empty; equals are decided by `prompt.draw`."""
        ...


class FilterPlugin(Protocol):
    """A module of `plugins/filters/`."""

    def open_filter(self, parameters: Mapping[str, Any]) -> Filter:
        """Raises InvalidInput for parameters that it does not know or cannot use."""
        ...


class ScorerPlugin(Protocol):
    """A module of `plugins/scorers/`."""

    def open_scorer(self, parameters: Mapping[str, Any]) -> Scorer:
        """Raises InvalidInput for parameters that it does not know or cannot use."""
        ...


class PickerPlugin(Protocol):
    """A module of `plugins/pickers/`."""

    def open_picker(self, parameters: Mapping[str, Any]) -> Picker:
        """Raises InvalidInput for parameters that it does not know or cannot use."""
        ...


class Pipeline(NamedTuple):
    """A routing profile whose parts are open: filters in their order, scorers with their weights (> 0), each with its name, and a picker."""

    filters: tuple[tuple[str, Filter], ...]
    scorers: tuple[tuple[str, float, Scorer], ...]
    picker: Picker


def context_range(labels: Mapping[str, str]) -> tuple[int, int] | None:
    """From how many to how many tokens of context an endpoint is for, by its labels; None where they say nothing that can be read."""
    for name in CONTEXT_LENGTH_LABELS:
        if name in labels:
            return _range(labels[name])
    return None


@lru_cache(maxsize=1024)
def _range(text: str) -> tuple[int, int] | None:
    least, dash, most = text.partition("-")
    if (
        not dash
        or len(text) > 32
        or not (least.isascii() and least.isdecimal() and most.isascii() and most.isdecimal())
    ):
        return None
    span = int(least), int(most)
    return span if span[0] <= span[1] else None
