"""The gateway's side of the exchange, against a control plane on a real socket that comes, goes and misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec
import pytest
from gateway_world import ControlPlane, Gateway, SetClock, service, until

from penstock.app.registry import open_profile
from penstock.contracts.exchange import RouteTable
from penstock.gateway import feed as feed_module
from penstock.gateway import state as state_module
from penstock.gateway.access import Access
from penstock.gateway.feed import Feed
from penstock.gateway.listen import upstream_context
from penstock.gateway.quota import Quota
from penstock.gateway.state import State
from penstock.gateway.telemetry.metrics import Telemetry
from penstock.gateway.telemetry.records import Records
from penstock.gateway.trace import Traces
from penstock.gateway.wire.pool import Pool
from penstock.kit.clock import Clock, SystemClock
from penstock.kit.tasks import end


def table(version: int, *names: str) -> RouteTable:
    return RouteTable(version=version, services=tuple(service(name=name) for name in names))


def new_state(name: str, clock: Clock | None = None) -> State:
    """As a worker has it, alone and without keys."""
    clock, telemetry = clock or SystemClock(), Telemetry()
    return State(
        clock,
        name,
        10,
        access=Access(b"", False, clock),
        quota=Quota(clock),
        traces=Traces(0.0),
        pool=Pool(upstream_context(None)),
        telemetry=telemetry,
        records=Records(telemetry, clock),
        open_profile=open_profile,
    )


class Side:
    """The gateway's state and feed, as `gateway.server.serve` joins them."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.kept = folder / "route-table.json"
        clock = clock or SystemClock()
        self.state = new_state("gateway-1", clock)
        self.feed = Feed(folder / "feed.sock", self.kept, clock, self.state.apply, self.state.report)
        self.state.on_wake = self.feed.wake

    @property
    def version(self) -> int:
        return self.state.names.table.version

    @property
    def kept_version(self) -> int:
        return (
            msgspec.json.decode(self.kept.read_bytes(), type=RouteTable).version if self.kept.exists() else 0
        )

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.feed.run())
        try:
            yield
            assert not running.done(), "the feed lives on, whatever comes"
        finally:
            await end([running])


@pytest.fixture
async def side(tmp_path: Path) -> Side:
    return Side(tmp_path)


async def test_the_table_that_is_sent_is_served_and_kept_and_serves_again_without_a_control_plane(
    tmp_path: Path, side: Side
) -> None:
    assert side.feed.load() is False
    async with ControlPlane(tmp_path, table(5, "a")) as control, side.connected():
        await until(lambda: side.kept_version == 5)
        assert side.state.names.service("a").name == "a"
        control.send(table(6, "a", "b"))
        await until(lambda: side.kept_version == 6)
    later = Side(tmp_path)
    assert later.feed.load() is True
    assert (later.version, [s.name for s in later.state.names.table.services]) == (6, ["a", "b"])
    assert not list(tmp_path.glob("*.new")), "nothing half written stays"
    assert later.kept.stat().st_mode & 0o777 == 0o600, "it holds hashes of keys"


async def test_an_older_table_is_neither_served_nor_kept_and_that_is_said(
    tmp_path: Path, side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    async with ControlPlane(tmp_path, table(5, "new")) as control, side.connected():
        await until(lambda: side.kept_version == 5)
        control.send(table(4, "old"))
        await until(lambda: "the route table 4 is ignored: the one in force is newer, 5" in caplog.text)
        control.send(table(5, "again"))
        control.send(table(7, "newest"))
        await until(lambda: side.kept_version == 7)
    assert [s.name for s in side.state.names.table.services] == ["newest"]
    assert "again" not in side.kept.read_text()


async def test_the_gateway_serves_on_while_the_control_plane_is_away_and_finds_the_next_one(
    tmp_path: Path, side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    async with side.connected():
        await until(lambda: "cannot be reached" in caplog.text)
        async with ControlPlane(tmp_path, table(1, "a")):
            await until(lambda: side.version == 1)
        await until(lambda: caplog.text.count("cannot be reached") == 2)
        await asyncio.sleep(0.15)
        assert side.state.names.service("a").name == "a"
        async with ControlPlane(tmp_path, table(2, "b")) as control:
            await until(lambda: side.version == 2)
            await control.hang_up()
            await until(lambda: control.connections == 2)
            assert caplog.text.count("cannot be reached") == 2, "once for each time away, not for each try"


@pytest.mark.parametrize(
    "line",
    [
        b"{\n",
        b"no json\n",
        b'{"services":[]}\n',
        b'{"version":1,"services":[{"namespace":"\xff"}]}\n',
        b'{"version":1,"unknown":' + b"[" * 60_000 + b"\n",
    ],
    ids=["cut", "no-json", "no-version", "no-utf-8", "nested"],
)
async def test_a_broken_line_is_noted_and_the_gateway_connects_again(
    tmp_path: Path, side: Side, caplog: pytest.LogCaptureFixture, line: bytes
) -> None:
    async with ControlPlane(tmp_path, line) as control, side.connected():
        await until(lambda: control.connections)
        control.greeting = table(3, "a")
        await until(lambda: side.version == 3)
    assert "the control plane's line broke: " in caplog.text


async def test_a_table_beyond_the_bound_breaks_the_line(
    tmp_path: Path, side: Side, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "MAX_LINE_BYTES", 1000)
    async with ControlPlane(tmp_path, b" " * 5000 + b"\n") as control, side.connected():
        await until(lambda: control.connections)
        control.greeting = table(3, "a")
        await until(lambda: side.version == 3)
    assert "line broke" in caplog.text


async def test_a_gateway_that_is_stopped_while_a_broken_line_ends_leaves_no_line_open(
    tmp_path: Path, side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = asyncio.Event()

    async def ends_slowly(tasks: Iterable[asyncio.Task[str]]) -> None:
        if not ending.is_set():
            ending.set()
            await asyncio.Event().wait()
        await end(tasks)

    monkeypatch.setattr(feed_module, "end", ends_slowly)
    async with ControlPlane(tmp_path, b"broken\n") as control:
        running = asyncio.create_task(side.feed.run())
        await until(ending.is_set)
        await end([running])
        await until(lambda: control.is_alone)


async def test_a_control_plane_that_only_breaks_lines_is_asked_less_and_less_often(tmp_path: Path) -> None:
    pauses: list[float] = []

    class Notes(SystemClock):
        async def sleep(self, seconds: float) -> None:
            assert control.connections == len(pauses) + 1, "one more after each pause"
            pauses.append(seconds)
            await asyncio.sleep(0)

    async with ControlPlane(tmp_path, b"broken\n") as control, Side(tmp_path, Notes()).connected():
        await until(lambda: len(pauses) >= 7)
    assert pauses[:7] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@pytest.mark.parametrize(
    "kept",
    [
        b"",
        b'{"version": 3, "servi',
        b'{"version":1,"services":[{"namespace":"\xff"}]}',
        b'{"version":1,"unknown":' + b"[" * 60_000,
    ],
    ids=["empty", "cut", "no-utf-8", "nested"],
)
async def test_a_kept_table_that_is_broken_is_noted_and_the_next_one_is_taken(
    tmp_path: Path, side: Side, caplog: pytest.LogCaptureFixture, kept: bytes
) -> None:
    side.kept.write_bytes(kept)
    assert side.feed.load() is False
    assert not side.state.loaded
    assert f"the kept route table {side.kept} cannot be used" in caplog.text
    async with ControlPlane(tmp_path, table(1, "a")), side.connected():
        await until(lambda: side.kept.read_bytes() != kept)
    assert (side.version, side.kept_version) == (1, 1)


async def test_a_table_that_cannot_be_kept_is_served_all_the_same(
    tmp_path: Path, side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    side.kept.mkdir()
    async with ControlPlane(tmp_path, table(1, "a")), side.connected():
        await until(lambda: "could not be kept" in caplog.text)
    assert side.version == 1


async def test_a_report_goes_out_each_second_and_says_what_is_served(tmp_path: Path, side: Side) -> None:
    async with ControlPlane(tmp_path, table(5, "m")) as control, side.connected():
        await until(lambda: side.version == 5)
        load = side.state.begin(("default", "m"), side.state.clock.monotonic())
        await until(lambda: sum(bool(report.services) for report in control.reports) >= 2)
        side.state.end(("default", "m"), load, side.state.clock.monotonic(), failed=False)
    reports = [report for report in control.reports if report.services][:2]
    for report in reports:
        assert 0.9 < report.window_s < 30
        assert (report.gateway, report.table_version) == ("gateway-1", 5)
    demands = [report.services[0] for report in reports]
    assert [d.requests for d in demands] == [1, 0], "each is counted in one report"
    assert demands[1].in_flight == pytest.approx(1.0, rel=0.05)


async def test_a_wake_is_reported_at_once_also_when_it_came_before_the_connection(
    tmp_path: Path, side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "REPORT_EVERY_S", 600.0)
    side.feed.wake()
    async with ControlPlane(tmp_path) as control, side.connected():
        await until(lambda: len(control.reports) == 1)
        side.feed.wake()
        await until(lambda: len(control.reports) == 2)


async def test_what_ran_while_the_control_plane_was_away_is_an_average_over_all_of_that_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SetClock()
    side = Side(tmp_path, clock)
    async with side.connected():
        load = side.state.begin(("default", "m"), clock.at)
        await until(lambda: "cannot be reached" in caplog.text)
        clock.at += 20.0
        side.feed.wake()
        async with ControlPlane(tmp_path) as control:
            await until(lambda: control.reports)
        side.state.end(("default", "m"), load, clock.at, failed=False)
    report = control.reports[0]
    assert report.window_s == 20.0
    assert report.services[0].in_flight == 1.0, "one request ran, no more"


async def test_a_fault_in_the_gateway_itself_is_logged_and_does_not_end_its_feed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [RuntimeError("a fault of ours")]
    apply = State.apply

    def fail_once(state: State, given: RouteTable) -> bool:
        if given.version == 2 and faults:
            raise faults.pop()
        return apply(state, given)

    monkeypatch.setattr(State, "apply", fail_once)
    async with ControlPlane(tmp_path, table(2, "a")) as control, Gateway(tmp_path):
        await until(lambda: control.reports and control.reports[-1].table_version == 2)
    assert control.connections == 2
    assert "a fault of ours" in caplog.text


async def test_a_report_forgets_what_is_over() -> None:
    state = new_state("g")
    now = state.clock.monotonic()
    state.demand.of(("default", "m")).wait(now)
    assert state.report(1.0).services[0].wake is True
    state.demand.of(("default", "m")).leave(state.clock.monotonic(), runs=False, failed=False)
    assert state.report(1.0).services[0].wake is False
    state.end(("default", "n"), state.begin(("default", "n"), now), now, failed=True)
    assert (state.report(1.0).services[0].requests, state.total_in_flight) == (1, 0)
    assert state.report(1.0).services == ()
    assert state.apply(RouteTable(version=1))
    assert not state.demand.loads


async def readiness(gateway: Gateway) -> bytes:
    return (await gateway.raw(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).split(b" ")[1]


async def test_with_kept_routes_a_gateway_is_ready_once_the_control_plane_has_told_it_its_own(
    tmp_path: Path,
) -> None:
    async with Gateway(tmp_path, service(name="a"), clock=SetClock()) as gateway:
        assert await readiness(gateway) == b"503"
        async with ControlPlane(tmp_path, table(1, "a")) as control:
            await until(lambda: control.reports)
            assert await readiness(gateway) == b"200", "the same table as the kept one is news all the same"
        assert await readiness(gateway) == b"200", "who goes away later takes nothing with it"


async def test_kept_routes_must_do_where_no_control_plane_comes(tmp_path: Path) -> None:
    clock = SetClock()
    async with Gateway(tmp_path, service(name="a"), clock=clock) as gateway:
        clock.at += state_module.CONTROL_PLANE_START_S - 0.1
        assert await readiness(gateway) == b"503"
        clock.at += 0.2
        assert await readiness(gateway) == b"200"
