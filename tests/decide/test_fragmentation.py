"""How much of a node's free GPU the usual work cannot use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.devices import DeviceRequest, Gpu, GpuType
from penstock.decide.fragmentation import Mix, Shape, Worth, typical
from penstock.decide.workload_mix import HALF_LIFE_S, MOST_SHAPES, MixEstimate, shape_of

ONE = Shape(8000, 1, 1000)
HALF = Shape(4000, 1, 500)
FOUR = Shape(32000, 4, 1000)
EVEN = Mix(((ONE, 0.5), (HALF, 0.5)))
PLENTY = 1_000_000


def test_the_typical_shapes_cover_the_share_and_their_weights_add_up_to_one() -> None:
    rare = Shape(1000, 1, 100)
    mix = typical([(ONE, 60.0), (HALF, 30.0), (Shape(4000, 0, 0), 9.0), (rare, 1.0)])
    assert [shape for shape, _ in mix.shapes] == [ONE, HALF]
    assert sum(weight for _, weight in mix.shapes) + mix.cpu_only == pytest.approx(1.0)
    assert typical([]).shapes == ()


def test_what_is_usable_is_the_free_part_on_gpus_that_a_shape_fits_by_its_weight() -> None:
    """The fragmentation of FGD: a GPU of which 600 are free is of use to half of the work."""
    assert Worth(EVEN).usable("t4", PLENTY, (600, 1000)) == 0.5 * 1000 + 0.5 * 1600
    assert Worth(EVEN).usable("t4", PLENTY, (400,)) == 0.0


def test_gpus_without_cores_are_of_no_use() -> None:
    assert Worth(EVEN).usable("t4", 7999, (1000,)) == 0.5 * 1000
    assert Worth(EVEN).usable("t4", 3999, (1000,)) == 0.0


def test_four_gpus_are_needed_on_one_node() -> None:
    worth = Worth(Mix(((FOUR, 1.0),)))
    assert worth.usable("t4", PLENTY, (1000,) * 3) == 0.0
    assert worth.usable("t4", PLENTY, (1000,) * 4) == 4000.0


def test_work_that_insists_on_a_type_makes_it_dear_to_all_others() -> None:
    insisting = Mix(((Shape(8000, 1, 1000, frozenset({"v100"})), 0.4), (ONE, 0.6)))
    worth = Worth(insisting, {"v100": 10, "t4": 90})
    assert worth.of("v100", PLENTY, (1000,)) > worth.of("t4", PLENTY, (1000,)) + 1000


def test_a_pair_that_fills_a_gpu_is_worth_more_than_one_that_does_not() -> None:
    """190 beside 810 is filled in the end; 200 beside 800 is filled with 190 only."""
    worth = Worth(Mix(((Shape(1000, 1, 810), 0.5), (Shape(1000, 1, 190), 0.5))))
    assert worth.of("t4", PLENTY, (200,)) - worth.of("t4", PLENTY, (190,)) < 25


@given(
    st.lists(st.integers(0, 1000), max_size=8).map(lambda some: tuple(sorted(some))),
    st.integers(0, 200_000),
    st.integers(0, 50_000),
)
def test_nothing_free_is_worth_nothing_and_more_cores_are_never_worth_less(
    free: tuple[int, ...], cpu: int, more: int
) -> None:
    worth = Worth(Mix(((ONE, 0.4), (HALF, 0.3), (FOUR, 0.3))))
    value = worth.of("t4", cpu, free)
    assert 0.0 <= value <= worth.of("t4", cpu + more, free)
    assert worth.of("t4", cpu, free) == Worth(worth.mix).of("t4", cpu, free)
    assert worth.of("t4", cpu, (0,) * len(free)) == 0.0


def test_an_arrival_counts_half_after_the_half_life() -> None:
    estimate = MixEstimate().with_arrival(ONE, 0.0).with_arrival(HALF, HALF_LIFE_S)
    assert estimate.counts == {ONE: 0.5, HALF: 1.0}
    assert dict(estimate.mix().shapes) == {HALF: pytest.approx(2 / 3), ONE: pytest.approx(1 / 3)}


def test_a_clock_that_goes_back_changes_no_count() -> None:
    assert MixEstimate().with_arrival(ONE, 10.0).with_arrival(ONE, 5.0).counts == {ONE: 2.0}


def test_shapes_are_bounded() -> None:
    estimate = MixEstimate()
    for cpu in range(MOST_SHAPES + 5):
        estimate = estimate.with_arrival(Shape(cpu, 1, 1000), float(cpu))
    assert len(estimate.counts) == MOST_SHAPES


def test_the_shape_of_a_part_by_memory_is_measured_on_the_smallest_gpu_that_will_do() -> None:
    gpus = [
        Gpu(index=0, uuid=str(size), type=GpuType(name=f"g{size}", product="x", memory_bytes=size))
        for size in (16, 40, 80)
    ]
    part = DeviceRequest(milli=0, memory_bytes=20, count=2)
    assert shape_of(2000, (part,), gpus) == Shape(2000, 2, 500)
    assert shape_of(2000, (DeviceRequest(profile="1g.10gb", milli=0),), gpus) == Shape(2000, 0, 0)
    assert shape_of(2000, (DeviceRequest(count=4),), gpus) == Shape(2000, 4, 1000)
