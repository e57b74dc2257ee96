"""Stable hashes."""

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.hashing import ALPHABET, canonical_json, draw, short_hash, stable_hash

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Point(msgspec.Struct):
    y: int
    x: int


def shuffled(value):
    if isinstance(value, dict):
        items = list(value.items())
        random.Random(1).shuffle(items)
        return {key: shuffled(item) for key, item in items}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(JSON)
def test_equal_values_hash_equal_whatever_their_order(value):
    assert stable_hash(value) == stable_hash(shuffled(value))


@given(JSON, JSON)
def test_different_values_hash_differently(left, right):
    assert (stable_hash(left) == stable_hash(right)) == (canonical_json(left) == canonical_json(right))


def test_hashes_never_change_between_versions_of_this_program():
    assert canonical_json({"b": [1, "x"], "a": None}) == b'{"a":null,"b":[1,"x"]}'
    assert stable_hash({"a": 1}) == "3c8c141663acf5a1b6b7137162fa70fb"
    assert short_hash({"a": 1}) == "xnqmgtpsxh"


def test_a_struct_hashes_as_what_it_says():
    assert stable_hash(Point(y=2, x=1)) == stable_hash({"x": 1, "y": 2})


@given(JSON, st.integers(1, 25))
def test_a_short_hash_fits_a_name(value, length):
    text = short_hash(value, length)
    assert len(text) == min(length, 20)
    assert set(text) <= set(ALPHABET)


def test_draws_are_the_same_for_a_text_and_fall_evenly_over_texts():
    draws = [draw(f"seed-{i}") for i in range(300)]
    assert draws == [draw(f"seed-{i}") for i in range(300)]
    assert all(0 <= drawn < 1 << 64 for drawn in draws)
    assert all(60 < [drawn % 3 for drawn in draws].count(third) < 140 for third in range(3))
    assert 100 < sum(drawn < 1 << 63 for drawn in draws) < 200
