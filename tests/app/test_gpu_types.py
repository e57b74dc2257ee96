from __future__ import annotations

from collections import Counter

import pytest

from penstock.app.gpu_types import MIB, find_gpu_type, load_gpu_types
from penstock.contracts.devices import GpuType, MigProfile
from penstock.decide.gpu_class import class_selector, types_named
from penstock.kit.errors import InvalidInput

Layout = frozenset[tuple[str, int]]


def _taken(profiles: dict[str, MigProfile], layout: Layout) -> set[int]:
    return {slot for name, start in layout for slot in range(start, start + profiles[name].memory_slices)}


def _states(kind: GpuType, profiles: dict[str, MigProfile]) -> tuple[set[Layout], set[Layout]]:
    """Every layout that can be made one instance after the other, and those to which nothing can be added."""
    seen: set[Layout] = set()
    maximal: set[Layout] = set()
    waiting: list[Layout] = [frozenset()]
    while waiting:
        layout = waiting.pop()
        if layout in seen:
            continue
        seen.add(layout)
        compute = sum(profiles[name].compute_slices for name, _ in layout)
        counts, taken = Counter(name for name, _ in layout), _taken(profiles, layout)
        grown = [
            layout | {(name, start)}
            for name, one in profiles.items()
            for start in one.starts
            if counts[name] < one.most
            and compute + one.compute_slices <= kind.compute_slices
            and not taken & set(range(start, start + one.memory_slices))
        ]
        waiting += grown
        if not grown:
            maximal.add(layout)
    return seen, maximal


def _sums(name: str, *, double: bool) -> tuple[int, int, int]:
    kind = find_gpu_type(name)
    plain = {
        one.name: one for one in kind.profiles if "+" not in one.name and (double or one.profile_id != 15)
    }
    states, maximal = _states(kind, plain)
    return len(maximal), len({tuple(sorted(name for name, _ in one)) for one in maximal}), len(states)


EIGHT_WIDE = [one.name for one in load_gpu_types() if one.memory_slices == 8]


@pytest.mark.parametrize("name", EIGHT_WIDE)
def test_every_product_with_eight_memory_slices_has_the_published_number_of_layouts(name: str) -> None:
    assert _sums(name, double=False) == (19, 14, 298)
    assert _sums(name, double=True) == (78, 38, 723)


@pytest.mark.parametrize("name", ["a30", "rtx-pro-6000"])
def test_products_with_four_memory_slices_have_five_layouts_of_which_four_differ(name: str) -> None:
    assert _sums(name, double=False)[:2] == (5, 4)


def test_memory_of_profiles_is_what_the_driver_lists_where_that_is_known() -> None:
    a100 = {one.name: one.memory_bytes // MIB for one in find_gpu_type("a100-40gb").profiles}
    assert a100["1g.5gb"] == 4864
    assert a100["3g.20gb"] == 19968
    assert a100["7g.40gb"] == 40192
    assert {one.name: one.memory_bytes // MIB for one in find_gpu_type("a30").profiles}["2g.12gb"] == 11672


@pytest.mark.parametrize("kind", load_gpu_types(), ids=lambda kind: kind.name)
def test_no_profile_promises_more_than_its_part_and_none_wastes_much(kind: GpuType) -> None:
    for profile in kind.profiles:
        part = kind.memory_bytes * profile.memory_slices / kind.memory_slices
        assert 0.94 * part < profile.memory_bytes <= part, profile.name


def test_names_of_types_and_products_are_unique() -> None:
    for names in ([one.name for one in load_gpu_types()], [one.product for one in load_gpu_types()]):
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("H100_NVLINK_80GB", "h100-80gb"),
        ("nvidia-h100-80gb", "h100-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-80gb"),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "a100-40gb"),
        ("Tesla-T4-SHARED", "t4"),
        ("nvidia-tesla-t4", "t4"),
        ("A100_PCIE_80GB", "a100-80gb"),
    ],
)
def test_a_type_is_found_by_each_providers_name_for_it(word: str, name: str) -> None:
    assert find_gpu_type(word).name == name


def test_a_name_of_two_types_means_both() -> None:
    assert [one.name for one in types_named("a100", load_gpu_types())] == ["a100-40gb", "a100-80gb"]
    with pytest.raises(InvalidInput, match="which may be a100-40gb or a100-80gb"):
        find_gpu_type("a100", field="nodes[0].gpus[0].type")


def test_an_unknown_name_is_answered_with_those_that_look_like_it() -> None:
    with pytest.raises(InvalidInput, match=r"nodes\[0\]: there is no type of GPU 'h100-80bg'") as caught:
        find_gpu_type("h100-80bg", field="nodes[0]")
    assert "h100-80gb" in caught.value.hint


def test_only_pairs_of_a_selector_that_name_types_are_taken_for_classes() -> None:
    selector = {"accelerator": "nvidia-l4", "gpu.nvidia.com/class": "blue", "disk": "l4"}
    assert {
        key: [t.name for t in found] for key, found in class_selector(selector, load_gpu_types()).items()
    } == {"accelerator": ["l4"]}
