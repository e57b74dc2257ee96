"""Own requests and those of other gateways, in one sum and apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exchange import Endpoint
from penstock.contracts.scheduling import Load
from penstock.gateway.shares import NONE, Counts, Shares

COUNTS = st.builds(Counts, *[st.integers(0, 1_000_000)] * 4)


def load() -> Load:
    return Load(endpoint=Endpoint(name="pod", address="127.0.0.1", port=1))


def of(one: Load) -> Counts:
    return Counts(one.in_flight, one.prefilling, round(one.uncached_tokens), round(one.context_tokens))


def test_a_new_total_replaces_the_one_before() -> None:
    pod = load()
    shares = Shares({"pod": pod})
    shares.told("pod", "a", Counts(2, 1, 100, 50))
    shares.told("pod", "b", Counts(1, 1, 10, 0))
    shares.told("pod", "a", Counts(1, 0, 0, 80))
    assert of(pod) == shares.others("pod") == Counts(2, 1, 10, 80)
    assert shares.own("pod") == NONE


def test_an_endpoint_that_is_gone_has_no_shares() -> None:
    shares = Shares({})
    shares.told("pod", "a", Counts(2, 1, 100, 50))
    assert shares.others("pod") == shares.own("pod") == NONE


def test_what_is_forgotten_is_not_taken_away_from_what_comes_after() -> None:
    loads = {"pod": load()}
    shares = Shares(loads)
    shares.told("pod", "a", Counts(2, 1, 100, 50))
    shares.forget("pod")
    loads["pod"] = load()
    shares.told("pod", "a", NONE)
    assert of(loads["pod"]) == NONE


@given(st.lists(st.tuples(st.sampled_from("abc"), COUNTS)), COUNTS)
def test_a_load_is_the_sum_of_the_last_totals_and_its_own(
    told: list[tuple[str, Counts]], own: Counts
) -> None:
    pod = load()
    shares = Shares({"pod": pod})
    pod.in_flight, pod.prefilling = own.in_flight, own.prefilling
    pod.uncached_tokens, pod.context_tokens = float(own.uncached_tokens), float(own.context_tokens)
    last: dict[str, Counts] = {}
    for gateway, counts in told:
        shares.told("pod", gateway, counts)
        last[gateway] = counts
    assert of(pod) == Counts(*map(sum, zip(own, *last.values(), strict=True)))
    assert shares.own("pod") == own
    for gateway in last:
        shares.told("pod", gateway, NONE)
    assert of(pod) == own
    assert shares.others("pod") == NONE
