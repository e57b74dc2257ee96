"""A request is as urgent as its key allows, and waits on its tenant's account."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exchange import KeyRoute, ServiceRoute
from penstock.decide.priority import FAIRNESS_ID, LEAST, MOST, OBJECTIVE, PRIORITY, Rank, rank_of

SERVICE = ServiceRoute(
    namespace="n", name="s", uid="u", engine_model="m", objectives=(("urgent", 10), ("low", -5), ("zero", 0))
)
KEY = KeyRoute(id="k", namespace="n", name="key", tenant="acme", priority=2, max_priority=7)


def priority(key: KeyRoute | None = KEY, *, is_batch: bool = False, **headers: str) -> int:
    names = {"asked": PRIORITY, "objective": OBJECTIVE}
    given_headers = {names[name]: value.encode() for name, value in headers.items()}
    return rank_of(key, SERVICE, {}, given_headers, is_batch=is_batch).priority


def test_who_asks_for_nothing_has_the_priority_of_his_key() -> None:
    assert (priority(), priority(None)) == (2, 0)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"asked": "5"}, 5),
        ({"asked": "100"}, 7),
        ({"asked": "-3"}, -3),
        ({"objective": "urgent"}, 7),
        ({"objective": "low"}, -5),
        ({"objective": "zero"}, 0),
        ({"objective": "unknown"}, 2),
        ({"asked": "1", "objective": "urgent"}, 1),
        ({"asked": "soon", "objective": "low"}, -5),
        ({"asked": "9" * 5000}, 2),
        ({"asked": "Batch"}, LEAST),
    ],
)
def test_one_may_step_back_as_far_as_one_likes_and_forward_as_far_as_the_key_allows(
    headers: dict[str, str], found: int
) -> None:
    assert priority(**headers) == found


def test_who_has_no_key_may_only_step_back() -> None:
    assert (priority(None, asked="9"), priority(None, objective="urgent"), priority(None, asked="-1")) == (
        0,
        0,
        -1,
    )


@given(st.integers(LEAST, MOST), st.integers(LEAST, MOST), st.text(max_size=20))
def test_a_batch_comes_after_whatever_is_none(own: int, most: int, asked: str) -> None:
    key = KeyRoute(id="k", namespace="n", name="key", priority=own, max_priority=most)
    assert (
        priority(key, is_batch=True) == LEAST < priority(key, asked=asked.encode("ascii", "ignore").decode())
    )


def rank(key: KeyRoute, fairness_id: str = "") -> Rank:
    return rank_of(key, SERVICE, {"acme": 3.0}, {FAIRNESS_ID: fairness_id.encode()})


def test_keys_of_one_tenant_share_an_account_of_its_weight() -> None:
    other = KeyRoute(id="l", namespace="n", name="other", tenant="acme")
    assert rank(KEY).account == rank(other).account
    assert rank(KEY).weight == 3.0
    alone = KeyRoute(id="m", namespace="n", name="alone")
    assert rank(alone).account not in (
        rank(KEY).account,
        rank(KeyRoute(id="acme", namespace="n", name="x")).account,
    )
    assert rank(alone).weight == 1.0


def test_only_a_key_that_speaks_for_several_may_name_the_account() -> None:
    several = KeyRoute(id="k", namespace="n", name="key", tenant="acme", fairness_ids=True)
    assert rank(KEY, "ann") == rank(KEY, "bob")
    assert rank(several, "ann").account != rank(several, "bob").account
    assert len(rank(several, "x" * 10_000).account) < 200


def test_bands_have_names() -> None:
    assert (Rank(LEAST, "").band, Rank(-1, "").band) == ("batch", "-1")
