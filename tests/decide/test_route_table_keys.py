"""The gateway is told of exactly those keys that may be used."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.contracts.exchange import KeyHash, KeyRoute, RateLimit, TenantRoute
from penstock.decide.route_table import key_routes, tenant_routes
from penstock.kit.timestamps import rfc3339
from penstock.resources.access import ApiKey, Tenant

NOW = 1_800_000_000.0
HASH = "ab" * 32


def api_key(name: str = "app", *, status: dict[str, Any] | None = None, **spec: Any) -> ApiKey:
    document = {
        "metadata": {"name": name, "namespace": "team"},
        "spec": spec,
        "status": {"id": f"id-{name}", "hashes": [{"hash": HASH}]} if status is None else status,
    }
    return msgspec.convert(document, ApiKey)


def tenant(name: str, **spec: Any) -> Tenant:
    return msgspec.convert({"metadata": {"name": name}, "spec": spec}, Tenant)


def routes(*keys: ApiKey, tenants: tuple[Tenant, ...] = ()) -> tuple[KeyRoute, ...]:
    return key_routes(keys, tenants, NOW)


def test_a_key_that_says_nothing_reaches_every_model_of_its_own_namespace_and_nothing_else() -> None:
    expected = KeyRoute(
        id="id-app", namespace="team", name="app", hashes=(KeyHash(hash=HASH),), models=("*",), namespaces=("team",)
    )  # fmt: skip
    assert routes(api_key()) == (expected,)


def test_what_a_key_says_reaches_the_gateway() -> None:
    limits = [
        {"model": "chat", "requestsPerMinute": 6},
        {"model": "team/x", "tokensPerMinute": 9},
        {"tokensPerMinute": 1},
    ]
    [route] = routes(
        api_key(
            tenant="acme", models=["chat-*", "lab/x"], namespaces=["team", "lab"], admin=True, limits=limits
        ),
        tenants=(tenant("acme"),),
    )
    assert (route.tenant, route.models, route.namespaces, route.admin) == (
        "acme",
        ("*/chat-*", "lab/x"),
        ("team", "lab"),
        True,
    )
    assert route.limits == (
        RateLimit(model="*/chat", requests_per_minute=6),
        RateLimit(model="team/x", tokens_per_minute=9),
        RateLimit(model="*", tokens_per_minute=1),
    )


def test_a_key_is_told_with_how_urgent_its_requests_may_be() -> None:
    [route] = routes(api_key(priority=-2, maxPriority=5, fairnessIds=True))
    assert (route.priority, route.max_priority, route.fairness_ids) == (-2, 5, True)
    [route] = routes(api_key(priority=3))
    assert (route.priority, route.max_priority, route.fairness_ids) == (3, 3, False)


def test_keys_are_ordered_by_id() -> None:
    assert [route.name for route in routes(api_key("b"), api_key("a"))] == ["a", "b"]


def test_a_key_that_may_not_be_used_is_not_told() -> None:
    deleted = msgspec.convert(
        {**msgspec.to_builtins(api_key()), "metadata": {"name": "app", "deletionTimestamp": rfc3339(NOW)}},
        ApiKey,
    )
    for key in (
        deleted,
        api_key(disabled=True),
        api_key(status={}),
        api_key(status={"id": "x"}),
        api_key(status={"hashes": [{"hash": HASH}]}),
        api_key(expiresAt=rfc3339(NOW)),
        api_key(tenant="gone"),
    ):
        assert routes(key, tenants=(tenant("acme"),)) == ()


def test_a_hash_that_is_none_never_reaches_a_gateway() -> None:
    for bad in ("", "zz" * 32, "ab", "AB" * 32, HASH + "00"):
        assert routes(api_key(status={"id": "x", "hashes": [{"hash": bad}]})) == ()


def test_two_keys_with_one_id_are_both_refused() -> None:
    same = {"id": "x", "hashes": [{"hash": HASH}]}
    keys = [api_key(name, status=same) for name in "abc"]
    assert routes(*keys, api_key("d")) == routes(api_key("d"))


def test_the_earlier_of_two_ends_is_told() -> None:
    both = [{"hash": HASH}, {"hash": "cd" * 32, "expiresAt": rfc3339(NOW + 5)}, {"hash": "ef" * 32, "expiresAt": rfc3339(NOW)}]  # fmt: skip
    [route] = routes(api_key(expiresAt=rfc3339(NOW + 60), status={"id": "x", "hashes": both}))
    assert [one.expires_at for one in route.hashes] == [NOW + 60, NOW + 5]


def test_tenants_are_told_with_their_limits() -> None:
    told = tenant_routes((tenant("b", limits=[{"requestsPerMinute": 1}]), tenant("a", weight=2.5)))
    assert told == (
        TenantRoute(name="a", weight=2.5),
        TenantRoute(name="b", limits=(RateLimit(model="*", requests_per_minute=1),)),
    )
