"""Which node a pod gets: filters in kube-scheduler's words, then the least loaded, and a hint where none fits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide import placement
from penstock.decide.inventory import take_stock
from penstock.decide.placement import Placement
from penstock.decide.pod_requests import requests_of
from penstock.resources.core import Node
from penstock.resources.pod import Pod
from penstock.testing.factories import node


def place(asked: Pod, nodes: tuple[Node, ...], bound: tuple[Pod, ...]) -> Placement:
    return placement.place(asked, take_stock(nodes, bound))


def pod(name: str = "p", *, on: str = "", owner: str = "", **spec: Any) -> Pod:
    """A pod that wants nothing unless `cpu`, `memory` or `gpu` say so."""
    amounts = {
        "cpu": spec.pop("cpu", None),
        "memory": spec.pop("memory", None),
        "nvidia.com/gpu": spec.pop("gpu", None),
    }
    requests = {key: value for key, value in amounts.items() if value is not None}
    owners = [{"apiVersion": "v1", "kind": "x", "name": owner, "uid": owner}] if owner else []
    document = {
        "metadata": {"name": name, "namespace": "default", "uid": name, "ownerReferences": owners},
        "spec": {
            "nodeName": on,
            "containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}],
            **spec,
        },
    }
    return msgspec.convert({"apiVersion": "v1", "kind": "Pod", **document}, Pod)


def tainted(name: str, effect: str = "NoSchedule", value: str = "yes", **more: str) -> Node:
    base = node(name, **more)
    document = msgspec.to_builtins(base)
    document["spec"] = {"taints": [{"key": "kept", "value": value, "effect": effect}]}
    return msgspec.convert(document, Node)


def test_the_only_node_that_fits_is_taken_and_the_others_say_why_not() -> None:
    small, large = node("small", cpu="1"), node("large", cpu="8")
    placed = place(pod(cpu="2"), (small, large), ())
    assert (placed.node, placed.message) == ("large", "the only node that fits")
    assert placed.refusals == (("small", "Insufficient cpu"),)


def test_the_least_loaded_node_is_taken_and_the_runner_up_named() -> None:
    nodes = (node("a", cpu="4"), node("b", cpu="4"))
    placed = place(pod(cpu="1"), nodes, (pod("other", on="a", cpu="2"),))
    assert (placed.node, placed.runner_up) == ("b", "a")


def test_pods_of_one_owner_are_spread() -> None:
    nodes = (node("a", cpu="4"), node("b", cpu="4"))
    bound = (pod("first", on="a", owner="o"), pod("busy", on="b", cpu="3"))
    assert place(pod("second", owner="o"), nodes, bound).node == "b"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"cpu": "99"}, "0/1 nodes are available: 1 Insufficient cpu."),
        ({"gpu": "1"}, "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        (
            {"nodeSelector": {"zone": "moon"}},
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        ),
    ],
)
def test_where_none_fits_it_is_told_as_kubernetes_tells_it(spec: dict, said: str) -> None:
    placed = place(pod(**spec), (node("a"),), ())
    assert (placed.node, placed.message) == ("", said)
    assert placed.hint


def test_the_hint_names_the_smallest_shortage() -> None:
    placed = place(pod(cpu="6", memory="1Gi"), (node("a", cpu="4"), node("b", cpu="1", memory="1Mi")), ())
    assert placed.hint == "node a lacks 2 cpu: free it, or request less"
    assert place(pod(), (), ()).hint == "there is no node"
    assert "nodeSelector" in place(pod(nodeSelector={"x": "y"}), (node("a"),), ()).hint


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"key": "kept", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}, True),
        ({"key": "kept", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "kept", "value": "no"}, False),
        ({"key": "kept", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_a_taint_keeps_pods_away_that_do_not_tolerate_it(toleration: dict, fits: bool) -> None:
    placed = place(pod(tolerations=[toleration]), (tainted("a"),), ())
    assert bool(placed.node) is fits
    if not fits:
        assert "untolerated taint {kept: yes}" in placed.message


def test_a_soft_taint_only_makes_a_node_the_last_choice() -> None:
    soft, busy = tainted("soft", "PreferNoSchedule"), node("busy")
    assert place(pod(cpu="1"), (soft, busy), (pod("x", on="busy", cpu="2"),)).node == "busy"
    assert place(pod(cpu="1"), (soft,), ()).node == "soft"


def test_a_node_that_is_not_ready_or_cordoned_takes_none() -> None:
    document = msgspec.to_builtins(node("cordoned"))
    document["spec"] = {"unschedulable": True}
    nodes = (node("down", ready=False), msgspec.convert(document, Node))
    assert {why for _, why in place(pod(), nodes, ()).refusals} == {
        "node(s) were not ready",
        "node(s) were unschedulable",
    }


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "zone", "operator": "Exists"}, True),
        ({"key": "gone", "operator": "DoesNotExist"}, True),
        ({"key": "size", "operator": "Gt", "values": ["3"]}, True),
        ({"key": "size", "operator": "Lt", "values": ["3"]}, False),
        ({"key": "zone", "operator": "Gt", "values": ["3"]}, False),
        ({"key": "zone", "operator": "Sounds", "values": ["like"]}, False),
    ],
)
def test_affinity_to_labels(expression: dict, fits: bool) -> None:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    assert (
        bool(place(pod(affinity=affinity), (node("n", labels={"zone": "a", "size": "4"}),), ()).node) is fits
    )


def test_affinity_to_a_node_by_name() -> None:
    field = {"key": "metadata.name", "operator": "In", "values": ["b"]}
    terms = {"nodeSelectorTerms": [{}, {"matchFields": [field]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    assert place(pod(affinity=affinity), (node("a"), node("b")), ()).node == "b"


def test_a_pod_reserves_the_most_of_what_its_containers_want_together_and_an_init_container_wants_alone() -> (
    None
):
    containers = [
        {"name": "a", "image": "i", "resources": {"requests": {"cpu": "1"}}},
        {"name": "b", "image": "i", "resources": {"limits": {"cpu": "1"}}},
    ]
    init = [{"name": "i", "image": "i", "resources": {"requests": {"cpu": "3", "memory": "1Gi"}}}]
    wanted = requests_of(pod(containers=containers, initContainers=init, overhead={"cpu": "500m"}))
    assert wanted == {"cpu": Decimal("3.5"), "memory": Decimal(1 << 30), "pods": Decimal(1)}


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from("xyz")), max_size=20))
def test_no_node_is_ever_given_more_than_it_has_and_the_order_of_nodes_does_not_matter(
    wishes: list[tuple[int, str]],
) -> None:
    nodes = (node("a", cpu="4", pods="3"), node("b", cpu="8", pods="3"))
    bound: list[Pod] = []
    for number, (cpu, owner) in enumerate(wishes):
        asked = pod(f"p{number}", owner=owner, cpu=str(cpu))
        placed = place(asked, nodes, tuple(bound))
        assert placed.node == place(asked, nodes[::-1], tuple(bound)).node
        if placed.node:
            bound.append(pod(f"p{number}", on=placed.node, owner=owner, cpu=str(cpu)))
        else:
            assert placed.message.startswith("0/2 nodes are available: ")
    for name, cores in (("a", 4), ("b", 8)):
        here = [p for p in bound if p.spec.node_name == name]
        assert len(here) <= 3
        assert sum(requests_of(p)["cpu"] for p in here) <= cores
