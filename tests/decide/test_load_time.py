"""Seconds of loading by node: what is missing, what is on the disk, what is in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.fragmentation import Mix, Worth
from penstock.decide.load_time import TYPICAL_PEER_BYTES_PER_S, Copy, Rates, differs, load_times
from penstock.decide.node_standing import Ask, Leaning
from penstock.resources.pod import Pod

GB = 10**9
M, N = "hf://o/m", "hf://o/n"
RATES = Rates(source=0.1 * GB, read=2.0 * GB)


def test_a_node_that_has_it_loads_one_that_has_not_brings_it_first() -> None:
    held = {
        "warm": {M: Copy(8 * GB, 8 * GB)},
        "cold": {M: Copy(8 * GB)},
        "half": {M: Copy(4 * GB)},
        "none": {},
    }
    times = load_times({M: 8 * GB}, held, dict.fromkeys(held, Rates(source=0.1 * GB, peer=0.4 * GB, read=GB)))
    assert {name: one.total_s for name, one in times.items()} == pytest.approx(
        {"warm": 0.0, "cold": 8.0, "half": 10.0 + 4.0, "none": 20.0}
    )
    assert times["warm"].told == "its weights are there, in memory"
    assert times["cold"].told == "its weights are there, 8 s to load"
    assert times["half"].told == "14 s to bring and load its weights"
    assert differs(times)


def test_where_no_node_has_it_all_bring_it_from_the_source() -> None:
    times = load_times({M: 8 * GB}, {"a": {}, "b": {}}, {"a": Rates(source=0.1 * GB, peer=GB)})
    assert times["a"].total_s == pytest.approx(80.0)
    assert times["b"] == times["a"]
    assert not differs(times)


def test_a_rate_that_was_never_measured_is_as_elsewhere_then_as_is_typical() -> None:
    held = {"a": {M: Copy(GB, GB)}, "b": {}}
    assert load_times({M: GB}, held, {})["b"].bring_s == pytest.approx(GB / TYPICAL_PEER_BYTES_PER_S)
    assert load_times({M: GB}, held, {"a": Rates(peer=0.25 * GB)})["b"].bring_s == pytest.approx(4.0)


def test_several_models_add_up_and_one_of_unknown_size_makes_all_unknown() -> None:
    held = {"a": {M: Copy(2 * GB)}}
    times = load_times({M: 2 * GB, N: GB}, held, {"a": RATES})
    assert (times["a"].bring_s, times["a"].read_s) == pytest.approx((10.0, 1.0))
    assert load_times({M: 2 * GB, N: None}, held, {"a": RATES}) == {}
    assert load_times({}, held, {}) == {}


@given(
    size=st.integers(0, 10**13),
    there=st.integers(0, 10**13),
    resident=st.integers(0, 10**13),
    more=st.integers(0, 10**12),
)
def test_whoever_has_more_is_never_slower(size: int, there: int, resident: int, more: int) -> None:
    held = {
        "a": {M: Copy(there, resident)},
        "b": {M: Copy(there, resident + more)},
        "c": {M: Copy(size, size)},
    }
    times = load_times({M: size}, held, dict.fromkeys(held, RATES))
    assert all(one.bring_s >= 0 and one.read_s >= 0 for one in times.values())
    assert times["b"].total_s <= times["a"].total_s
    assert times["c"].total_s == 0


def test_kinds_of_pods_that_differ_in_their_models_alone_share_what_was_found_out_of_nodes() -> None:
    def key(load_s: dict[str, float]) -> bytes:
        return Ask(Pod(), (), Worth(Mix()), Leaning(load_s=load_s)).key()

    assert key({"a": 1.0, "b": 9.0}) == key({"a": 7.0}) == key({})
