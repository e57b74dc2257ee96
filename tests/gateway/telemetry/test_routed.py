"""What is counted of routed requests, by profile."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families as families
from routed_calls import answer, call, prompt, router, send

from penstock.decide.routing import route
from penstock.gateway.explained import Explained
from penstock.gateway.kv_index import KvIndex
from penstock.gateway.telemetry.metrics import Readings, Telemetry, total
from penstock.gateway.telemetry.records import Records
from penstock.kit.clock import SystemClock

SHORT = ("default", "m", "built-in", "short")


def test_why_requests_go_where_they_go_and_how_right_the_index_was() -> None:
    telemetry, by = Telemetry(), router()
    records = Records(telemetry, SystemClock())
    for number, cached in enumerate((0, 304)):
        one = call(f"r{number}")
        send(records.explained, by, one, prompt(), now=10.0 + number)
        answer(by, one, 11.0 + number, cached=cached)
        records.finished(one, 12.0)
    assert telemetry.routed.row(*SHORT, "cold") == [1]
    assert telemetry.routed.row(*SHORT, "cache") == [1]
    assert telemetry.routed_outcomes.row(*SHORT, "ok") == [2]
    kinds = {
        kind: telemetry.routed_tokens.row(*SHORT, kind)[0]
        for kind in ("prompt", "predicted", "cached", "agreed", "forgone")
    }
    assert kinds == {"prompt": 640, "predicted": 320, "cached": 304, "agreed": 304, "forgone": 0}
    assert sum(telemetry.routed_first_byte.row(*SHORT)[:-1]) == 2
    assert len(records.explained) == 2


def test_a_request_that_no_router_sent_is_not_counted() -> None:
    telemetry = Telemetry()
    records = Records(telemetry, SystemClock())
    by, one = router(), call(explains=True)
    chosen = route(by.service, one.id, {})
    assert chosen is not None
    one.service = by.service
    records.explained.chosen_plainly(one, chosen)
    records.explained.sent(one, chosen.endpoint.name, None, 10.0)
    records.finished(one, 11.0)
    assert telemetry.routed.family().rows == ()
    assert records.explained.find("r1")[0].prompt_class == ""


def test_cached_tokens_that_no_engine_told_count_nowhere() -> None:
    telemetry, by, one = Telemetry(), router(), call()
    records = Records(telemetry, SystemClock())
    send(records.explained, by, one, prompt())
    one.last_byte_at = 11.0
    records.finished(one, 11.0)
    assert telemetry.routed_tokens.row(*SHORT, "prompt") == [0]
    assert telemetry.routed.row(*SHORT, "cold") == [1]


def test_what_is_known_of_caches_is_told_of_the_worker_that_knows_least() -> None:
    good, bad = KvIndex(16), KvIndex(16)
    for index in (good, bad):
        index.add("a")
        index.sent("a", [1, 2], 0.0)
    bad.answered("a", 2048.0, 0.0)
    snapshots = []
    for index in (good, bad):
        known = index.knowledge("a")
        assert known is not None
        readings = Readings(indexed={("default", "m", "a"): known}, kv_events={"gap": 2})
        snapshots.append(Telemetry().snapshot(readings))
    found = {
        sample.name: sample.value
        for family in families(total(snapshots[0], snapshots[1:]))
        for sample in family.samples
        if "kv_" in sample.name
    }
    assert found["penstock_gateway_kv_index_confidence"] == pytest.approx(bad.confidence("a"))
    assert found["penstock_gateway_kv_index_accuracy"] == 0.0
    assert found["penstock_gateway_kv_index_blocks"] == 4
    assert found["penstock_gateway_kv_index_precise"] == 0
    assert found["penstock_gateway_kv_event_batches_total"] == 4


def test_nothing_is_kept_of_a_call_that_was_sent_nowhere() -> None:
    records = Records(Telemetry(), SystemClock())
    records.finished(call(service=router().service), 11.0)
    assert len(records.explained) == 0
    assert isinstance(records.explained, Explained)
