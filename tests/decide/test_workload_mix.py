"""When has the usual work become something else?"""

from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from penstock.decide.fragmentation import Mix, Shape, typical
from penstock.decide.workload_mix import ALIKE, NEW_SHARE, MixEstimate, distance, is_other

SHAPES = [Shape(1000 * gpus, gpus, 1000 if gpus else 0) for gpus in range(5)]
MIXES = st.dictionaries(st.sampled_from(SHAPES), st.floats(0.1, 10.0), min_size=1).map(
    lambda counts: typical(counts.items(), covered=1.0)
)


def mixed(**parts: float) -> Mix:
    """By name: `none` asks for no GPU, `one` and `two` for as many."""
    shapes = {"none": SHAPES[0], "one": SHAPES[1], "two": SHAPES[2]}
    return typical([(shapes[name], part) for name, part in parts.items()], covered=1.0)


@given(MIXES, MIXES, MIXES)
def test_the_distance_is_one(one: Mix, other: Mix, third: Mix) -> None:
    assert distance(one, one) == 0
    assert distance(one, other) == approx(distance(other, one))
    assert 0 <= distance(one, other) <= 1 + 1e-9
    assert distance(one, third) <= distance(one, other) + distance(other, third) + 1e-9


def test_it_is_the_share_of_the_work_that_is_of_another_shape() -> None:
    assert distance(mixed(one=3, two=1), mixed(one=1, two=3)) == approx(0.5)
    assert distance(mixed(none=1), mixed(two=1)) == approx(1.0)


def test_nothing_is_other_than_anything() -> None:
    assert is_other(Mix(), mixed(one=1))
    assert not is_other(Mix(), Mix())


def test_a_little_more_of_one_shape_is_not_another_mix() -> None:
    assert not is_other(mixed(one=100, two=100), mixed(one=100, two=100 * (1 + ALIKE)))
    assert is_other(mixed(one=100, two=100), mixed(one=100, two=150))


def test_it_is_looked_at_again_once_enough_is_new() -> None:
    estimate = MixEstimate({SHAPES[1]: 1000.0})
    assert not estimate.is_due(int(1000 * NEW_SHARE))
    assert estimate.is_due(int(1000 * NEW_SHARE) + 1)
