from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.host.apply import applied
from penstock.kit.errors import Conflict, InvalidInput
from penstock.resources.core import ConfigMap
from penstock.resources.pod import Pod
from penstock.resources.scheme import kind_of

MAPS, PODS = kind_of(ConfigMap), kind_of(Pod)
NOW = "2027-01-15T08:00:00Z"


def apply(
    current: dict[str, Any], data: dict[str, Any], manager: str = "me", *, force: bool = False
) -> dict[str, Any]:
    wanted = {"metadata": {"name": "a"}, "data": data}
    return applied(MAPS, current, wanted, manager=manager, force=force, now=NOW)


def pod(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": {"containers": list(containers)}, "status": {"phase": "Mine"}}


def apply_pod(current: dict[str, Any], *containers: dict[str, Any], manager: str = "me") -> dict[str, Any]:
    return applied(PODS, current, pod(*containers), manager=manager, force=False, now=NOW)


def test_what_is_no_longer_applied_goes_and_what_others_wrote_stays() -> None:
    first = apply({}, {"mine": "1", "dropped": "2"})
    first["data"]["written-by-an-update"] = "3"
    second = apply(first, {"mine": "4"})
    assert second["data"] == {"mine": "4", "written-by-an-update": "3"}


def test_two_may_apply_the_same_value_and_the_last_one_to_leave_removes_it() -> None:
    both = apply(apply({}, {"k": "v"}, "one"), {"k": "v"}, "two")
    one_left = apply(both, {}, "one")
    assert one_left["data"] == {"k": "v"}
    assert apply(one_left, {}, "two").get("data", {}) == {}


def test_a_different_value_is_a_conflict_that_force_decides_for_that_field_alone() -> None:
    first = apply({}, {"k": "v", "shared": "s"}, "one")
    with pytest.raises(Conflict) as caught:
        apply(first, {"k": "w", "shared": "s"}, "two")
    assert [(cause.field, cause.message) for cause in caught.value.causes] == [
        (".data.k", 'conflict with "one"')
    ]
    forced = apply(first, {"k": "w", "shared": "s"}, "two", force=True)
    assert forced["data"] == {"k": "w", "shared": "s"}
    owned = {entry["manager"]: entry["fieldsV1"] for entry in forced["metadata"]["managedFields"]}
    assert owned["one"] == {"f:data": {"f:shared": {}}}
    assert set(owned["two"]["f:data"]) == {"f:k", "f:shared"}


def test_items_of_a_list_are_owned_one_by_one() -> None:
    first = apply_pod(
        {}, {"name": "main", "image": "x", "env": [{"name": "A", "value": "1"}]}, {"name": "side"}
    )
    with_sidecar = apply_pod(first, {"name": "injected", "image": "proxy"}, manager="mesh")
    second = apply_pod(with_sidecar, {"name": "main", "image": "y"})
    containers = {item["name"]: item for item in second["spec"]["containers"]}
    assert containers.keys() == {"main", "injected"}
    assert containers["main"] == {"name": "main", "image": "y"}
    with pytest.raises(Conflict, match=r'containers\[name="main"\].image'):
        apply_pod(second, {"name": "main", "image": "z"}, manager="mesh")


def test_identity_and_status_are_nobodys() -> None:
    (entry,) = apply_pod({}, {"name": "main"})["metadata"]["managedFields"]
    assert set(entry["fieldsV1"]) == {"f:spec"}
    with pytest.raises(InvalidInput):
        applied(MAPS, {}, {"metadata": {"managedFields": [{}]}}, manager="me", force=False, now=NOW)


DATA = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3)


@given(DATA, DATA)
def test_after_a_lone_managers_apply_exactly_its_wish_is_there(
    first: dict[str, str], second: dict[str, str]
) -> None:
    current = apply({}, first)
    assert current.get("data", {}) == first
    assert apply(current, first) is current
    assert apply(current, second).get("data", {}) == second


@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), DATA), max_size=6))
def test_forced_applies_always_end_with_the_last_wish(steps: list[tuple[str, dict[str, str]]]) -> None:
    current: dict[str, Any] = {}
    for manager, data in steps:
        current = apply(current, data, manager, force=True)
        assert data.items() <= current.get("data", {}).items()
    wishes = dict(steps)
    known = {key for data in wishes.values() for key in data}
    assert set(current.get("data", {})) <= known
