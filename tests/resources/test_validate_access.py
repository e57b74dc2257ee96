"""Every mistake in a key or tenant is named by its field."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.kit.errors import Invalid, InvalidInput
from penstock.resources.admission import admit


def api_key(**spec: Any) -> dict[str, Any]:
    meta = {"name": "app", "namespace": "team"}
    return {"apiVersion": "penstock.dev/v1alpha1", "kind": "ApiKey", "metadata": meta, "spec": spec}


def tenant(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": "acme"},
        "spec": spec,
    }


def causes(document: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        admit(document)
    return {cause.field: cause.message for cause in caught.value.causes}


def test_a_key_that_says_everything_is_accepted() -> None:
    limits = [
        {"model": "*", "requestsPerMinute": 60},
        {"model": "team/chat-?", "tokensPerMinute": 10_000, "requestsPerMinute": 0},
    ]
    admit(
        api_key(
            tenant="acme",
            models=["*", "team/chat-*", "lab-a/x", "*/y"],
            namespaces=["team", "lab-a"],
            admin=True,
            expiresAt="2030-01-01T00:00:00+02:00",
            disabled=False,
            limits=limits,
        )
    )
    admit(tenant(displayName="Acme & Söhne", limits=limits))


def test_a_key_and_a_tenant_that_say_nothing_are_accepted() -> None:
    admit(api_key())
    admit(tenant())


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"tenant": "Acme"}, "spec.tenant"),
        ({"models": ["ok", "Chat"]}, "spec.models[1]"),
        ({"models": ["a/b/c"]}, "spec.models[0]"),
        ({"models": [""]}, "spec.models[0]"),
        ({"models": ["[ab]"]}, "spec.models[0]"),
        ({"models": ["x", "x"]}, "spec.models[1]"),
        ({"models": [f"m{i}" for i in range(257)]}, "spec.models"),
        ({"namespaces": ["a/b"]}, "spec.namespaces[0]"),
        ({"expiresAt": "tomorrow"}, "spec.expiresAt"),
        ({"expiresAt": "2030-02-30T00:00:00Z"}, "spec.expiresAt"),
        ({"limits": [{"model": "*"}]}, "spec.limits[0]"),
        ({"limits": [{"requestsPerMinute": -1}]}, "spec.limits[0].requestsPerMinute"),
        ({"limits": [{"tokensPerMinute": -1}]}, "spec.limits[0].tokensPerMinute"),
        ({"limits": [{"model": "A", "tokensPerMinute": 1}]}, "spec.limits[0].model"),
        ({"limits": [{"tokensPerMinute": 1}, {"requestsPerMinute": 1}]}, "spec.limits[1].model"),
        ({"limits": [{"tokensPerMinute": "1k"}]}, "spec.limits[0].tokensPerMinute"),
        ({"admin": "yes"}, "spec.admin"),
        ({"priority": 1 << 31}, "spec.priority"),
        ({"priority": 3, "maxPriority": 2}, "spec.maxPriority"),
        ({"maxPriority": -1}, "spec.maxPriority"),
    ],
)
def test_a_mistake_is_named_by_its_field(spec: dict[str, Any], field: str) -> None:
    assert list(causes(api_key(**spec))) == [field]


def test_a_model_that_the_key_could_never_reach_is_refused() -> None:
    found = causes(api_key(models=["chat", "lab/chat"]))
    assert list(found) == ["spec.models[1]"]
    assert "spec.namespaces" in found["spec.models[1]"]
    admit(api_key(models=["lab/chat"], namespaces=["lab"]))
    admit(api_key(models=["lab/chat"], namespaces=["l*"]))


def test_limits_of_a_tenant_keep_the_same_rules() -> None:
    assert list(causes(tenant(limits=[{"tokensPerMinute": -1}]))) == ["spec.limits[0].tokensPerMinute"]
    assert list(causes(tenant(displayName="x" * 257))) == ["spec.displayName"]


@pytest.mark.parametrize("weight", [0, 0.001, 1001, -1])
def test_a_tenant_weighs_something_and_no_more_than_a_thousand(weight: float) -> None:
    assert list(causes(tenant(weight=weight))) == ["spec.weight"]
    admit(tenant(weight=2))


def test_an_unknown_field_is_told_with_the_nearest_one() -> None:
    assert 'did you mean "expiresAt"' in admit(api_key(expireAt="x")).warnings[0]
    with pytest.raises(InvalidInput):
        admit(api_key(expireAt="x"), strict=True)
