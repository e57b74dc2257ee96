from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exchange import KeyHash, KeyRoute
from penstock.decide.access import matches_any, may_administer, may_enter, may_use

KEY = KeyRoute(id="abc", namespace="team", name="app")
HASH = KeyHash(hash="00")
NAME = st.text("ab-", min_size=1, max_size=6)


def test_nobody_needs_a_key_where_none_is_asked_for() -> None:
    assert may_enter(None, None, given=False, required=False, now=0).allowed


def test_a_caller_without_a_key_is_told_that_it_is_missing() -> None:
    verdict = may_enter(None, None, given=False, required=True, now=0)
    assert verdict.reason == "missing_api_key"
    assert "Authorization" in verdict.hint


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(("key", "met"), [(None, None), (KEY, None)])
def test_a_token_that_meets_no_hash_is_refused_even_where_no_key_is_asked_for(
    key: KeyRoute | None, met: KeyHash | None, required: bool
) -> None:
    assert may_enter(key, met, given=True, required=required, now=0).reason == "invalid_api_key"


def test_a_hash_holds_until_the_second_in_which_it_expires() -> None:
    met = KeyHash(hash="00", expires_at=100.0)
    assert may_enter(KEY, met, given=True, required=True, now=99.9).allowed
    late = may_enter(KEY, met, given=True, required=True, now=100.0)
    assert late.reason == "invalid_api_key"
    assert "team/app has expired" in late.message


def test_a_hash_without_an_end_holds_for_ever() -> None:
    assert may_enter(KEY, HASH, given=True, required=True, now=1e12).allowed


def test_a_key_reaches_only_what_both_its_namespaces_and_its_models_name() -> None:
    key = KeyRoute(
        id="a", namespace="team", name="app", namespaces=("team", "lab-*"), models=("*/chat-?", "team/x")
    )
    assert may_use(key, "team", "chat-1").allowed
    assert may_use(key, "lab-2", "chat-2").allowed
    assert may_use(key, "team", "x").allowed
    assert may_use(key, "lab-2", "x").reason == "model_not_allowed"
    assert may_use(key, "team", "chat-10").reason == "model_not_allowed"
    refused = may_use(key, "other", "chat-1")
    assert refused.reason == "namespace_not_allowed"
    assert "team, lab-*" in refused.hint


def test_only_an_admin_key_sees_the_gateway_where_keys_are_asked_for() -> None:
    assert may_administer(None, required=False).allowed
    assert may_administer(KeyRoute(id="a", namespace="n", name="a", admin=True), required=True).allowed
    assert may_administer(KEY, required=True).reason == "admin_required"
    assert may_administer(None, required=True).reason == "admin_required"


@given(NAME, NAME)
def test_a_pattern_without_wildcards_matches_itself_alone(pattern: str, text: str) -> None:
    assert matches_any((pattern,), text) == (pattern == text)


@given(NAME, NAME, NAME)
def test_a_star_stands_for_any_run(head: str, middle: str, tail: str) -> None:
    assert matches_any((f"{head}*{tail}",), head + middle + tail)
    assert matches_any((f"{head}*{tail}",), head + tail)
    assert not matches_any((f"{head}*c",), head + tail)


@given(st.text(max_size=8))
def test_no_other_character_of_a_pattern_is_special(text: str) -> None:
    plain = text.replace("*", "").replace("?", "")
    assert matches_any((plain,), plain)
    assert not matches_any((plain,), plain + "x")
