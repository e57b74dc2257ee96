"""What gateways know in common of chains of blocks."""

from __future__ import annotations

from array import array

from gossip_world import chain
from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.gossip_chains import MARK_BLOCKS, Chains


def test_what_two_chains_have_in_common_is_found_to_the_block_if_a_mark_is_in_it() -> None:
    chains, head = Chains(), chain(21)
    one = array("Q", head + chain(10))
    chains.add(one)
    assert chains.common(head + chain(10)) == (one[-1], 21)
    assert chains.common(head[:18]) == (one[-1], 18)
    assert chains.common(list(one) + chain(3)) == (one[-1], 31)
    assert chains.common(chain(40)) == (0, 0)
    assert chains.common(head[: MARK_BLOCKS - 1]) == (0, 0)


def test_a_chain_is_put_together_from_what_is_known_and_the_rest() -> None:
    chains, one = Chains(), array("Q", chain(31))
    chains.add(one)
    tail = array("Q", chain(3))
    assert chains.joined(one[-1], 16, tail) == one[:16] + tail
    assert chains.joined(one[-1], 32, tail) is None
    assert chains.joined(7, 1, tail) is None
    assert chains.joined(7, 0, tail) == tail


def test_those_that_were_not_used_for_longest_make_room() -> None:
    chains = Chains(max_blocks=40)
    first, second, third = (array("Q", chain(16)) for _ in range(3))
    chains.add(first)
    chains.add(second)
    assert chains.joined(first[-1], 8, array("Q")) is not None
    chains.add(third)
    assert chains.get(second[-1]) is None
    assert chains.get(first[-1]) == first
    assert chains.common(list(second)) == (0, 0)


def test_what_shares_a_beginning_that_somebody_misses_is_told_anew() -> None:
    chains, head = Chains(), chain(32)
    first, second = array("Q", head), array("Q", head + chain(16))
    chains.add(first)
    chains.add(second)
    chains.unmark(first[-1])
    assert chains.common(head + chain(5)) == (0, 0)
    assert chains.joined(first[-1], 32, array("Q")) == first


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 60)), max_size=60))
def test_they_take_no_more_than_they_may(lengths: list[tuple[int, int]]) -> None:
    chains, heads = Chains(max_blocks=200), [chain(40) for _ in range(5)]
    for head, length in lengths:
        one = array("Q", heads[head][:length] + (chain(length - 40) if length > 40 else []))
        chains.add(one)
        assert chains.blocks <= 200
        assert len(chains) <= 200 // MARK_BLOCKS
        assert len(chains._marks) <= 200 // MARK_BLOCKS
        anchor, position = chains.common(one)
        if position:
            assert chains.joined(anchor, position, array("Q")) == one[:position]
