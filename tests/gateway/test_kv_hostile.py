"""Whatever an engine sends over its socket, what is kept of it is bounded, and what it tells truly afterwards is taken."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kv_engine import KEY, HandEngine, endpoint, free_port, hearing, until

from penstock.decide import kv_sequence
from penstock.gateway import kv_subscription
from penstock.gateway.kv_blocks import NAMED, Cutting
from penstock.gateway.kv_events import KvEvents
from penstock.gateway.kv_index import MOST_BLOCKS, KvIndex
from penstock.kit.hashing import chain_seed, token_blocks

SIZE, CAPACITY = 4, 64
PROMPTS = [*range(100, 100 + 8 * SIZE)], [*range(200, 200 + 8 * SIZE)]

hashes = st.lists(st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=70) | st.none(), max_size=6)
stored = st.builds(
    lambda names, parent, size, extra: {
        "type": "BlockStored",
        "block_hashes": names,
        "parent_block_hash": parent,
        "token_ids": [7] * (len(names) * max(size, 0)),
        "block_size": size,
        **extra,
    },
    hashes,
    st.none() | st.integers(0, 9),
    st.sampled_from([-1, 0, 1, 2, 3, 4, 8, 64, 65_536]),
    st.dictionaries(st.sampled_from(["medium", "lora_name", "lora_id", "extra_keys", "new"]), st.text()),
)
removed = hashes.map(lambda names: {"type": "BlockRemoved", "block_hashes": names})
event = (
    stored | removed | st.just({"type": "AllBlocksCleared"}) | st.integers(-9, 9) | st.just({"type": "Else"})
)
at = st.sampled_from([0.0, 1.0, 50.0, 1e300, -1e300, float("nan"), float("inf"), "now"])


def as_array(one: Any) -> Any:
    return list(one.values()) if isinstance(one, dict) else one


batch = st.builds(
    lambda is_map, moment, events: msgspec.msgpack.encode(
        {"ts": moment, "events": events} if is_map else [moment, [as_array(one) for one in events], 1]
    ),
    st.booleans(),
    at,
    st.lists(event, max_size=5),
)
broken = st.builds(
    lambda whole, place, byte: (
        whole[: place % len(whole)] + (bytes([byte]) if place % 2 else b"") + whole[place % len(whole) + 1 :]
    ),
    batch,
    st.integers(0, 10_000),
    st.integers(0, 255),
)
number = st.sampled_from([0, 1, 2, 3, 4, 5, 9, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
message = st.tuples(
    st.sampled_from([b"", b"kv@here"]),
    number.map(lambda one: one.to_bytes(8, "big")) | st.binary(max_size=9),
    batch | broken | st.binary(max_size=40),
) | st.lists(st.binary(max_size=9), min_size=1, max_size=5).map(tuple)


def told(index: KvIndex, prompt: list[int]) -> bool:
    blocks = token_blocks(prompt, SIZE, chain_seed("m"))
    return index.match(blocks, 0.0) == {KEY: len(blocks)}


class TrueEngine(HandEngine):
    """Stores one prompt again and again, as its tokens say, under numbers that follow each other."""

    prompt = PROMPTS[0]
    upcoming = 0

    def tell(self) -> None:
        whole = {
            "type": "BlockStored",
            "block_hashes": [*range(self.prompt[0] * 10, self.prompt[0] * 10 + 8)],
            "parent_block_hash": None,
            "token_ids": self.prompt,
            "block_size": SIZE,
        }
        self.batch(self.upcoming, whole, at=10.0 + self.upcoming / 1000)
        self.upcoming += 1
        self.answer()


async def hear(messages: list[tuple[bytes, ...]], *, keeps: bool) -> None:
    """An engine that tells the truth, then these, then another truth, as often as it takes."""
    ports = free_port(), free_port() if keeps else 0
    index, engine = KvIndex(SIZE, "m"), TrueEngine(*ports)
    index.add(KEY, CAPACITY)
    with contextlib.closing(engine):
        async with hearing(KvEvents(index), endpoint(*ports)):
            await until(lambda: told(index, PROMPTS[0]), engine.tell)
            for frames in messages:
                engine.send(*frames)
            engine.prompt = PROMPTS[1]
            await until(lambda: told(index, PROMPTS[1]), engine.tell)
            known = index.knowledge(KEY)
            assert known.blocks <= CAPACITY
            assert len(index._endpoints[KEY].told) <= NAMED * CAPACITY * SIZE
            assert len(index) <= 4 * CAPACITY + 512


@pytest.mark.parametrize("keeps", [True, False], ids=["replay", "no replay"])
def test_after_whatever_came_the_truth_is_taken_again(keeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_subscription, "REPLAY_TIMEOUT_S", 0.1)
    monkeypatch.setattr(kv_sequence, "RETRY_S", 0.1)
    monkeypatch.setattr(kv_sequence, "REPEATS_S", 0.3)

    @settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(message, max_size=8))
    def holds(messages: list[tuple[bytes, ...]]) -> None:
        asyncio.run(hear(messages, keeps=keeps))

    holds()


MOMENTS = [(1 << 40, 1e12), (3, 1e12), (1 << 62, 20.0)]


@pytest.mark.parametrize(("number", "moment"), MOMENTS, ids=["far and late", "late", "far"])
@pytest.mark.parametrize("keeps", [True, False], ids=["replay", "no replay"])
@pytest.mark.parametrize("clears", [True, False])
async def test_one_batch_of_a_wild_number_or_date_does_not_silence_an_engine(
    number: int, moment: float, keeps: bool, clears: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_subscription, "REPLAY_TIMEOUT_S", 0.1)
    monkeypatch.setattr(kv_sequence, "RETRY_S", 0.1)
    monkeypatch.setattr(kv_sequence, "REPEATS_S", 0.3)
    events = [{"type": "AllBlocksCleared"}] if clears else []
    wild = msgspec.msgpack.encode({"ts": moment, "events": events})
    await hear([(b"", number.to_bytes(8, "big"), wild)], keeps=keeps)


def test_a_cache_is_taken_to_be_no_larger_than_there_is_room_for_here() -> None:
    index = KvIndex(SIZE, "m")
    index.add(KEY, 10**18)
    assert index.knowledge(KEY).capacity_blocks == MOST_BLOCKS
    index.add(KEY, CAPACITY)
    index.add(KEY, 10**18)
    assert index.knowledge(KEY).capacity_blocks == MOST_BLOCKS


@pytest.mark.parametrize("size", [1, 2, 4, 64, 256])
def test_blocks_of_any_size_are_named_within_bounds(size: int) -> None:
    """Also where each is many of ours."""
    index = KvIndex(SIZE, "m")
    index.add(KEY, CAPACITY)
    for name in range(3 * NAMED * CAPACITY * SIZE // size):
        index.stored(KEY, None, [name], [name] * size, size)
    names = index._endpoints[KEY].told
    ours = sum(
        len(named.whole) for part in names._parts for named in part.values() if isinstance(named, Cutting)
    )
    assert len(names) * min(size, SIZE) <= NAMED * CAPACITY * SIZE
    assert ours <= NAMED * CAPACITY


def test_an_engine_that_can_never_be_read_is_forgotten_once_and_not_each_time() -> None:
    """Each time would take a bit of its own, and numbers of thousands of bits are slow."""
    index, blocks = KvIndex(SIZE, "m"), token_blocks(PROMPTS[0], SIZE, chain_seed("m"))
    index.add(KEY, CAPACITY)
    for turn in range(3000):
        index.restarted(KEY)
        if turn % 100 == 0:
            index.sent(KEY, blocks, 0.0)
            index.stored(KEY, None, [*range(8)], PROMPTS[0], SIZE)
    assert len(index._owners._slots) < 10
    index.stored(KEY, None, [*range(8)], PROMPTS[0], SIZE)
    assert told(index, PROMPTS[0])
