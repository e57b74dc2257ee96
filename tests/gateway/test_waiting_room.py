"""Requests that find all endpoints full get their turns in order, as soon as there is room, and an answer if there never is."""

from __future__ import annotations

import asyncio

import pytest
from waiting_world import ANYBODY, World, endpoint, service, settle

from penstock.contracts.exchange import PromptClassRoute, RoutingRoute
from penstock.decide.footprint import Budget
from penstock.decide.priority import LEAST, Rank
from penstock.decide.saturation import seen_capacity
from penstock.gateway import waiting_room
from penstock.kit.errors import Exhausted, PlatformError, Unavailable

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def code_of(task: asyncio.Task[None]) -> str:
    with pytest.raises(PlatformError) as refused:
        await task
    return refused.value.code


async def test_while_there_is_room_nobody_waits_and_nothing_is_counted() -> None:
    world = World(service(endpoint("a", slots=4), endpoint("b", slots=4)))
    for _ in range(8):
        assert world.room.turn_at_once(world.ask(), now(), lambda: ANYBODY) is not None
        min(world.router.loads.values(), key=lambda load: load.in_flight).in_flight += 1
    assert world.room.turn_at_once(world.ask(), now(), lambda: ANYBODY) is None
    assert (len(world.room.line), world.told) == (0, [])


async def test_no_more_are_under_way_than_endpoints_take_and_all_have_their_turn() -> None:
    world = World(service(endpoint("a", slots=3), endpoint("b", slots=2)))
    tasks = [world.start(number) for number in range(23)]
    most = 0
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0.25)
        most = max(most, sum(load.in_flight for load in world.router.loads.values()))
    assert most == 5
    assert world.order == list(range(23)), "of one account, in the order in which they came"
    assert now() == pytest.approx(5.0, abs=0.3), "five at a time, without a pause between"
    assert {outcome for _, outcome, _ in world.told} == {"let_through"}
    assert len(world.told) == 18


async def test_a_higher_priority_goes_first_and_a_batch_last() -> None:
    world = World(service(endpoint("a")))
    running = world.start("first")
    await settle()
    waiting = [
        world.start("batch", rank=Rank(LEAST, "a")),
        world.start("low", rank=Rank(-1, "a")),
        world.start("plain"),
        world.start("high", rank=Rank(5, "a")),
    ]
    await asyncio.gather(running, *waiting)
    assert world.order == ["first", "high", "plain", "low", "batch"]


async def test_priorities_below_zero_leave_the_last_of_the_room_to_others() -> None:
    world = World(service(endpoint("a", slots=10)))
    busy = [world.start(number, takes_s=5.0) for number in range(9)]
    await settle()
    low = world.start("low", rank=Rank(-1, "a"))
    await asyncio.sleep(0.2)
    assert (9 in world.order, "low" in world.order) == (False, False)
    late = world.start("late", takes_s=5.0)
    await settle()
    assert "late" in world.order
    await asyncio.gather(*busy, low, late)
    assert world.order[-1] == "low"


async def test_accounts_take_turns_and_one_that_floods_delays_nobody_for_long() -> None:
    world = World(service(endpoint("a")))
    flood = [world.start(("flood", number), world.ask(2_000), Rank(0, "flood")) for number in range(200)]
    await asyncio.sleep(3.5)
    quiet = world.start("quiet", rank=Rank(0, "quiet"))
    began = now()
    await quiet
    assert now() - began <= 5.0, "its own second, that of who runs, and two turns of the flood"
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_who_goes_away_leaves_the_line_and_takes_nothing_with_him() -> None:
    world = World(service(endpoint("a")))
    running = world.start("running")
    await settle()
    gone, stays = world.start("gone"), world.start("stays")
    await settle()
    gone.cancel()
    await settle()
    assert len(world.room.line) == 1
    await asyncio.gather(running, stays)
    assert world.order == ["running", "stays"]
    assert [outcome for _, outcome, _ in world.told] == ["cancelled", "let_through"]


async def test_who_goes_away_at_the_moment_of_his_turn_gives_it_to_the_next() -> None:
    world = World(service(endpoint("a")))
    first = await world.turn(world.ask())
    world.router.loads["a"].in_flight = 1
    waiting = [asyncio.create_task(world.turn(world.ask())) for _ in range(3)]
    await settle()
    world.router.loads["a"].in_flight = 0
    first.ended()
    await asyncio.sleep(0)  # the turn is given, and its owner has not looked yet
    waiting[0].cancel()
    await asyncio.sleep(0.5)
    assert [task.done() and not task.cancelled() for task in waiting] == [False, True, True], (
        "nothing is under way"
    )
    for task in waiting[1:]:
        task.result().ended()


async def test_each_waits_as_long_as_the_profile_says_and_no_longer_than_he_can() -> None:
    world = World(service(endpoint("a"), ttl_s=30.0))
    running = world.start("running", takes_s=100.0)
    await settle()
    waits, hurries = world.start("waits"), world.start("hurries", within_s=2.0)
    with pytest.raises(Unavailable, match="waited 2 s for default/m: no endpoint had room") as late:
        await hurries
    assert (late.value.code, now()) == ("deadline_passed", pytest.approx(2.0))
    with pytest.raises(Exhausted, match="waited 30 s") as expired:
        await waits
    assert (expired.value.code, now()) == ("waited_too_long", pytest.approx(30.0))
    assert len(world.room.line) == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_full_priority_refuses_at_once_and_others_still_have_places() -> None:
    world = World(service(endpoint("a"), max_requests=2, ttl_s=5.0))
    running = world.start("running", takes_s=9.0)
    await settle()
    waiting = [world.start(number) for number in range(2)]
    await settle()
    began = now()
    assert await code_of(world.start("third")) == "priority_full"
    assert now() == began
    other = world.start("other", rank=Rank(1, "a"))
    await settle()
    assert len(world.room.line) == 3
    assert {await code_of(task) for task in (*waiting, other)} == {"waited_too_long"}
    await running


async def test_bytes_of_bodies_are_bounded_as_well() -> None:
    world = World(service(endpoint("a"), max_bytes=1_000, ttl_s=5.0))
    running = world.start("running", takes_s=9.0)
    await settle()
    large = world.start("large", world.ask(size=2_000))
    await settle()
    assert await code_of(world.start("small", world.ask(size=1))) == "priority_bytes_full"
    assert await code_of(large) == "waited_too_long", "alone it may"
    await running


async def test_where_all_places_are_taken_the_last_of_the_lowest_priority_gives_way_to_a_higher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting_room, "MAX_WAITING", 3)
    world = World(service(endpoint("a")))
    running = world.start("running")
    await settle()
    ranks = {"low 1": -1, "low 2": -1, "plain": 0}
    waiting = {name: world.start(name, rank=Rank(priority, "a")) for name, priority in ranks.items()}
    await settle()
    assert await code_of(world.start("low 3", rank=Rank(-1, "a"))) == "queue_full"
    high = world.start("high", rank=Rank(3, "a"))
    assert await code_of(waiting["low 2"]) == "displaced"
    await asyncio.gather(running, high, waiting["low 1"], waiting["plain"])
    assert world.order == ["running", "high", "plain", "low 1"]
    assert ("-1", "displaced") in [(band, outcome) for band, outcome, _ in world.told]


async def test_ten_thousand_wait_and_all_are_served_in_order_and_with_one_timer_for_the_room() -> None:
    world = World(service(endpoint("a", slots=100), max_requests=20_000))
    tasks = [world.start(number, takes_s=0.1) for number in range(10_000)]
    await settle()
    assert len(world.room.line) == 9_900
    await asyncio.gather(*tasks)
    assert world.order == list(range(10_000))
    assert now() == pytest.approx(10.0, rel=0.1)
    assert len(world.room.line) == 0


async def test_a_new_endpoint_is_used_at_once() -> None:
    world = World(service(endpoint("a")))
    running = [world.start(number, takes_s=50.0) for number in range(2)]
    await asyncio.sleep(1)
    assert world.order == [0]
    world.apply(service(endpoint("a"), endpoint("b")))
    await settle()
    assert world.order == [0, 1]
    await asyncio.gather(*running)


async def test_an_endpoint_that_gets_no_requests_has_no_room_unless_it_is_the_last() -> None:
    world = World(service(endpoint("a"), endpoint("b")))
    world.aside = {"b"}
    world.router.loads["a"].in_flight = 1
    waits = asyncio.create_task(world.turn(world.ask()))
    await asyncio.sleep(1)
    assert not waits.done()
    world.aside = {"a", "b"}
    await asyncio.sleep(0.2)
    waits.result().ended()


async def test_what_an_engine_tells_of_itself_is_heeded_without_anything_else_happening() -> None:
    world = World(service(endpoint("a", slots=0)))
    load = world.router.loads["a"]
    load.in_flight, load.prefilling, load.capacity = 9, 9, 1.0
    waits = world.start("waits")
    await asyncio.sleep(1)
    assert not world.order
    load.capacity = 8.0
    await asyncio.sleep(0.2)
    assert world.order == ["waits"]
    await waits


async def test_when_all_endpoints_go_nobody_is_kept_and_when_the_router_goes_neither() -> None:
    world = World(service(endpoint("a")))
    running = world.start("running", takes_s=3.0)
    await settle()
    waiting = [asyncio.create_task(world.turn(world.ask())) for _ in range(2)]
    await settle()
    world.apply(service())
    await settle()
    assert [task.done() for task in waiting] == [True, True]
    for task in waiting:
        task.result().ended()
    world.apply(service(endpoint("a")))
    world.router.loads["a"].in_flight = 1
    left = asyncio.create_task(world.turn(world.ask()))
    await settle()
    assert not left.done()
    world.room.close()
    await settle()
    left.result().ended()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


LIMITED = RoutingRoute(long=PromptClassRoute(max_requests=1), short=PromptClassRoute(max_tokens=500))


async def test_a_class_that_has_all_it_may_holds_back_its_own_and_no_other() -> None:
    world = World(service(endpoint("a", slots=10), routing=LIMITED))
    long = [world.start(("long", n), world.ask(5_000), prefill_s=2.0) for n in range(3)]
    await settle()
    short = [world.start(("short", n), world.ask(300), prefill_s=2.0) for n in range(3)]
    await settle()
    assert world.order == [("long", 0), ("short", 0)]
    await asyncio.sleep(2.1)
    assert world.order == [("long", 0), ("short", 0), ("short", 1)], (
        "its tokens are computed, but it has not ended"
    )
    await asyncio.gather(*long, *short)
    assert [name for name in world.order if name[0] == "long"] == [("long", n) for n in range(3)]


async def test_classes_with_pools_of_their_own_wait_for_their_own_endpoints() -> None:
    routing = RoutingRoute(
        long=PromptClassRoute(pool=(("for", "long"),)), short=PromptClassRoute(pool=(("for", "short"),))
    )
    pools = (endpoint("l", **{"for": "long"}), endpoint("s", **{"for": "short"}))
    world = World(service(*pools, routing=routing))
    world.router.loads["l"].in_flight = 1
    waits = asyncio.create_task(world.turn(world.ask(5_000)))
    await settle()
    assert not waits.done()
    turn = world.room.turn_at_once(world.ask(100), now(), lambda: ANYBODY)
    if turn is None:
        turn = await world.room.turn(world.ask(100), ANYBODY)
    assert now() == 0
    turn.ended()
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)


async def test_what_is_held_is_no_cold_prompt_and_what_is_cached_costs_nothing_of_the_room() -> None:
    world = World(service(endpoint("a"), prefill_s=0.1))
    assert world.ask(8_000).is_cold
    warm = world.ask(8_000, {"a": 7_900.0, "b": 100.0})
    assert (warm.is_cold, warm.tokens, warm.prompt_class) == (False, 100.0, "short")


async def test_cold_prompts_wait_for_their_budget_while_warm_ones_pass_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(service(endpoint("a", slots=100)))
    monkeypatch.setattr(
        "penstock.gateway.cold_prompts.cold_budget", lambda *_: Budget(1_000.0, 4_000.0, "as told")
    )
    cold = [world.start(("cold", n), world.ask(4_000), takes_s=0.5) for n in range(3)]
    await settle()
    assert world.order == [("cold", 0)], "all of the budget at once"
    warm = world.start("warm", world.ask(4_000, {"a": 3_900.0}))
    await settle()
    assert world.order == [("cold", 0), "warm"]
    await asyncio.gather(*cold, warm)
    assert now() == pytest.approx(4.5, abs=0.7), "each pays for the next, at a thousand tokens a second"


async def test_lengths_and_the_first_who_waits_are_known() -> None:
    world = World(service(endpoint("a")))
    running = world.start("running", takes_s=10.0)
    await asyncio.sleep(1)
    waiting = [world.start(n, rank=Rank(priority, "a")) for n, priority in enumerate((LEAST, 0, 0))]
    await settle()
    assert world.room.line.lengths() == {"batch": 1, "0": 2}
    assert world.room.line.first_since() == pytest.approx(1.0)
    assert [world.room.line.ahead_of(priority) for priority in (1, 0, LEAST)] == [0, 2, 3]
    for task in (running, *waiting):
        task.cancel()
    await asyncio.gather(running, *waiting, return_exceptions=True)
    assert world.room.line.first_since() is None


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("takes_s", [0.1, 1.0, 5.0])
async def test_an_engine_that_is_asked_every_two_seconds_has_work_all_the_time_and_a_short_queue(
    streams: bool, takes_s: float
) -> None:
    """It answers eight at a time; a burst of four hundred waits in the gateway, not there, and takes as long as it would have there."""
    world = World(service(endpoint("a", slots=0), ttl_s=1_000.0))
    load, places, longest = world.router.loads["a"], asyncio.Semaphore(8), 0
    busy: set[int] = set()
    waiting: set[int] = set()

    async def ask(number: int) -> None:
        nonlocal longest
        turn = await world.turn(world.ask())
        load.in_flight += 1
        load.prefilling += 1
        waiting.add(number)
        longest = max(longest, len(waiting))
        async with places:
            waiting.remove(number)
            busy.add(number)
            if streams:
                load.prefilling -= 1
                turn.began()
            await asyncio.sleep(takes_s)
            busy.remove(number)
        if not streams:
            load.prefilling -= 1
        load.in_flight -= 1
        turn.ended()

    def tell() -> None:
        load.waiting, load.running, load.told_in_flight = (
            float(len(waiting)),
            float(len(busy)),
            load.in_flight,
        )
        load.capacity = seen_capacity(load)

    async def poll() -> None:
        while True:
            await asyncio.sleep(2.0)
            tell()

    polls = asyncio.create_task(poll())
    first = [asyncio.create_task(ask(number)) for number in range(13)]
    await asyncio.sleep(0.05)
    tell()
    await asyncio.sleep(0.05)
    rest = [asyncio.create_task(ask(number)) for number in range(13, 413)]
    await asyncio.gather(*first, *rest)
    polls.cancel()
    ideal_s = 413 / 8 * takes_s
    assert now() <= ideal_s + 2 * takes_s + 0.2
    assert longest <= 5 + 8, "as many as may wait there, and as many as are tried"
