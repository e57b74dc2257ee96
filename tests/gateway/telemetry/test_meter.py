"""What an ended request leaves in the series."""

import pytest
from ended import call, stream
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families

from penstock.contracts.exchange import KeyRoute
from penstock.gateway.call import Call
from penstock.gateway.exchanged import Exchanged
from penstock.gateway.telemetry import meter
from penstock.gateway.telemetry.meter import Meter
from penstock.gateway.telemetry.metrics import MAX_KEYS, Readings, Telemetry, total
from penstock.gateway.telemetry.names import METRICS, operation, wants_latest
from penstock.gateway.telemetry.outcome import CANCELLED, outcome_of

MODEL = ("chat", "penstock", "default/qwen", "qwen2")


def shown(telemetry: Telemetry) -> dict[tuple[str, ...], float]:
    found = families(total(telemetry.snapshot(Readings())))
    return {(s.name, *s.labels.values()): s.value for family in found for s in family.samples}


def after(*calls: Call, latest_names: bool = False) -> dict[tuple[str, ...], float]:
    telemetry = Telemetry(latest_names=latest_names)
    counting = Meter(telemetry)
    for one in calls:
        counting.finished(one, 12.0)
    return shown(telemetry)


def test_a_stream_leaves_its_times_and_tokens() -> None:
    found = after(stream())
    assert found["gen_ai_server_request_duration_seconds_sum", *MODEL, ""] == 2.0
    assert found["gen_ai_server_time_to_first_token_seconds_sum", *MODEL] == pytest.approx(0.3)
    assert found["gen_ai_server_time_per_output_token_seconds_sum", *MODEL] == pytest.approx(0.8 / 4)
    assert found["gen_ai_client_token_usage_sum", *MODEL, "input"] == 20
    assert found["gen_ai_client_token_usage_bucket", *MODEL, "output", "4.0"] == 0
    assert found["gen_ai_client_token_usage_bucket", *MODEL, "output", "16.0"] == 1
    assert found["penstock_gateway_requests_total", "default", "qwen", "200"] == 1
    assert found["penstock_gateway_response_bytes_total", "default", "qwen"] == 100
    assert found["penstock_gateway_streams_total", "default", "qwen"] == 1
    assert found["penstock_gateway_streams_without_usage_total", "default", "qwen"] == 0
    assert found["penstock_gateway_key_tokens_total", "acme", "default/alice", "input"] == 20
    assert found["penstock_gateway_key_tokens_total", "acme", "default/alice", "output"] == 5
    assert found["penstock_gateway_key_tokens_total", "acme", "default/alice", "cached"] == 16


def test_a_stream_that_tells_no_usage_is_a_gap_and_leaves_no_tokens() -> None:
    found = after(stream(prompt_tokens=-1, completion_tokens=-1, cached_tokens=-1))
    assert found["penstock_gateway_streams_without_usage_total", "default", "qwen"] == 1
    assert not any(name[0].startswith("gen_ai_client_token_usage") for name in found)
    assert found["penstock_gateway_key_requests_total", "acme", "default/alice"] == 1
    assert ("gen_ai_server_time_per_output_token_seconds_count", *MODEL) in found
    assert found["gen_ai_server_time_per_output_token_seconds_count", *MODEL] == 0


def test_a_stream_of_one_token_has_no_time_between_tokens() -> None:
    found = after(stream(completion_tokens=1))
    assert found["gen_ai_server_time_per_output_token_seconds_count", *MODEL] == 0


@pytest.mark.parametrize("error", [CANCELLED, "upstream_cut_off"])
def test_a_stream_that_did_not_come_to_its_end_is_neither_timed_nor_a_gap(error: str) -> None:
    found = after(stream(error=error, prompt_tokens=-1, completion_tokens=-1))
    assert not any("time_to_first_token" in name[0] or "streams" in name[0] for name in found)


def test_rows_that_are_not_at_hand_any_more_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "MAX_CACHED", 2)
    telemetry = Telemetry()
    counting = Meter(telemetry)
    for _ in range(2):
        for status in (200, 400, 401, 402, 403):
            counting.finished(
                call(status, key=KeyRoute(id=str(status), namespace="n", name=str(status))), 12.0
            )
    found = shown(telemetry)
    assert [found["penstock_gateway_requests_total", "default", "qwen", str(s)] for s in (200, 403)] == [2, 2]
    assert found["penstock_gateway_key_requests_total", "", "n/403"] == 2
    assert (len(counting._rows), len(counting._keys)) <= (2, 2)


def test_an_answer_in_one_piece_leaves_no_times_of_streams() -> None:
    found = after(call(first_byte_at=10.5, last_byte_at=10.5, prompt_tokens=3, completion_tokens=9))
    assert found["gen_ai_client_token_usage_sum", *MODEL, "output"] == 9
    assert not any("time_to_first_token" in name[0] or "streams" in name[0] for name in found)


@pytest.mark.parametrize(
    ("one", "outcome", "error", "series"),
    [
        (call(400), "error", "400", None),
        (call(503, error="no_endpoint_answered"), "error", "no_endpoint_answered", None),
        (call(200, error="upstream_cut_off", first_byte_at=11.0), "broken", "upstream_cut_off", "broken"),
        (call(200, error=CANCELLED, first_byte_at=11.0), "cancelled", CANCELLED, "cancelled"),
        (call(0, error=CANCELLED), "cancelled", CANCELLED, "cancelled"),
        (call(0), "error", "none", None),
    ],
)
def test_what_went_wrong_is_told_by_its_code(one: Call, outcome: str, error: str, series: str | None) -> None:
    found = after(one)
    assert outcome_of(one) == outcome
    assert found["gen_ai_server_request_duration_seconds_count", *MODEL, error] == 1
    ended = {
        key[0]: value for key, value in found.items() if key[0].endswith(("broken_total", "cancelled_total"))
    }
    assert ended == ({f"penstock_gateway_{series}_total": 1} if series else {})


def test_a_request_that_named_no_service_leaves_nothing_here() -> None:
    assert not any(name[0].startswith("gen_ai") for name in after(call(404, service=None)))


def test_keys_beyond_the_bound_share_the_row_other() -> None:
    calls = [
        call(key=KeyRoute(id=str(i), namespace="n", name=f"k{i}", tenant="t"), prompt_tokens=2)
        for i in range(MAX_KEYS + 7)
    ]
    found = after(*calls)
    assert found["penstock_gateway_key_requests_total", "other", "other"] == 7
    assert found["penstock_gateway_key_tokens_total", "other", "other", "other"] == 7 * 2
    assert sum(name[0] == "penstock_gateway_key_requests_total" for name in found) == MAX_KEYS + 1


def test_the_newer_names_are_counters_which_are_there_for_a_failed_call_too() -> None:
    used = ("gen_ai_client_inference_usage_input_tokens_total", *MODEL, "unknown")
    assert after(call(503), latest_names=True)[used] == 0
    found = after(stream(), stream(), latest_names=True)
    assert found[used] == 40
    assert found["gen_ai_client_inference_usage_cache_read_input_tokens_total", *MODEL, "unknown"] == 32
    assert found["gen_ai_client_inference_operation_output_tokens_count", *MODEL] == 2
    assert not any(name[0].startswith("gen_ai_client_token_usage") for name in found)


def test_the_newer_names_are_opted_in_by_the_variable_of_the_conventions() -> None:
    assert wants_latest({"OTEL_SEMCONV_STABILITY_OPT_IN": "http, gen_ai_latest_experimental"})
    assert not wants_latest({"OTEL_SEMCONV_STABILITY_OPT_IN": "http"})
    assert not wants_latest({})


def test_workers_are_added_up_and_those_that_cannot_be_are_told() -> None:
    one, two, newer = Telemetry(), Telemetry(), Telemetry(latest_names=True)
    for telemetry in (one, two, newer):
        Meter(telemetry).finished(stream(), 12.0)
    readings = Readings(
        in_flight={("default", "qwen"): 2},
        connections=3,
        table_version=4,
        refused={"bad": 1},
        openings={"qwen-1-0": 1},
        limit_faults={"judged_alone": 5},
        untokenized={"disagrees": 1},
        gossip=Exchanged({"sent": 3}, {"sent": 300, "heard": 50}, {"stale": 1}, 2, 1_000.0),
    )
    others = [two.snapshot(readings), newer.snapshot(readings), b"\x01broken"]
    found = {
        (s.name, *s.labels.values()): s.value
        for family in families(total(one.snapshot(readings), others))
        for s in family.samples
    }
    assert found["gen_ai_client_token_usage_sum", *MODEL, "input"] == 40
    assert found["penstock_gateway_requests_in_flight", "default", "qwen"] == 4
    assert found["penstock_gateway_connections",] == 6
    assert found["penstock_gateway_refused_total", "bad"] == 2
    assert found["penstock_gateway_circuit_openings_total", "qwen-1-0"] == 2
    assert found["penstock_gateway_limit_faults_total", "judged_alone"] == 10
    assert found["penstock_gateway_untokenized_total", "disagrees"] == 2
    assert found["penstock_gateway_gossip_messages_total", "sent"] == 6
    assert found["penstock_gateway_gossip_bytes_total", "heard"] == 100
    assert found["penstock_gateway_gossip_dropped_total", "stale"] == 2
    assert found["penstock_gateway_gossip_gateways",] == 2
    assert found["penstock_gateway_gossip_last_heard_timestamp_seconds",] == 1_000.0
    assert found["penstock_gateway_route_table_version",] == 4
    assert found["penstock_gateway_workers",] == 2
    assert found["penstock_gateway_workers_unread",] == 2


def test_a_gateway_that_never_heard_another_tells_no_time_of_it() -> None:
    text = total(Telemetry().snapshot(Readings()))
    assert "\npenstock_gateway_gossip_gateways 0" in text
    assert "\npenstock_gateway_gossip_last_heard_timestamp_seconds " not in text


def test_a_traced_request_stands_beside_its_times() -> None:
    telemetry = Telemetry()
    counting, one = Meter(telemetry), stream()
    counting.finished(one, 12.0)
    counting.exemplify(one, 12.0, "ab" * 16, 1000.0)
    found = open_families(total(telemetry.snapshot(Readings()), openmetrics=True))
    exemplars = {s.name: s.exemplar.value for family in found for s in family.samples if s.exemplar}
    assert exemplars == {
        "gen_ai_server_request_duration_seconds_bucket": 2.0,
        "gen_ai_server_time_to_first_token_seconds_bucket": pytest.approx(0.3),
    }


@pytest.mark.parametrize(
    ("path", "protocol", "expected"),
    [
        ("/v1/chat/completions", "openai", "chat"),
        ("/openai/v1/embeddings", "openai", "embeddings"),
        ("/v2/models/m/infer", "v2", "predict"),
        ("/anything", "openai", "other"),
    ],
)
def test_operations_have_the_names_of_the_conventions(path: str, protocol: str, expected: str) -> None:
    assert operation(path, protocol) == expected


def test_the_buckets_are_those_of_the_conventions() -> None:
    assert METRICS["duration"].buckets == (
        0.01,
        0.02,
        0.04,
        0.08,
        0.16,
        0.32,
        0.64,
        1.28,
        2.56,
        5.12,
        10.24,
        20.48,
        40.96,
        81.92,
    )
    assert METRICS["tokens"].buckets == (
        1,
        4,
        16,
        64,
        256,
        1024,
        4096,
        16384,
        65536,
        262144,
        1048576,
        4194304,
        16777216,
        67108864,
    )
    assert METRICS["first_token"].buckets[0] == 0.001
    assert METRICS["first_token"].buckets[-1] == 10
