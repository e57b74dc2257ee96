"""Whatever form an engine writes KV events in, the same is read; whatever else comes is refused, never believed."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from penstock.gateway.kv_event_codec import (
    MAX_BATCH_BYTES,
    MAX_EVENT_BYTES,
    MAX_EVENTS,
    Cleared,
    Malformed,
    Removed,
    Stored,
    batch_of,
    event_of,
)

pack = msgspec.msgpack.encode
KEYS = [["salt"], None]


def read(event: Any) -> Any:
    return event_of(Raw(pack(event)))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            ["BlockStored", [1, 2], None, [5, 6, 7, 8], 2, None],
            Stored(None, [1, 2], [5, 6, 7, 8], 2, "", (), ""),
        ),
        (["BlockStored", [b"x" * 32], 9, [5], 1], Stored(9, [b"x" * 32], [5], 1, "", (), "")),
        (
            ["BlockStored", [1, 2], 7, [5, 6], 1, 3, "GPU", "poet", KEYS, 0, "full_attention", None, "new"],
            Stored(7, [1, 2], [5, 6], 1, "poet", KEYS, "GPU"),
        ),
        (
            {
                "type": "BlockStored",
                "block_hashes": [1],
                "parent_block_hash": b"p",
                "token_ids": [5],
                "block_size": 1,
                "lora_id": 3,
                "later": {"a": [1]},
            },
            Stored(b"p", [1], [5], 1, "3", (), ""),
        ),
        (["BlockRemoved", [1]], Removed([1], "")),
        (["BlockRemoved", [-1, b"x"], "CPU", 0, 1], Removed([-1, b"x"], "CPU")),
        ({"type": "BlockRemoved", "block_hashes": [1], "medium": "GPU"}, Removed([1], "GPU")),
        (["AllBlocksCleared"], Cleared()),
        ({"type": "AllBlocksCleared"}, Cleared()),
        (["BlockMoved", 1, 2], None),
        ({"type": "BlockMoved", "to": 2}, None),
        (["BlockStored", [1], None, [5], 1, None, "GPU", None, None, 1, "sliding_window", 128], None),
    ],
)
def test_both_encodings_short_and_long(event: Any, expected: Any) -> None:
    assert read(event) == expected


@pytest.mark.parametrize(
    "event",
    [
        ["BlockStored", [1], None, [5, 6], 1],
        ["BlockStored", [1], None, [5], 0],
        ["BlockStored", [1], None, [5], 1 << 40],
        ["BlockStored", [1], None, [-5], 1],
        ["BlockStored", [1], None, [1 << 32], 1],
        ["BlockStored", [1.5], None, [5], 1],
        ["BlockStored", [b""], None, [5], 1],
        ["BlockStored", [b"x" * 65], None, [5], 1],
        ["BlockStored", [1], "parent", [5], 1],
        ["BlockStored"],
        ["BlockRemoved", 5],
        {"block_hashes": [1]},
        [],
        {},
        5,
        None,
        "BlockStored",
    ],
)
def test_events_that_are_none_are_refused(event: Any) -> None:
    with pytest.raises(Malformed):
        read(event)


def test_a_batch_is_read_in_both_encodings() -> None:
    for batch in (
        [1.5, [["AllBlocksCleared"]], 3, "new"],
        {"ts": 1.5, "events": [["AllBlocksCleared"]], "x": 1},
    ):
        found = batch_of(pack(batch))
        assert (found.at, len(found.events), found.clears) == (1.5, 1, True)
    ranks = [
        [1, [], 3],
        {"ts": 1, "events": [], "data_parallel_rank": 3},
        [1, []],
        [1, [], None],
        [1, [], "3"],
    ]
    assert [batch_of(pack(batch)).rank for batch in ranks] == [3, 3, 0, 0, 0]
    assert not batch_of(pack([1, [["BlockRemoved", [1]]]])).clears


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        pack([1.0]),
        pack({"ts": 1.0}),
        pack([math.nan, []]),
        pack([math.inf, []]),
        pack(["now", []]),
        pack([1.0, [0] * (MAX_EVENTS + 1)]),
        b"\x91" * 100_000,
        bytes(MAX_BATCH_BYTES + 1),
    ],
    ids=range(10),
)
def test_batches_that_are_none_are_refused(payload: bytes) -> None:
    with pytest.raises(Malformed):
        batch_of(payload)


def test_an_event_that_would_hold_the_loop_is_refused_unread() -> None:
    with pytest.raises(Malformed):
        event_of(Raw(pack(["BlockRemoved", [b"x" * 60] * (MAX_EVENT_BYTES // 60)])))


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(["BlockStored", "BlockRemoved", "AllBlocksCleared", "Else"])


@given(
    st.binary(max_size=200) | anything.map(pack) | st.tuples(names, anything, anything, anything).map(pack)
)
def test_nothing_that_comes_does_anything_but_be_read_or_refused(payload: bytes) -> None:
    for read_one in (batch_of, lambda raw: event_of(Raw(raw))):
        try:
            found = read_one(payload)
        except Malformed:
            continue
        if isinstance(found, Stored):
            assert len(found.tokens) == len(found.hashes) * found.block_size
