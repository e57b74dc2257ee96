"""The limits of keys and tenants, as the pipeline asks for them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from penstock.contracts.exchange import KeyRoute, RateLimit, RouteTable, ServiceRoute, TenantRoute
from penstock.gateway.call import Call
from penstock.gateway.paths import Target
from penstock.gateway.quota import Quota, bucket_id, duration
from penstock.gateway.wire.message import Head, Request
from penstock.kit.errors import Exhausted, InvalidInput
from penstock.testing.clock import HandClock

JSON = [(b"content-type", b"application/json")]


def limit(requests: int = 0, tokens: int = 0, model: str = "*") -> RateLimit:
    return RateLimit(model=model, requests_per_minute=requests, tokens_per_minute=tokens)


def key(*limits: RateLimit, id: str = "a1", tenant: str = "") -> KeyRoute:
    return KeyRoute(id=id, namespace="prod", name=f"ci-{id}", tenant=tenant, limits=limits)


def table(*keys: KeyRoute, tenants: tuple[TenantRoute, ...] = ()) -> RouteTable:
    return RouteTable(version=1, keys=keys, tenants=tenants)


def call(of: KeyRoute | None, *, body: bytes = b"x" * 400, model: str = "prod/llama", **more: Any) -> Call:
    namespace, name = model.split("/")
    service = ServiceRoute(namespace=namespace, name=name, uid=model, engine_model=name)
    path = more.pop("path", "/v1/chat/completions")
    protocol = more.pop("protocol", "openai")
    headers = more.pop("headers", JSON)
    request = Request(Head(b"POST", path.encode(), headers, keep_alive=True), body, "127.0.0.1")
    return Call(
        request,
        cast(Any, None),
        "r",
        0.0,
        cast(Any, None),
        cast(Any, None),
        Target(protocol, path=path),
        service=service,
        key=of,
        **more,
    )


def quota(*keys: KeyRoute, tenants: tuple[TenantRoute, ...] = ()) -> tuple[Quota, HandClock]:
    clock = HandClock(1000.0)
    made = Quota(clock)
    made.apply(table(*keys, tenants=tenants))
    return made, clock


def remaining(made: Quota, asked: Call) -> dict[str, str]:
    headers = dict(made.headers(asked))
    return {
        name.decode().rpartition("-")[2]: value.decode()
        for name, value in headers.items()
        if b"remaining" in name
    }


def served(asked: Call, prompt: int = -1, completion: int = -1, error: str = "") -> Call:
    asked.attempts, asked.prompt_tokens, asked.completion_tokens, asked.error = 1, prompt, completion, error
    return asked


def test_a_key_without_limits_is_never_counted() -> None:
    free = key()
    made, _ = quota(free, key(limit(1), id="b2"))
    for asked in (call(free), call(None)):
        made.reserve(asked)
        made.settle(asked)
        assert asked.reservation is None
        assert made.headers(asked) == []
    assert len(made.buckets) == 1


def test_the_request_beyond_the_limit_is_refused_with_the_exact_wait() -> None:
    k = key(limit(2))
    made, clock = quota(k)
    made.reserve(call(k))
    made.reserve(call(k))
    clock.at += 10
    with pytest.raises(Exhausted, match="the key prod/ci-a1 may send 2 requests a minute") as refused:
        made.reserve(call(k))
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.retry_after_s == pytest.approx(20.0)
    clock.at += 20
    made.reserve(call(k))


def test_openais_headers_say_limit_rest_and_reset() -> None:
    k = key(limit(60, 6000))
    made, _ = quota(k)
    asked = call(k, max_tokens=500)
    made.reserve(asked)
    assert made.headers(asked) == [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"1s"),
        (b"x-ratelimit-limit-tokens", b"6000"),
        (b"x-ratelimit-remaining-tokens", b"5400"),
        (b"x-ratelimit-reset-tokens", b"6s"),
    ]


def test_a_refused_call_has_headers_too() -> None:
    k = key(limit(1))
    made, _ = quota(k)
    made.reserve(call(k))
    asked = call(k)
    with pytest.raises(Exhausted):
        made.reserve(asked)
    assert dict(made.headers(asked))[b"x-ratelimit-remaining-requests"] == b"0"
    assert dict(made.headers(asked))[b"x-ratelimit-reset-requests"] == b"1m0s"


def test_the_true_count_replaces_the_estimate() -> None:
    k = key(limit(tokens=6000))
    made, _ = quota(k)
    asked = call(k, max_tokens=500)
    made.reserve(asked)
    made.settle(served(asked, 30, 20))
    assert remaining(made, asked) == {"tokens": "5950"}
    made.settle(asked)
    assert remaining(made, asked) == {"tokens": "5950"}


@pytest.mark.parametrize(("error", "attempts"), [("", 0), ("no_endpoint_answered", 3)])
def test_a_call_that_no_engine_answered_gets_everything_back(error: str, attempts: int) -> None:
    k = key(limit(60, 6000))
    made, _ = quota(k)
    asked = call(k)
    made.reserve(asked)
    asked.attempts, asked.error = attempts, error
    made.settle(asked)
    assert remaining(made, asked) == {"requests": "60", "tokens": "6000"}


def test_a_call_without_usage_keeps_what_it_reserved_and_no_more() -> None:
    k = key(limit(tokens=6000))
    made, _ = quota(k)
    asked = call(k, max_tokens=10**9)
    made.reserve(asked)
    made.settle(served(asked, error="client_gone"))
    assert remaining(made, asked) == {"tokens": "0"}
    assert made.buckets[bucket_id("key/a1", limit(tokens=6000))].tokens == 0


@pytest.mark.parametrize(
    ("path", "max_tokens", "left"),
    [
        ("/v1/chat/completions", 0, 6000 - 100 - 512),
        ("/v1/messages", 0, 6000 - 100 - 512),
        ("/v1/chat/completions", 7, 6000 - 100 - 7),
        ("/v1/embeddings", 0, 6000 - 100),
    ],
)
def test_the_estimate_is_the_prompt_and_what_may_be_made(path: str, max_tokens: int, left: int) -> None:
    k = key(limit(tokens=6000))
    made, _ = quota(k)
    asked = call(k, path=path, max_tokens=max_tokens)
    made.reserve(asked)
    assert remaining(made, asked) == {"tokens": str(left)}


def test_a_prompt_beyond_the_bucket_is_refused_for_good() -> None:
    k = key(limit(tokens=1000))
    made, _ = quota(k)
    with pytest.raises(InvalidInput, match="this prompt alone has about 1250") as refused:
        made.reserve(call(k, body=b"x" * 5000))
    assert refused.value.code == "rate_limit_unreachable"
    assert refused.value.retry_after_s is None


@pytest.mark.parametrize(
    "more",
    [
        {"body": b'{"url": "data:image/png;base64,' + b"A" * 5000},
        {"headers": [(b"content-type", b"multipart/form-data; boundary=x")], "body": b"x" * 5000},
        {"protocol": "v2", "path": "/v2/models/m/infer", "body": b"1" * 5000},
    ],
)
def test_bytes_that_are_no_text_take_the_whole_bucket_at_most(more: dict[str, Any]) -> None:
    k = key(limit(tokens=1000))
    made, _ = quota(k)
    asked = call(k, **more)
    made.reserve(asked)
    assert remaining(made, asked) == {"tokens": "0"}


def test_a_limit_holds_for_the_models_that_match_it() -> None:
    k = key(limit(1, model="prod/big-*"))
    made, _ = quota(k)
    for _ in range(5):
        made.reserve(call(k, model="prod/small"))
    made.reserve(call(k, model="prod/big-a"))
    with pytest.raises(Exhausted, match="1 requests a minute to prod/big-"):
        made.reserve(call(k, model="prod/big-b"))


def test_keys_of_a_tenant_share_its_limit() -> None:
    a, b = key(limit(60), id="a1", tenant="acme"), key(id="b2", tenant="acme")
    made, _ = quota(a, b, tenants=(TenantRoute(name="acme", limits=(limit(3),)),))
    made.reserve(call(a))
    made.reserve(call(a))
    made.reserve(call(b))
    with pytest.raises(Exhausted, match="the tenant acme may send 3"):
        made.reserve(call(a))
    assert made.buckets[bucket_id("key/a1", limit(60))].requests == 58, "all or none"
    assert remaining(made, call(a)) == {"requests": "0"}


def test_the_same_limit_written_twice_counts_once() -> None:
    k = key(limit(2), limit(2))
    made, _ = quota(k)
    made.reserve(call(k))
    made.reserve(call(k))


def test_levels_outlive_a_new_table_and_end_with_their_key() -> None:
    a, b = key(limit(2), id="a1"), key(limit(2), id="b2")
    made, _ = quota(a, b)
    made.reserve(call(a))
    made.apply(table(a, key(limit(5), id="b2")))
    assert made.buckets[bucket_id("key/a1", limit(2))].requests == 1
    assert set(made.buckets) == {bucket_id("key/a1", limit(2)), bucket_id("key/b2", limit(5))}
    asked = call(a)
    made.reserve(asked)
    made.apply(table())
    assert made.buckets == {}
    made.settle(served(asked, 1, 1))
    made.reserve(call(a))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, b"0ms"),
        (0.0004, b"1ms"),
        (0.12, b"120ms"),
        (1.0, b"1s"),
        (7.66, b"7.66s"),
        (59.9999, b"1m0s"),
        (360.0, b"6m0s"),
        (3600.0, b"1h0m0s"),
        (90061.0, b"25h1m1s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: bytes) -> None:
    assert duration(seconds) == text
