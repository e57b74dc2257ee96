"""What several workers admit together, over real Unix sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_gateway_quota import call, key, limit, served, table

from penstock.contracts.exchange import KeyRoute, RouteTable
from penstock.decide.quota import refill
from penstock.gateway.peers import Peers
from penstock.gateway.quota import Quota
from penstock.gateway.quota_peers import EXCHANGE_S, MAX_ENTRIES, QuotaPeers
from penstock.kit.errors import Exhausted
from penstock.testing.clock import HandClock

KEY = key(limit(600, 60_000))
"""300 calls of 200 tokens, and 5 more each second."""


class Worker:
    def __init__(self, folder: Path, name: str, clock: HandClock, of: RouteTable) -> None:
        self.clock = clock
        self.peers = Peers(folder, name)
        self.quota = Quota(clock)
        self.quota.apply(of)
        self.exchange = QuotaPeers(self.quota, self.peers, clock)

    def admits(self, of: KeyRoute = KEY) -> bool:
        try:
            self.quota.reserve(call(of, max_tokens=100))
        except Exhausted:
            return False
        return True

    def levels(self) -> list[tuple[float, float]]:
        for bucket in self.quota.buckets.values():
            refill(bucket, self.clock.at)
        return [(round(b.requests, 6), round(b.tokens, 6)) for b in self.quota.buckets.values()]


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[list[Worker]]:
    clock = HandClock(1000.0)
    made = [Worker(tmp_path / "workers", str(n), clock, table(KEY)) for n in range(3)]
    for worker in made:
        await worker.peers.open()
    yield made
    for worker in made:
        worker.peers.close()


async def exchange(workers: list[Worker]) -> None:
    for worker in workers:
        worker.exchange.tell()
    await all_is_heard()


async def all_is_heard() -> None:
    """What was said lies in the sockets at once; each turn of the loop takes some of it."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_one_worker_took_is_gone_in_all(workers: list[Worker]) -> None:
    a, b, c = workers
    asked = call(KEY, max_tokens=900)
    a.quota.reserve(asked)
    await exchange(workers)
    assert a.levels() == b.levels() == c.levels() == [(599, 59_000)]
    a.quota.settle(served(asked, 50, 50))
    assert b.admits()
    await exchange(workers)
    assert a.levels() == b.levels() == c.levels() == [(598, 59_700)]


async def test_together_they_exceed_a_limit_by_what_the_others_take_between_two_exchanges(
    workers: list[Worker],
) -> None:
    clock, per_exchange = workers[0].clock, 20
    started, admitted = clock.at, 0
    for _ in range(600):
        for worker in workers:
            admitted += sum(worker.admits() for _ in range(per_exchange))
        await exchange_now(workers)
        clock.at += EXCHANGE_S
        allowed = 300 + 5 * (clock.at - started)
        assert admitted <= allowed + (len(workers) - 1) * per_exchange
    assert admitted >= allowed - 5


async def exchange_now(workers: list[Worker]) -> None:
    for worker in workers:
        worker.exchange.tell()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_at_worst_every_worker_empties_its_own_bucket_and_all_pay_it_back(
    workers: list[Worker],
) -> None:
    first = sum(worker.admits() for worker in workers for _ in range(1000))
    assert first == 3 * 300
    await exchange(workers)
    assert {level for worker in workers for level in worker.levels()} == {(-300, -120_000)}
    workers[0].clock.at += 120
    assert not any(worker.admits() for worker in workers)
    workers[0].clock.at += 0.3
    assert workers[0].admits()


async def test_what_found_no_room_is_told_with_the_next_exchange(workers: list[Worker]) -> None:
    a, b, c = workers
    while a.peers.broadcast("noise", b""):
        pass
    assert a.admits()
    a.exchange.tell()
    assert a.peers.unheard > 1
    await all_is_heard()
    assert a.admits()
    await exchange(workers)
    await exchange(workers)
    assert a.levels() == b.levels() == c.levels() == [(598, 59_600)]


async def test_a_worker_that_joins_has_no_fresh_buckets(workers: list[Worker], tmp_path: Path) -> None:
    for _ in range(100):
        workers[1].admits()
    late = Worker(tmp_path / "workers", "9", workers[0].clock, table(KEY))
    await late.peers.open()
    await late.exchange.join()
    assert late.levels() == [(500, 40_000)]
    late.peers.close()


async def test_a_restarted_worker_of_the_same_name_gives_nothing_back(
    workers: list[Worker], tmp_path: Path
) -> None:
    a, b, _ = workers
    a.admits()
    await exchange(workers)
    a.peers.close()
    again = Worker(tmp_path / "workers", "0", a.clock, table(KEY))
    await again.peers.open()
    again.admits()
    await exchange([again])
    assert b.levels() == [(598, 59_600)]
    again.peers.close()


async def test_many_buckets_take_several_datagrams(tmp_path: Path) -> None:
    keys = [key(limit(600), id=f"k{n}") for n in range(3 * MAX_ENTRIES)]
    clock = HandClock(1000.0)
    pair = [Worker(tmp_path / "workers", name, clock, table(*keys)) for name in "ab"]
    for worker in pair:
        await worker.peers.open()
    for k in keys:
        assert pair[0].admits(k)
    await exchange(pair)
    await exchange(pair)
    assert {level[0] for level in pair[1].levels()} == {599}
    for worker in pair:
        worker.peers.close()


async def test_nothing_is_remembered_of_limits_that_are_gone(workers: list[Worker]) -> None:
    a, b, _ = workers
    a.admits()
    await exchange(workers)
    for worker in (a, b):
        worker.quota.apply(table())
        worker.exchange.tell()
        assert not worker.exchange._taken
        assert not worker.exchange._heard
        assert not any(worker.exchange._seen.values())


class Lossy:
    """Stands between workers: each datagram reaches those whom the script of a test lets it reach."""

    def __init__(self) -> None:
        self.ears: dict[str, Callable[[str, bytes], None]] = {}
        self.deaf: set[str] = set()

    def of(self, name: str) -> Peers:
        return cast(Peers, Ear(self, name))


class Ear:
    malformed = 0

    def __init__(self, wire: Lossy, name: str) -> None:
        self._wire, self._name = wire, name

    def subscribe(self, kind: str, callback: Callable[[str, bytes], None]) -> None:
        self._wire.ears[self._name] = callback

    def answer(self, kind: str, callback: Callable[[], bytes]) -> None:
        """Nobody gathers here."""

    def broadcast(self, kind: str, payload: bytes) -> bool:
        others = self._wire.ears.keys() - {self._name}
        for name in others - self._wire.deaf:
            self._wire.ears[name](self._name, payload)
        return not others & self._wire.deaf


NAMES = ("a", "b", "c")
steps = st.tuples(
    st.sampled_from(NAMES),
    st.integers(0, 900),
    st.integers(-1, 900),
    st.booleans(),
    st.sets(st.sampled_from(NAMES)),
)


@given(st.lists(steps, max_size=30))
def test_whatever_is_lost_all_workers_end_with_the_same_levels(
    sequence: list[tuple[str, int, int, bool, set[str]]],
) -> None:
    wire, clock, taken = Lossy(), HandClock(1000.0), [0, 0]
    of = table(key(limit(10**6, 10**6)))
    quotas = {name: Quota(clock) for name in NAMES}
    exchanges = {name: QuotaPeers(quota, wire.of(name), clock) for name, quota in quotas.items()}
    for quota in quotas.values():
        quota.apply(of)
    for name, max_tokens, told, tells, deaf in sequence:
        asked = call(of.keys[0], max_tokens=max_tokens + 1)
        quotas[name].reserve(asked)
        quotas[name].settle(served(asked, told, told))
        taken[0] += 1
        taken[1] += 2 * told if told >= 0 else 100 + max_tokens + 1
        wire.deaf = deaf
        if tells:
            exchanges[name].tell()
    wire.deaf = set()
    for exchange_of in exchanges.values():
        exchange_of.tell()
    for quota in quotas.values():
        (bucket,) = quota.buckets.values()
        assert (bucket.requests, bucket.tokens) == (10**6 - taken[0], 10**6 - taken[1])
