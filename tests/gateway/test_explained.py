"""What is remembered of how requests were routed: true, found again, and bounded."""

from __future__ import annotations

import msgspec
import pytest
from routed_calls import answer, call, end, prompt, router, send

from penstock.contracts.exchange import PluginRoute
from penstock.gateway.explained import MAX_FOUND, Explained, told
from penstock.gateway.route_record import as_document, from_document
from penstock.kit.clock import SystemClock


@pytest.fixture
def explained() -> Explained:
    return Explained(SystemClock())


def test_what_was_expected_stands_beside_what_came(explained: Explained) -> None:
    by = router()
    first = call("r1")
    name = send(explained, by, first, prompt())
    answer(by, first)
    end(explained, first)
    second = call("r2", admitted=10.25)
    assert send(explained, by, second, prompt(), now=12.0) == name
    answer(by, second, 13.0, cached=304)
    end(explained, second)
    (cold,) = explained.find("r1")
    (warm,) = explained.find("r2")
    assert (cold.reason, cold.indexed_tokens, cold.cached_tokens) == ("cold", 0.0, 0)
    assert (warm.reason, warm.endpoint, warm.revision) == ("cache", name, "m-1")
    assert (warm.estimated_tokens, warm.indexed_tokens, warm.cached_tokens) == (320, 320.0, 304)
    assert 0 < warm.expected_tokens < warm.indexed_tokens
    assert warm.most_expected_tokens == warm.expected_tokens
    assert (warm.waited_s, warm.first_byte_s, warm.total_s) == (0.25, 2.5, 3.0)
    assert (warm.prompt_class, warm.considered, warm.status) == ("short", 3, 200)
    assert warm.steps == ()
    assert warm.explanation is None


def test_all_that_was_weighed_is_told_to_who_asks_at_the_moment_of_the_choice(explained: Explained) -> None:
    by = router()
    before = call("r1")
    name = send(explained, by, before, prompt())
    asked = call("r2", explains=True)
    send(explained, by, asked, prompt())
    end(explained, asked)
    (found,) = explained.find("r2")
    why = found.explanation
    assert why is not None
    assert why.weights == {"predicted-latency": 1.0}
    assert {one.endpoint for one in why.candidates} == {"a", "b", "c"}
    chosen = next(one for one in why.candidates if one.endpoint == found.endpoint)
    assert chosen.score == pytest.approx(found.score)
    assert chosen.score == max(one.score for one in why.candidates)
    there = next(one for one in why.candidates if one.endpoint == name)
    assert (there.in_flight, there.prefilling, there.uncached_tokens) == (1, 1, 320.0)
    assert there.held_tokens > 0
    assert found.runner_up
    assert found.runner_up != found.endpoint
    assert b"x-penstock-route: endpoint=" in asked.route_header
    assert asked.route_header.endswith(b"\r\n")
    assert f"runner-up={found.runner_up}".encode() in asked.route_header
    assert before.route_header == b""


def test_endpoints_that_were_not_to_choose_from_say_why(explained: Explained) -> None:
    by = router()
    by.loads["a"].kv_use = 1.0
    asked = call(explains=True)
    assert send(explained, by, asked, prompt(), exclude=("b",)) == "c"
    end(explained, asked)
    why = explained.find("r1")[0].explanation
    assert why is not None
    assert {one.endpoint: one.removed_by for one in why.candidates} == {
        "c": "",
        "a": "saturation",
        "b": "pool",
    }
    assert [(step.filter, step.endpoints) for step in why.removed] == [("saturation", ("a",))]


def test_a_request_that_was_tried_again_tells_of_each_attempt(explained: Explained) -> None:
    by = router()
    one = call(explains=True)
    first = send(explained, by, one, prompt())
    one.failures = ("no_answer",)
    second = send(explained, by, one, prompt(), now=10.5, exclude=(first,))
    end(explained, one)
    (found,) = explained.find("r1")
    assert found.reason == "again"
    assert [(step.endpoint, step.after_s, step.failure) for step in found.steps] == [
        (first, 0.0, "no_answer"),
        (second, 0.5, ""),
    ]
    assert f"endpoint={second};".encode() in one.route_header


def test_a_choice_that_was_not_followed_is_not_told(explained: Explained) -> None:
    by = router()
    one = call()
    first = send(explained, by, one, prompt())
    held = by.held(prompt(), 11.0)
    other = by.route(by.service, prompt(), held, 10.0, exclude=(first,))
    assert other is not None
    explained.chosen(one, by.service, by, prompt(), held, other, 11.0, (), (first,))
    explained.sent(one, first, by.sent(first, prompt(), held, 11.0), 11.0)
    end(explained, one)
    (found,) = explained.find("r1")
    assert [step.endpoint for step in found.steps] == [first, first]


def test_sampled_requests_are_explained_but_not_all_of_a_burst(explained: Explained) -> None:
    by = router()
    for number, now in enumerate((10.0, 10.01, 10.2)):
        one = call(f"r{number}", sampled=True)
        send(explained, by, one, prompt(), now=now)
        end(explained, one)
    assert [explained.find(f"r{n}")[0].explanation is not None for n in range(3)] == [True, False, True]


def test_several_of_one_id_are_found_latest_first_and_not_without_end(explained: Explained) -> None:
    by = router()
    for number in range(MAX_FOUND + 3):
        one = call("same", error=f"e{number}")
        send(explained, by, one, prompt())
        end(explained, one)
    assert [record.error for record in explained.find("same")] == [f"e{n}" for n in range(10, 2, -1)]
    assert explained.find("sam") == []


def test_the_oldest_make_room() -> None:
    explained, by = Explained(SystemClock(), max_bytes=4096), router()
    for number in range(100):
        one = call(f"r{number}")
        send(explained, by, one, prompt())
        end(explained, one)
    assert explained.bytes <= 4096
    assert len(explained) + explained.forgotten == 100
    assert explained.find("r0") == []
    assert explained.find("r99")


def test_a_record_is_the_same_after_any_journey(explained: Explained) -> None:
    by = router(scorers=(PluginRoute(name="prefix", weight=3.0), PluginRoute(name="queue", weight=2.0)))
    one = call(explains=True)
    send(explained, by, one, prompt())
    end(explained, one)
    (found,) = explained.find("r1")
    (other,) = told(explained.answer("r1"))
    assert as_document(other) == as_document(found) | {"at": other.at}
    document = msgspec.json.decode(msgspec.json.encode(as_document(found)))
    assert from_document(document) == from_document(as_document(found))
    assert told(b"\x93nonsense") == []


def test_the_caller_that_asks_is_told_also_where_no_router_is(explained: Explained) -> None:
    by = router()
    route = by.route(by.service, prompt(), {}, 10.0)
    assert route is not None
    one = call(explains=True)
    explained.chosen_plainly(one, route)
    explained.sent(one, route.endpoint.name, None, 10.0)
    assert (
        one.route_header
        == f"x-penstock-route: endpoint={route.endpoint.name}; revision=m-1; in-flight=0; of=3\r\n".encode()
    )


def test_a_profile_that_is_tried_routes_its_share_and_is_named(explained: Explained) -> None:
    tried = router(profile="old", candidate=router(profile="new").service.routing, candidate_percent=50)
    for number in range(60):
        one = call(f"r{number}")
        send(explained, tried, one, prompt(number))
        end(explained, one)
    profiles = {explained.find(f"r{n}")[0].profile for n in range(60)}
    assert profiles == {"old", "new"}
