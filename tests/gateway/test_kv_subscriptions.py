"""An index is told what engines hold, over real sockets: in whatever form, whatever is lost, and whoever restarts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from kv_engine import KEY, SIZE, HandEngine, Notes, endpoint, free_port, hearing, stored, until

from penstock.decide import kv_sequence
from penstock.engine.kv_events import Publisher
from penstock.engine.prefixes import BLOCK_TOKENS, BlockMirror, Stored, block_hashes
from penstock.gateway import kv_subscription
from penstock.gateway.kv_events import KvEvents
from penstock.gateway.kv_index import KvIndex


@pytest.fixture(autouse=True)
def _pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay is not given up where ZeroMQ's own thread stands still for a while."""
    monkeypatch.setattr(kv_subscription, "REPLAY_TIMEOUT_S", 20.0)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def engines() -> Iterator[list[Any]]:
    opened: list[Any] = []
    yield opened
    for engine in opened:
        engine.close()


async def joined(engine: HandEngine, notes: Notes, events: KvEvents) -> None:
    """Until the subscription is heard at all: what is published before is lost to it."""
    engine.kept = [(0, msgspec.msgpack.encode({"ts": 0.0, "events": []}))]
    number = 0.0

    def knock() -> None:
        engine.answer()
        engine.send(b"", bytes(8), msgspec.msgpack.encode({"ts": number, "events": [stored(99)]}))

    await until(lambda: events.counts["applied"] + events.counts["repeated"] > 0, knock)
    notes.calls.clear()


async def test_what_the_embedded_engine_publishes_is_what_the_index_holds(
    notes: Notes, ports: tuple[int, int], engines: list[Any]
) -> None:
    live, again = (f"tcp://127.0.0.1:{port}" for port in ports)
    publisher = Publisher(live, again)
    engines.append(publisher)
    mirror = BlockMirror(64)
    early, late = [3] * BLOCK_TOKENS * 5, [5] * BLOCK_TOKENS * 2
    for prompt in (early, late):
        events, held = mirror.begin(prompt)
        publisher.publish(events)
        publisher.publish(mirror.end(held, prompt))
    wanted = {*block_hashes(early), *block_hashes(late)}
    async with hearing(KvEvents(notes), endpoint(*ports)) as kv:
        await until(lambda: notes.held.get(KEY) == wanted, publisher.answer_replays)
        assert kv.counts["replayed"] > 0
        await until(lambda: kv.trusts(endpoint(*ports)), publisher.answer_replays)


async def test_what_sockets_drop_under_a_flood_is_found_out_and_made_good(
    notes: Notes, ports: tuple[int, int], engines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.engine.kv_events.HIGH_WATER", 10)
    monkeypatch.setattr(kv_subscription, "WAITING_BATCHES", 10)
    monkeypatch.setattr(kv_subscription, "REPLAY_TIMEOUT_S", 1.0)
    monkeypatch.setattr(kv_sequence, "RETRY_S", 0.5)
    publisher = Publisher(*(f"tcp://127.0.0.1:{port}" for port in ports))
    engines.append(publisher)
    mirror, wanted = BlockMirror(128), set()

    def work(prompts: int) -> None:
        for number in range(prompts):
            prompt = [number % 500, *range(BLOCK_TOKENS * 6)]
            events, held = mirror.begin(prompt)
            events = [*events, *mirror.end(held, prompt)]
            publisher.publish(events)
            for event in events:
                (wanted.update if isinstance(event, Stored) else wanted.difference_update)(event.hashes)

    async with hearing(KvEvents(notes), endpoint(*ports)) as kv:
        await until(lambda: kv.trusts(endpoint(*ports)), publisher.answer_replays)
        completed = kv.counts["complete"]
        work(3000)
        await until(lambda: kv.counts["gap"] + kv.counts["late"] > 0, lambda: work(1))

        def go_on() -> None:
            work(1)
            publisher.answer_replays()

        await until(lambda: notes.held[KEY] == wanted and kv.counts["complete"] > completed, go_on)
        await until(lambda: not notes.doubts[KEY], go_on)


@pytest.mark.parametrize("frames", [3, 4])
async def test_what_was_lost_is_asked_for_again(
    frames: int, notes: Notes, ports: tuple[int, int], engines: list[Any]
) -> None:
    engine = HandEngine(*ports, frames=frames)
    engines.append(engine)
    async with hearing(KvEvents(notes), endpoint(*ports)) as kv:
        await joined(engine, notes, kv)
        engine.batch(1, stored(1))
        engine.batch(2, {"type": "BlockRemoved", "block_hashes": [1], "medium": None}, lost=True)
        engine.batch(3, stored(3), lost=True)
        engine.batch(4, stored(4))
        await until(lambda: notes.held.get(KEY, set()) >= {3, 4}, engine.answer)
        assert 1 not in notes.held[KEY]
        assert engine.asked[-1] == 1
        assert kv.counts["gap"] == 1
        await until(lambda: not notes.doubts[KEY], engine.answer)


async def test_a_gap_that_nobody_fills_is_doubted(
    notes: Notes, ports: tuple[int, int], engines: list[Any]
) -> None:
    engine = HandEngine(ports[0])
    engines.append(engine)
    async with hearing(KvEvents(notes), endpoint(ports[0])) as kv:
        await joined(engine, notes, kv)
        engine.batch(7, stored(7))
        await until(lambda: kv.counts["gap"] == 1)
        await until(lambda: notes.doubts[KEY])
        assert not kv.trusts(endpoint(ports[0]))
        engine.batch(8, {"type": "AllBlocksCleared"}, stored(8))
        await until(lambda: notes.held[KEY] == {8})
        assert not notes.doubts[KEY]


async def test_a_replay_that_nobody_answers_ends(
    notes: Notes, ports: tuple[int, int], engines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_subscription, "REPLAY_TIMEOUT_S", 0.05)
    engine = HandEngine(ports[0])
    engines.append(engine)
    async with hearing(KvEvents(notes), endpoint(*ports)) as kv:
        await until(lambda: kv.counts["failed"] > 0)
        await until(lambda: notes.doubts[KEY])


async def test_an_engine_that_restarts_under_its_address_holds_nothing_of_before(
    notes: Notes, ports: tuple[int, int], engines: list[Any]
) -> None:
    engine = HandEngine(*ports)
    engines.append(engine)
    async with hearing(KvEvents(notes), endpoint(*ports)) as kv:
        await joined(engine, notes, kv)
        for number in range(1, 6):
            engine.batch(number, stored(number))
        await until(lambda: 5 in notes.held[KEY], engine.answer)
        engine.close()
        other = HandEngine(*ports)
        engines[:] = [other]
        other.batch(0, stored(100), at=50.0)
        other.batch(1, stored(101), at=51.0)

        def again() -> None:
            other.answer()
            other.send(b"", (1).to_bytes(8, "big"), other.kept[1][1])

        await until(lambda: notes.held[KEY] == {100, 101}, again)
        assert kv.counts["restarted"] >= 1


async def test_a_batch_that_comes_twice_or_late_changes_nothing(
    notes: Notes, ports: tuple[int, int], engines: list[Any]
) -> None:
    engine = HandEngine(*ports)
    engines.append(engine)
    async with hearing(KvEvents(notes), endpoint(*ports)) as kv:
        await joined(engine, notes, kv)
        engine.batch(1, stored(1))
        engine.batch(2, {"type": "BlockRemoved", "block_hashes": [1]})
        engine.batch(1, stored(1))
        engine.batch(2, {"type": "BlockRemoved", "block_hashes": [1]})
        engine.batch(3, stored(3))
        await until(lambda: 3 in notes.held[KEY], engine.answer)
        assert 1 not in notes.held[KEY]
        assert kv.counts["repeated"] >= 2


async def test_what_cannot_be_read_is_counted_and_what_follows_is_heard(
    notes: Notes, ports: tuple[int, int], engines: list[Any]
) -> None:
    engine = HandEngine(*ports)
    engines.append(engine)
    async with hearing(KvEvents(notes), endpoint(*ports)) as kv:
        await joined(engine, notes, kv)
        before = kv.counts["malformed"]
        engine.send(b"")
        engine.send(b"", b"\xff" * 8, b"\x90")
        engine.send(b"", b"\x00", b"\x90")
        engine.send(b"", (1).to_bytes(8, "big"), b"\xc1")
        engine.send(b"", (1).to_bytes(8, "big"), b"\x91" * 9000)
        engine.send(*[b"x"] * 40)
        engine.batch(1, {"type": "BlockStored", "block_hashes": "nonsense"})
        engine.batch(2, stored(2))
        await until(lambda: 2 in notes.held[KEY], engine.answer)
        assert kv.counts["malformed"] - before == 7
        assert ("restarted",) in notes.calls


async def test_of_several_ranks_on_one_socket_one_is_heard_until_it_falls_silent(
    notes: Notes, ports: tuple[int, int], engines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_subscription, "RANK_S", 600.0)
    engine = HandEngine(ports[0])
    engines.append(engine)

    def other(number: int, *hashes: int) -> None:
        batch = {"ts": 1000.0 + number, "events": [stored(*hashes)], "data_parallel_rank": 1}
        engine.send(b"", number.to_bytes(8, "big"), msgspec.msgpack.encode(batch))

    async with hearing(KvEvents(notes), endpoint(ports[0])) as kv:
        await joined(engine, notes, kv)
        for number in range(1, 4):
            engine.batch(number, stored(number))
            other(number + 7, 100 + number)
        await until(lambda: 3 in notes.held[KEY] and kv.counts["other_rank"] == 3)
        assert notes.held[KEY] >= {1, 2, 3}
        assert not notes.held[KEY] & {101, 102, 103}
        assert kv.trusts(endpoint(ports[0]))
        monkeypatch.setattr(kv_subscription, "RANK_S", 0.0)
        other(20, 120)
        await until(lambda: notes.held[KEY] == {120})


async def test_a_large_event_is_applied_in_slices_that_chain(
    notes: Notes, ports: tuple[int, int], engines: list[Any]
) -> None:
    engine = HandEngine(*ports)
    engines.append(engine)
    count = kv_subscription.SLICE_BLOCKS * 2 + 7
    async with hearing(KvEvents(notes), endpoint(*ports)) as kv:
        await joined(engine, notes, kv)
        engine.batch(1, stored(*range(1, count + 1), parent=b"root"))
        await until(lambda: count in notes.held[KEY], engine.answer)
        slices = [call for call in notes.calls if call[0] == "stored"]
        assert [call[1] for call in slices] == [b"root", 256, 512]
        assert [token for call in slices for token in call[3]] == list(range(count * SIZE))


async def test_blocks_that_leave_a_slower_tier_stay_on_the_gpu(
    notes: Notes, ports: tuple[int, int], engines: list[Any]
) -> None:
    engine = HandEngine(*ports)
    engines.append(engine)
    async with hearing(KvEvents(notes), endpoint(*ports)) as kv:
        await joined(engine, notes, kv)
        engine.batch(1, stored(1, medium="GPU"), stored(1, medium="CPU"))
        engine.batch(2, {"type": "BlockRemoved", "block_hashes": [1], "medium": "CPU"}, stored(2))
        await until(lambda: 2 in notes.held[KEY], engine.answer)
        assert 1 in notes.held[KEY]


async def test_an_endpoint_that_left_is_listened_to_no_more(
    notes: Notes, ports: tuple[int, int], engines: list[Any]
) -> None:
    engine = HandEngine(*ports)
    engines.append(engine)
    async with hearing(KvEvents(notes), endpoint(*ports)) as kv:
        await joined(engine, notes, kv)
        await until(lambda: kv.trusts(endpoint(*ports)), engine.answer)
        completed = kv.counts["complete"]
        kv.watch([])
        assert not kv.trusts(endpoint(*ports))
        kv.watch([endpoint(*ports)])
        await until(lambda: kv.counts["complete"] > completed, engine.answer)


async def test_the_gateways_own_index_follows_an_engine(ports: tuple[int, int], engines: list[Any]) -> None:
    publisher = Publisher(*(f"tcp://127.0.0.1:{port}" for port in ports))
    engines.append(publisher)
    mirror, prompt = BlockMirror(64), list(range(BLOCK_TOKENS * 8 + 1))
    index = KvIndex(BLOCK_TOKENS, "m")
    index.add(KEY, 64)
    async with hearing(KvEvents(index), endpoint(*ports)) as kv:
        await until(lambda: kv.trusts(endpoint(*ports)), publisher.answer_replays)
        events, held = mirror.begin(prompt)
        publisher.publish([*events, *mirror.end(held, prompt)])
        await until(lambda: index.knowledge(KEY).blocks == 8, publisher.answer_replays)
        assert index.knowledge(KEY).is_precise
