"""The load keeps its times, in virtual time, against a server that is only a delay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock.kit.clock import SystemClock
from penstock.testing.load import player as player_module
from penstock.testing.load.conversation import Conversation, Turn
from penstock.testing.load.outcome import Outcome
from penstock.testing.load.player import Pace, Player, Recording, Speech
from penstock.testing.load.text import Piece, Writer
from penstock.testing.load.workloads import workload_of

pytestmark = pytest.mark.looptime
WRITER = Writer()


class Server:
    """Answers each request after `delay(its number)` seconds; None: it fails after a tenth of one."""

    def __init__(self, delay: Callable[[int], float | None]) -> None:
        self._delay = delay
        self.bodies: list[dict[str, Any]] = []
        self.under_way = self.most_under_way = 0

    async def ask(self, path: str, body: bytes, due: float, *, keeps_text: bool = False) -> Outcome:
        loop = asyncio.get_running_loop()
        outcome = Outcome(due=due, sent=loop.time())
        self.bodies.append(json.loads(body))
        delay_s = self._delay(len(self.bodies) - 1)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(delay_s if delay_s is not None else 0.1)
        self.under_way -= 1
        outcome.first = outcome.last = outcome.end = loop.time()
        outcome.error = "" if delay_s is not None else "not connected"
        outcome.text = f"answer {len(self.bodies)}" if keeps_text else ""
        return outcome


class At:
    """One request at each of these times."""

    name, timed = "at", True

    def __init__(self, *times: float) -> None:
        self._times = times

    def conversations(self, seed: int) -> Iterator[Conversation]:
        for time in self._times:
            yield Conversation((Turn((Piece(f"{time}", 4),), 1),), (), time)


async def play(server: Server, workload: Any, seed: int = 0, **pace: Any) -> Recording:
    player = Player(server, WRITER, Speech(model="m"), clock=SystemClock())  # type: ignore[arg-type]
    return await player.play(workload, Pace(**pace), seed)


async def test_a_server_that_stalls_does_not_slow_an_open_loop_down() -> None:
    server = Server(lambda number: 100.0 if number == 0 else 0.5)
    recording = await play(server, At(*(0.1 * n for n in range(50))))
    assert server.most_under_way >= 6
    sent = sorted(one.sent for one in recording.outcomes)
    assert sent[-1] - sent[0] == pytest.approx(4.9)
    assert all(one.late_s == pytest.approx(0.0, abs=1e-6) for one in recording.outcomes)


async def test_times_count_from_when_a_request_was_due_even_if_the_load_was_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sleep = asyncio.sleep

    async def oversleep(seconds: float) -> None:
        await sleep(seconds + 0.25)

    monkeypatch.setattr(player_module.asyncio, "sleep", oversleep)
    server = Server(lambda _: 0.0)
    recording = await play(server, At(1.0))
    [outcome] = recording.outcomes
    assert outcome.late_s == pytest.approx(0.25)
    assert outcome.ttft_s == pytest.approx(0.5), "the server overslept, too"


async def test_a_closed_loop_has_so_many_under_way_and_never_more() -> None:
    server = Server(lambda number: 0.1 + number % 3)
    recording = await play(server, workload_of("random"), concurrency=5, duration_s=60.0)
    assert server.most_under_way == 5
    assert recording.until == pytest.approx(60.0, abs=0.01)


async def test_it_ends_after_so_many_requests() -> None:
    server = Server(lambda _: 0.2)
    for pace in ({"rate_per_s": 100.0}, {"concurrency": 7}):
        recording = await play(server, workload_of("multi-turn:turns=3,think=0"), requests=50, **pace)
        assert len(recording.outcomes) == 50


async def test_what_is_due_during_the_warm_up_is_sent_but_not_counted() -> None:
    recording = await play(Server(lambda _: 0.2), At(0.0, 1.0, 2.0, 3.0), warmup_s=1.5)
    assert sum(one.due >= recording.counted_from for one in recording.outcomes) == 2
    assert len(recording.outcomes) == 4


async def test_a_turn_is_sent_with_all_that_was_said_before_it() -> None:
    server = Server(lambda _: 0.2)
    await play(server, workload_of("multi-turn:turns=3,think=0"), concurrency=1, requests=3)
    last = server.bodies[-1]["messages"]
    assert [message["role"] for message in last] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert last[2]["content"] == "answer 1"
    assert server.bodies[1]["messages"] == last[:4]


async def test_a_conversation_ends_with_a_failed_turn_and_a_closed_loop_waits_before_it_goes_on() -> None:
    server = Server(lambda _: None)
    recording = await play(server, workload_of("multi-turn"), concurrency=1, duration_s=10.0)
    assert all(len(body["messages"]) == 2 for body in server.bodies)
    assert len(recording.outcomes) == pytest.approx(50, abs=2)


async def test_more_than_can_be_under_way_is_an_error_with_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player_module, "MAX_OPEN", 3)
    recording = await play(Server(lambda _: 5.0), At(*(0.1 * n for n in range(10))))
    assert sum(one.error == player_module.TOO_MANY for one in recording.outcomes) == 7
