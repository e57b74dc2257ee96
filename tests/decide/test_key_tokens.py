from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.key_tokens import MAX_TOKENS, holding, issued, standing
from penstock.kit.timestamps import rfc3339
from penstock.resources.access import ApiKey, ApiKeySpec, ApiKeyStatus, IssuedToken
from penstock.resources.meta import ObjectMeta

NOW = 1_800_000_000.0
FRESH = ApiKeyStatus(id="abc", hashes=(IssuedToken(hash="h0"),))


def hashes(status: ApiKeyStatus, now: float = NOW, **spec: Any) -> list[str]:
    return [token.hash for token, _ in holding(ApiKeySpec(**spec), status, now)]


def rotated(status: ApiKeyStatus, hash: str, now: float = NOW, overlap_s: int = 0) -> ApiKeyStatus:
    changed = issued(status, "other", hash, now, overlap_s)
    assert changed is not None
    return changed


def test_the_first_token_gives_the_key_its_id() -> None:
    first = rotated(ApiKeyStatus(), "h0")
    assert (first.id, first.hashes) == ("other", (IssuedToken(hash="h0", created_at=rfc3339(NOW)),))
    assert rotated(first, "h1").id == "other"


def test_rotation_without_overlap_ends_the_older_token_at_once() -> None:
    assert hashes(rotated(FRESH, "h1")) == ["h1"]


def test_rotation_with_overlap_lets_both_hold_until_it_is_over() -> None:
    both = rotated(FRESH, "h1", overlap_s=60)
    assert hashes(both) == ["h1", "h0"]
    assert hashes(both, NOW + 59) == ["h1", "h0"]
    assert hashes(both, NOW + 60) == ["h1"]


def test_a_later_rotation_never_lengthens_the_life_of_an_older_token() -> None:
    twice = rotated(rotated(FRESH, "h1", overlap_s=60), "h2", NOW + 10, overlap_s=3600)
    assert hashes(twice, NOW + 59) == ["h2", "h1", "h0"]
    assert hashes(twice, NOW + 60) == ["h2", "h1"]
    shorter = rotated(rotated(FRESH, "h1", overlap_s=3600), "h2", NOW, overlap_s=5)
    assert hashes(shorter, NOW + 5) == ["h2"]


def test_the_number_of_tokens_is_bounded_and_rotation_at_once_always_works() -> None:
    status = FRESH
    for i in range(1, MAX_TOKENS):
        status = rotated(status, f"h{i}", overlap_s=3600)
    assert issued(status, "x", "one too many", NOW, 3600) is None
    assert hashes(rotated(status, "new")) == ["new"]
    assert hashes(rotated(status, "new", NOW + 3600, 60), NOW + 3600)[0] == "new"


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=12))
def test_whatever_is_rotated_the_newest_token_holds_and_no_more_than_the_bound(
    steps: list[tuple[int, int]],
) -> None:
    status, now, newest = FRESH, NOW, "h0"
    for i, (wait_s, overlap_s) in enumerate(steps):
        now += wait_s
        changed = issued(status, "x", f"n{i}", now, overlap_s)
        if changed is not None:
            status, newest = changed, f"n{i}"
        assert hashes(status, now)[0] == newest
        assert len(status.hashes) <= MAX_TOKENS


def test_the_end_of_the_key_is_the_end_of_all_its_tokens() -> None:
    ends = rfc3339(NOW + 10)
    assert holding(ApiKeySpec(expires_at=ends), FRESH, NOW) == ((FRESH.hashes[0], NOW + 10),)
    assert hashes(FRESH, NOW + 10, expires_at=ends) == []


def test_a_time_that_cannot_be_read_is_over() -> None:
    assert hashes(FRESH, expires_at="some day") == []


def api_key(status: ApiKeyStatus = FRESH, **spec: Any) -> ApiKey:
    return ApiKey(metadata=ObjectMeta(name="k", namespace="n"), spec=ApiKeySpec(**spec), status=status)


def test_a_person_is_told_where_a_key_stands_and_until_when() -> None:
    def phase(key: ApiKey, *, tenant_exists: bool = True) -> tuple[str, float | None]:
        found = standing(key, tenant_exists=tenant_exists, now=NOW)
        assert found.message
        return found.phase, found.changes_at

    soon = rfc3339(NOW + 10)
    assert phase(api_key()) == ("Active", None)
    assert phase(api_key(expires_at=soon)) == ("Active", NOW + 10)
    assert phase(api_key(rotated(FRESH, "h1", overlap_s=5), expires_at=soon)) == ("Active", NOW + 5)
    assert phase(api_key(ApiKeyStatus())) == ("Pending", None)
    assert phase(api_key(tenant="gone"), tenant_exists=False) == ("Pending", None)
    assert phase(api_key(expires_at=rfc3339(NOW))) == ("Expired", None)
    assert phase(api_key(disabled=True, expires_at=rfc3339(NOW))) == ("Revoked", None)


def test_nothing_but_the_hash_is_written_of_a_token() -> None:
    written = msgspec.json.encode(rotated(FRESH, "feed"))
    assert b'"hash":"feed"' in written
    assert b"token" not in written
