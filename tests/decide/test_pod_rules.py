"""Topology spread, affinity and anti-affinity between pods, as kube-scheduler decides and says it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock.decide.inventory import take_stock
from penstock.decide.placement import Placement, place
from penstock.resources.pod import Pod
from penstock.testing.factories import node

ZONE = "topology.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"
NODES = tuple(node(name, labels={ZONE: zone}) for name, zone in (("a", "x"), ("b", "x"), ("c", "y")))
APP = {"matchLabels": {"app": "chat"}}


def pod(
    name: str, on: str = "", labels: dict[str, str] | None = None, namespace: str = "default", **spec: Any
) -> Pod:
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": name, "labels": labels or {"app": "chat"}},
        "spec": {"nodeName": on, "containers": [{"name": "c"}], **spec},
    }
    return msgspec.convert(document, Pod)


def placed(asked: Pod, *bound: Pod) -> Placement:
    return place(asked, take_stock(NODES, bound))


def spread(skew: int = 1, key: str = ZONE, hard: bool = True, **more: Any) -> dict[str, Any]:
    how = "DoNotSchedule" if hard else "ScheduleAnyway"
    one = {"topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": how, "labelSelector": APP, **more}
    return {"topologySpreadConstraints": [one]}


def between(kind: str, key: str = ZONE, weight: int = 0, **more: Any) -> dict[str, Any]:
    term = {"topologyKey": key, "labelSelector": APP, **more}
    if weight:
        preferred = [{"weight": weight, "podAffinityTerm": term}]
        return {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def test_a_zone_that_is_ahead_gets_no_more() -> None:
    found = placed(pod("new", **spread()), pod("one", "a"))
    assert found.node == "c"
    assert {why for _, why in found.refusals} == {"node(s) didn't match pod topology spread constraints"}


def test_a_greater_skew_allows_it() -> None:
    assert not placed(pod("new", **spread(skew=2)), pod("one", "a")).refusals


def test_a_node_without_the_label_is_refused() -> None:
    found = placed(pod("new", **spread(key="rack")))
    missing = "node(s) didn't match pod topology spread constraints (missing required label)"
    assert found.message == f"0/3 nodes are available: 3 {missing}."


def test_too_few_domains_count_as_an_empty_one() -> None:
    assert placed(pod("new", **spread(minDomains=3)), pod("one", "a"), pod("two", "c")).node == ""


def test_schedule_anyway_only_prefers() -> None:
    asked = pod("new", **spread(hard=False))
    assert placed(asked, pod("one", "a"), pod("two", "b")).node == "c"
    assert place(asked, take_stock(NODES[:1], [pod("one", "a")])).node == "a"


def test_match_label_keys_count_only_pods_of_the_same_revision() -> None:
    labels = {"app": "chat", "revision": "2"}
    asked = pod("new", labels=labels, **spread(matchLabelKeys=["revision"]))
    assert not placed(asked, pod("old", "a", {"app": "chat", "revision": "1"})).refusals


def test_a_pod_goes_where_its_friends_are() -> None:
    found = placed(pod("new", labels={"app": "web"}, **between("podAffinity")), pod("one", "c"))
    assert found.node == "c"
    assert {why for _, why in found.refusals} == {"node(s) didn't match pod affinity rules"}


def test_without_friends_only_one_of_their_own_kind_goes_first() -> None:
    assert placed(pod("first", **between("podAffinity"))).node
    assert placed(pod("stranger", labels={"app": "web"}, **between("podAffinity"))).node == ""


def test_a_pod_keeps_away_from_those_it_names() -> None:
    found = placed(pod("new", **between("podAntiAffinity")), pod("one", "a"))
    assert found.node == "c"
    assert {why for _, why in found.refusals} == {"node(s) didn't match pod anti-affinity rules"}


def test_a_pod_that_runs_keeps_others_away_too() -> None:
    found = placed(pod("new"), pod("loner", "a", **between("podAntiAffinity", key=HOST)))
    assert dict(found.refusals) == {"a": "node(s) didn't satisfy existing pods anti-affinity rules"}


@pytest.mark.parametrize(("kind", "taken"), [("podAffinity", {"c"}), ("podAntiAffinity", {"a", "b"})])
def test_what_is_preferred_decides_among_nodes_that_fit(kind: str, taken: set[str]) -> None:
    found = placed(pod("new", **between(kind, weight=50)), pod("one", "c"))
    assert found.node in taken
    assert not found.refusals


@pytest.mark.parametrize(
    ("more", "refused"),
    [({}, False), ({"namespaces": ["other"]}, True), ({"namespaceSelector": {}}, True)],
)
def test_pods_of_other_namespaces_count_where_the_rule_says_so(more: dict[str, Any], refused: bool) -> None:
    found = placed(pod("new", **between("podAntiAffinity", **more)), pod("one", "a", namespace="other"))
    assert bool(found.refusals) is refused


def test_a_selector_that_cannot_be_read_picks_nobody() -> None:
    broken = between("podAntiAffinity", labelSelector={"matchLabels": 5})
    assert not placed(pod("new", **broken), pod("one", "a")).refusals


def test_preferred_node_affinity_adds_up_by_weight() -> None:
    def term(zone: str, weight: int) -> dict[str, Any]:
        wants = {"matchExpressions": [{"key": ZONE, "operator": "In", "values": [zone]}]}
        return {"weight": weight, "preference": wants}

    preferred = [term("x", 10), term("y", 20)]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    assert placed(pod("new", affinity=affinity)).node == "c"
