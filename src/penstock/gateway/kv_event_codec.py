"""Reads batches of KV events, in all the forms that engines write them in. Nothing in them is believed before it is checked.

vLLM wrote positional arrays, then maps by name; SGLang writes arrays without the last fields. Fields that are not known here are passed over,
and so are events of other names. Source: vLLM, `vllm/distributed/kv_events.py`; SGLang, `disaggregation/kv_events.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.msgpack import Decoder

MAX_BATCH_BYTES = 4 << 20
"""A step of an engine that computes 64k tokens tells about a tenth of it."""
MAX_EVENT_BYTES = 1 << 19
"""Read at once, in a few milliseconds; 128k tokens of a prompt fit."""
MAX_EVENTS = 16_384
MAX_BLOCK_TOKENS = 65_536
NAMES = ("BlockStored", "BlockRemoved", "AllBlocksCleared")
WHOLE_PREFIX = (None, "", "full_attention", "mla_attention", "sink_full_attention")
"""Kinds of attention whose blocks count as a prefix; a sliding window's do not say that what is before them is held."""

EngineHash = Annotated[int, Meta()] | Annotated[bytes, Meta(min_length=1, max_length=64)]
Token = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
Count = Annotated[int, Meta(gt=0, le=MAX_BLOCK_TOKENS)]


class Stored(NamedTuple):
    """Blocks of `block_size` tokens that were computed, chained from `parent` (None: a prompt's beginning).

    `tokens` are those of all blocks. `adapter` is the LoRA adapter's name, or its number where that is all there is, "" for none. `extra`
    has one entry for each block: what else went into its hash, of images or a salt; () where nothing did.
    """

    parent: int | bytes | None
    hashes: Sequence[int | bytes]
    tokens: Sequence[int]
    block_size: int
    adapter: str
    extra: Sequence[Any]
    medium: str


class Removed(NamedTuple):
    """Blocks that the engine let go from `medium`, GPU or CPU, "" where it does not say."""

    hashes: Sequence[int | bytes]
    medium: str


class Cleared(NamedTuple):
    """The engine let all go."""


class Batch(NamedTuple):
    """What an engine told at once, at its own time. `events` are raw: `event_of` reads them, one by one. `rank` is 0 where there is but one."""

    at: float
    events: Sequence[Raw]
    clears: bool
    rank: int = 0


class Malformed(ValueError):
    """Not a batch, or not an event, of this format."""


class _StoredMap(Struct, tag="BlockStored", gc=False):
    block_hashes: list[EngineHash]
    parent_block_hash: EngineHash | None
    token_ids: list[Token]
    block_size: Count
    lora_id: Any = None
    medium: Any = None
    lora_name: Any = None
    extra_keys: Any = None
    group_idx: Any = None
    kv_cache_spec_kind: Any = None


class _RemovedMap(Struct, tag="BlockRemoved", gc=False):
    block_hashes: list[EngineHash]
    medium: Any = None
    group_idx: Any = None


class _ClearedMap(Struct, tag="AllBlocksCleared", gc=False):
    pass


class _StoredArray(_StoredMap, tag="BlockStored", array_like=True, gc=False):
    pass


class _RemovedArray(_RemovedMap, tag="BlockRemoved", array_like=True, gc=False):
    pass


class _ClearedArray(_ClearedMap, tag="AllBlocksCleared", array_like=True, gc=False):
    pass


class _BatchMap(Struct, gc=False):
    ts: float
    events: list[Raw]
    data_parallel_rank: Any = None


class _BatchArray(_BatchMap, array_like=True, gc=False):
    pass


_BATCHES = (Decoder(_BatchArray), Decoder(_BatchMap))
_EVENTS = (
    Decoder(_StoredArray | _RemovedArray | _ClearedArray),
    Decoder(_StoredMap | _RemovedMap | _ClearedMap),
)
_MAP_TYPES = (*range(0x80, 0x90), 0xDE, 0xDF)
"""First bytes of a map in MessagePack."""
_CLEARED = b"AllBlocksCleared"


def batch_of(payload: bytes) -> Batch:
    """Raises Malformed."""
    if not 0 < len(payload) <= MAX_BATCH_BYTES:
        raise Malformed("a batch is empty, or too large")
    try:
        batch = _BATCHES[payload[0] in _MAP_TYPES].decode(payload)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise Malformed(f"a batch is no batch: {str(error)[:80]}") from None
    if not math.isfinite(batch.ts) or len(batch.events) > MAX_EVENTS:
        raise Malformed("a batch has no time, or too many events")
    small = (event for event in batch.events if len(event) < 64)
    rank = batch.data_parallel_rank if type(batch.data_parallel_rank) is int else 0
    return Batch(batch.ts, batch.events, any(_CLEARED in bytes(event) for event in small), rank)


def event_of(raw: Raw) -> Stored | Removed | Cleared | None:
    """One event; None for one of a kind that says nothing to routing. Raises Malformed."""
    if not 0 < len(raw) <= MAX_EVENT_BYTES:
        raise Malformed("an event is empty, or too large")
    try:
        event = _EVENTS[memoryview(raw)[0] in _MAP_TYPES].decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        if _is_of_another_kind(raw):
            return None
        raise Malformed(f"an event is no event: {str(error)[:80]}") from None
    if isinstance(event, _ClearedMap):
        return Cleared()
    if isinstance(event, _RemovedMap):
        return Removed(event.block_hashes, _word(event.medium))
    return _stored(event)


def _stored(event: _StoredMap) -> Stored | None:
    if len(event.token_ids) != event.block_size * len(event.block_hashes):
        raise Malformed("there are not as many tokens as the blocks hold")
    if event.kv_cache_spec_kind not in WHOLE_PREFIX:
        return None
    extra = event.extra_keys
    has_extra = isinstance(extra, list) and len(extra) == len(event.block_hashes) and any(extra)
    number = event.lora_id
    adapter = _word(event.lora_name) or (str(number) if type(number) is int and number > 0 else "")
    return Stored(
        event.parent_block_hash,
        event.block_hashes,
        event.token_ids,
        event.block_size,
        adapter,
        extra if has_extra else (),
        _word(event.medium),
    )


def _is_of_another_kind(raw: Raw) -> bool:
    try:
        document = msgspec.msgpack.decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return False
    if isinstance(document, dict):
        name = document.get("type")
    else:
        name = document[0] if isinstance(document, list) and document else None
    return isinstance(name, str) and name not in NAMES


def _word(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= 256 else ""
