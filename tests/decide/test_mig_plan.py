"""Which MIG layout serves the expected demand, what it costs to get there, and what mig-parted is told."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.app.gpu_types import find_gpu_type
from penstock.contracts.devices import Gpu, GpuType, MigInstance, Share
from penstock.decide.inventory import Inventory, take_stock
from penstock.decide.mig import Plan, Terms, in_use, plan_layouts, rollback
from penstock.decide.mig_cover import Option, cover, worth_of
from penstock.decide.mig_layout import Layout, full_layouts, slices_of
from penstock.decide.mig_parted import balanced_counts, mig_parted
from penstock.resources.core import Taint
from penstock.testing.factories import node, pod

H100, A30 = find_gpu_type("h100-80gb"), find_gpu_type("a30")
PLAIN = ["1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"]
ALL = [*PLAIN, "1g.20gb"]
SEVEN: Layout = tuple(("1g.10gb", start) for start in range(7))
PAIR: Layout = (("3g.40gb", 0), ("3g.40gb", 4))


def gpu(name: str, *there: tuple[str, int], kind: GpuType = H100, **more: object) -> Gpu:
    instances = tuple(MigInstance(uuid=f"{name}/{p}/{s}", profile=p, start=s) for p, s in there)
    fields = {"is_mig": True, "instances": instances, **more}
    return Gpu(index=int(name[1:]), uuid=name, type=kind, **fields)  # type: ignore[arg-type]


def stock(*gpus: Gpu, held: dict[str, Layout] | None = None) -> Inventory:
    found = take_stock([node("n", pods="1000")], [], {"n": gpus})
    for name, places in (held or {}).items():
        for profile, start in places:
            share = Share(gpu=name, profile=profile, start=start, memory_bytes=1)
            found = found.with_(pod(f"{name}-{profile}-{start}"), "n", (share,))
    return found


def fits_together(kind: GpuType, layout: Layout) -> bool:
    known = {one.name: one for one in kind.profiles}
    taken = 0
    for name, start in layout:
        bits = slices_of(known[name], start)
        if taken & bits or start not in known[name].starts:
            return False
        taken |= bits
    names = [name for name, _ in layout]
    return sum(known[name].compute_slices for name in names) <= kind.compute_slices and all(
        names.count(name) <= known[name].most for name in names
    )


layouts = st.lists(
    st.tuples(st.sampled_from(ALL), st.integers(0, 6)).filter(lambda p: fits_together(H100, (p,))), max_size=8
).map(lambda places: _as_they_fit(places))
demands = st.dictionaries(st.sampled_from(ALL), st.floats(0.1, 12), max_size=5)


def _as_they_fit(places: list[tuple[str, int]]) -> Layout:
    found: Layout = ()
    for place in places:
        grown = tuple(sorted((*found, place), key=lambda one: one[1]))
        if fits_together(H100, grown):
            found = grown
    return found


@pytest.mark.parametrize(
    ("kind", "names", "counts"),
    [
        (H100, PLAIN, (19, 14)),
        (H100, ALL, (78, 38)),
        (A30, ["1g.6gb", "2g.12gb", "4g.24gb"], (5, 4)),
    ],
)
def test_there_are_as_many_full_layouts_as_nvidia_has(
    kind: GpuType, names: list[str], counts: tuple[int, int]
) -> None:
    found = full_layouts(kind, names)
    assert (len(found), len({tuple(sorted(name for name, _ in one)) for one in found})) == counts


@given(layouts)
def test_a_full_layout_has_what_is_held_and_room_for_nothing_more(held: Layout) -> None:
    for layout in full_layouts(H100, ALL, held):
        assert set(held) <= set(layout)
        assert fits_together(H100, layout)
        assert not any(
            fits_together(H100, (*layout, (one.name, start)))
            for one in H100.profiles
            if one.name in ALL
            for start in one.starts
        )


@given(st.floats(0.01, 50), st.integers(1, 30))
def test_each_instance_more_is_in_use_less_than_the_one_before_and_none_more_than_always(
    demand: float, most: int
) -> None:
    found = in_use(demand, most)
    steps = [after - before for before, after in pairwise(found)]
    assert all(0 <= step <= 1 for step in steps)
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(steps))
    assert found[-1] <= demand


def test_what_is_in_use_is_what_erlang_says() -> None:
    assert in_use(1.0, 2) == pytest.approx([0.0, 0.5, 0.8])


falling = st.lists(st.floats(0, 5), min_size=13, max_size=13).map(lambda some: sorted(some, reverse=True))
tables = st.lists(
    falling.map(lambda steps: [sum(steps[:n]) for n in range(len(steps) + 1)]), min_size=2, max_size=2
)
option = st.builds(Option, st.tuples(st.integers(0, 3), st.integers(0, 3)), st.floats(0, 3))


@settings(max_examples=60)
@given(st.lists(st.lists(option, min_size=1, max_size=4), min_size=1, max_size=4), tables)
def test_no_other_choice_is_worth_more(gpus: list[list[Option]], worth: list[list[float]]) -> None:
    found = cover(gpus, worth)
    best = max(worth_of(gpus, worth, choice) for choice in product(*(range(len(some)) for some in gpus)))
    assert worth_of(gpus, worth, found.choice) == pytest.approx(found.worth)
    assert found.worth == pytest.approx(best)
    assert found.bound == pytest.approx(best)


def test_what_each_gpu_alone_would_take_is_not_what_all_of_them_take() -> None:
    demand = {"1g.10gb": 7.0, "7g.80gb": 1.0}
    alone = plan_layouts(stock(gpu("g0")), demand)
    both = plan_layouts(stock(gpu("g0"), gpu("g1")), demand)
    assert alone.layouts["g0"] == SEVEN
    assert sorted(both.layouts.values()) == [SEVEN, (("7g.80gb", 0),)]


def test_who_asks_for_nothing_gets_no_change() -> None:
    plan = plan_layouts(stock(gpu("g0", *SEVEN)), {})
    assert plan.changes == ()
    assert plan.layouts == {"g0": SEVEN}


def test_a_layout_that_nobody_asks_for_gives_way_to_one_that_is_asked_for() -> None:
    plan = plan_layouts(stock(gpu("g0", *SEVEN)), {"3g.40gb": 2.0})
    (change,) = plan.changes
    assert (change.before, change.after) == (SEVEN, PAIR)
    assert (change.destroyed, change.created) == (SEVEN, PAIR)
    assert "3g.40gb (2 asked for)" in change.reason
    assert plan.in_use_after > plan.in_use_before == 0.0
    assert plan.beyond_gpu_s == pytest.approx(0.0)


def test_of_layouts_that_serve_as_many_the_one_that_is_there_stays() -> None:
    there: Layout = (("2g.20gb", 0), ("1g.10gb", 2), ("3g.40gb", 4))
    demand = {"1g.10gb": 1.0, "2g.20gb": 1.0, "3g.40gb": 1.0}
    first = plan_layouts(stock(gpu("g0", *there)), demand)
    again = plan_layouts(stock(gpu("g0", *first.layouts["g0"])), demand)
    assert set(there) <= set(first.layouts["g0"])
    assert again.changes == ()


def test_an_instance_that_a_pod_holds_stays_where_it_is_and_the_rest_is_laid_out_around_it() -> None:
    held = (("1g.10gb", 1),)
    plan = plan_layouts(stock(gpu("g0", *SEVEN), held={"g0": held}), {"3g.40gb": 4.0, "4g.40gb": 9.0})
    (change,) = plan.changes
    assert change.after == (*SEVEN[:4], ("3g.40gb", 4))
    assert change.destroyed == SEVEN[4:]
    assert plan.held == ("g0",)
    assert "1g.10gb at 1 held, and stays" in change.reason


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(layouts, st.sets(st.integers(0, 7))), min_size=1, max_size=3), demands)
def test_a_plan_touches_nothing_that_is_held_and_gains_more_than_it_costs(
    gpus: list[tuple[Layout, set[int]]], demand: dict[str, float]
) -> None:
    held = {
        f"g{number}": tuple(place for at, place in enumerate(there) if at in some)
        for number, (there, some) in enumerate(gpus)
    }
    inventory = stock(*(gpu(f"g{number}", *there) for number, (there, _) in enumerate(gpus)), held=held)
    terms = Terms()
    plan = plan_layouts(inventory, demand, terms=terms)
    for name, layout in plan.layouts.items():
        assert set(held[name]) <= set(layout)
        assert fits_together(H100, layout)
    for change in plan.changes:
        assert not set(change.destroyed) & set(held[change.gpu])
        assert set(change.before) - set(change.destroyed) | set(change.created) == set(change.after)
    gain = terms.horizon_s * (plan.in_use_after - plan.in_use_before)
    assert gain > plan.cost_gpu_s or not plan.changes
    assert plan.beyond_gpu_s >= 0.0


def test_a_change_that_gains_less_than_it_costs_is_not_made() -> None:
    there = stock(gpu("g0", *SEVEN))
    short = Terms(relayout_s=60.0, horizon_s=60.0)
    demand = {"3g.40gb": 2.0}
    assert plan_layouts(there, demand, terms=short).changes == ()
    assert plan_layouts(there, demand, terms=Terms(relayout_s=60.0, horizon_s=120.0)).changes


def test_a_gpu_that_was_changed_a_short_while_ago_stays() -> None:
    there, demand = stock(gpu("g0", *SEVEN), gpu("g1", *SEVEN)), {"3g.40gb": 4.0}
    plan = plan_layouts(there, demand, now=1000.0, changed_at={"g0": 900.0}, terms=Terms(rest_s=300.0))
    assert [change.gpu for change in plan.changes] == ["g1"]
    assert plan.left == (("g0", "it was laid out a short while ago, and stays for 200 s more"),)
    later = plan_layouts(there, demand, now=1200.0, changed_at={"g0": 900.0}, terms=Terms(rest_s=300.0))
    assert len(later.changes) == 2


def test_gpus_that_are_not_to_be_touched_stay_and_say_why() -> None:
    sick = gpu("g0", *SEVEN, taints=(Taint(key="xid", effect="NoSchedule"),))
    single = gpu("g1", *SEVEN, mig_strategy="single")
    plain = gpu("g2", is_mig=False)
    odd = gpu("g3", ("9g.90gb", 0))
    plan = plan_layouts(stock(sick, single, plain, odd), {"3g.40gb": 4.0})
    assert plan.changes == ()
    assert [name for name, _ in plan.left] == ["g0", "g1", "g3"]
    assert "taint xid" in plan.left[0][1]
    assert "g2" not in plan.layouts


def test_a_rollback_brings_the_layouts_back_where_nobody_holds_what_is_new() -> None:
    demand = {"3g.40gb": 4.0}
    plan = plan_layouts(stock(gpu("g0", *SEVEN), gpu("g1", *SEVEN)), demand)
    after = (gpu("g0", *plan.layouts["g0"]), gpu("g1", *plan.layouts["g1"]))
    back = rollback(plan, stock(*after, held={"g1": (("3g.40gb", 4),)}))
    (change,) = back.changes
    assert (change.gpu, change.after) == ("g0", SEVEN)
    assert back.layouts == {"g0": SEVEN, "g1": PAIR}
    assert back.left == (("g1", "3g.40gb at 4 is held by a pod"),)
    assert rollback(plan, stock(gpu("g0", *SEVEN), gpu("g1", *SEVEN))).changes == ()


def test_a_whole_cluster_is_planned_to_within_a_hundredth_of_the_best() -> None:
    gpus = [gpu(f"g{number}") for number in range(32)]
    plan = plan_layouts(stock(*gpus), dict.fromkeys(ALL, 15.0))
    gain = 3600 * plan.in_use_after - plan.cost_gpu_s
    assert plan.beyond_gpu_s <= 0.01 * gain
    assert plan.in_use_after > 26


def test_mig_parted_is_told_counts_by_device_and_alike_nodes_share_a_configuration() -> None:
    mixed = (gpu("g0"), gpu("g1"), gpu("g2", is_mig=False), gpu("g3"))
    found = mig_parted(
        {"a": mixed, "b": mixed, "c": (gpu("g0", *SEVEN),), "none": ()},
        {"g0": (("3g.40gb", 0), ("3g.40gb", 4)), "g1": (("7g.80gb", 0),), "g3": PAIR},
    )
    assert found.labels["a"] == found.labels["b"] != found.labels["c"]
    assert "none" not in found.labels
    assert found.document["version"] == "v1"
    assert found.document["mig-configs"][found.labels["a"]] == [
        {"devices": [0, 3], "mig-enabled": True, "mig-devices": {"3g.40gb": 2}},
        {"devices": [1], "mig-enabled": True, "mig-devices": {"7g.80gb": 1}},
        {"devices": [2], "mig-enabled": False},
    ]


def test_a_gpu_that_no_plan_names_keeps_what_exists_on_it() -> None:
    found = mig_parted({"c": (gpu("g0", *SEVEN),)}, {})
    (entry,) = found.document["mig-configs"][found.labels["c"]]
    assert entry["mig-devices"] == {"1g.10gb": 7}


def test_mig_parted_is_told_nothing_of_a_gpu_that_it_would_have_to_empty() -> None:
    gpus = (gpu("g0", *SEVEN), gpu("g1", *SEVEN), gpu("g2", *SEVEN))
    found = mig_parted({"n": gpus}, {"g0": PAIR, "g1": PAIR}, held={"g1", "g2"})
    assert found.left == ("g1",)
    entries = found.document["mig-configs"][found.labels["n"]]
    assert [one["devices"] for one in entries] == [[0], [2]]


def test_the_names_that_the_operator_uses_without_asking_are_there() -> None:
    configs = mig_parted({"a": (gpu("g0"), gpu("g1", kind=A30))}, {}).document["mig-configs"]
    assert configs["all-disabled"] == [{"devices": "all", "mig-enabled": False}]
    assert configs["all-enabled"][0]["mig-devices"] == {}
    assert [one["mig-devices"] for one in configs["all-balanced"]] == [
        {"1g.6gb": 2, "2g.12gb": 1},
        {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1},
    ]
    assert "0x233010DE" in configs["all-balanced"][1]["device-filter"]
    assert balanced_counts(find_gpu_type("t4")) == {}


def test_plans_are_values() -> None:
    inventory, demand = stock(gpu("g0", *SEVEN), gpu("g1")), {"3g.40gb": 2.0, "1g.10gb": 3.0}
    first = plan_layouts(inventory, demand)
    assert isinstance(first, Plan)
    assert first == plan_layouts(inventory, dict(reversed(demand.items())))
