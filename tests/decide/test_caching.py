"""What nodes shall hold: groups, limits, states and refusals."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.cache_binding import NODE_GROUP, Binding, bind, rebound
from penstock.decide.cache_gate import GATE, gate_of, gated, is_gated, opened
from penstock.decide.caching import CACHE_LABEL, Cache, CachePlan, Known, over_limit, plan_caches
from penstock.decide.eviction import HIGH, LOW, Held, evict
from penstock.resources.caching import (
    LocalModelCache,
    LocalModelNamespaceCache,
    LocalModelNode,
    LocalModelNodeGroup,
)
from penstock.resources.core import Node
from penstock.resources.pod import Pod
from penstock.resources.serving import InferenceService

GB = 10**9


def node(name: str, pool: str, *, ready: bool = True) -> Node:
    return msgspec.convert(
        {
            "metadata": {"name": name, "labels": {"pool": pool}},
            "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
        },
        Node,
    )


def group(name: str, limit: str = "10G", available: str | None = None) -> LocalModelNodeGroup:
    term = {"matchExpressions": [{"key": "pool", "operator": "In", "values": [name]}]}
    return msgspec.convert(
        {
            "metadata": {"name": name},
            "spec": {
                "storageLimit": limit,
                "persistentVolumeSpec": {
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
                },
                "persistentVolumeClaimSpec": {},
            },
            "status": {"available": available},
        },
        LocalModelNodeGroup,
    )


def cache(
    name: str, *groups: str, size: str = "6G", uri: str = "", made: str = "2026-01-01T00:00:00Z"
) -> LocalModelCache:
    return msgspec.convert(
        {
            "metadata": {"name": name, "creationTimestamp": made},
            "spec": {
                "sourceModelUri": uri or f"hf://o/{name}",
                "modelSize": size,
                "nodeGroups": list(groups) or ["a"],
            },
        },
        LocalModelCache,
    )


def holding(plan: CachePlan, states: dict[str, dict[str, str]]) -> tuple[LocalModelNode, ...]:
    """The nodes as planned, which say `states`."""
    return tuple(
        msgspec.convert(
            {
                "metadata": {"name": name},
                "spec": {"localModels": msgspec.to_builtins(infos)},
                "status": {"modelStatus": states.get(name, {})},
            },
            LocalModelNode,
        )
        for name, infos in plan.nodes.items()
    )


NODES = (node("n1", "a"), node("n2", "a"), node("n3", "b"))
GROUPS = (group("a"), group("b"))


def names(plan: CachePlan) -> dict[str, list[str]]:
    return {name: [info.model_name for info in infos] for name, infos in plan.nodes.items()}


def test_every_node_of_every_group_is_told_once() -> None:
    plan = plan_caches(Known((cache("m", "a", "b"),), GROUPS, NODES))
    assert names(plan) == {"n1": ["m"], "n2": ["m"], "n3": ["m"]}
    assert plan.caches["m"].node_status == dict.fromkeys(("n1", "n2", "n3"), "NodeDownloadPending")
    assert plan.groups["a"].used == str(6 * GB)
    assert plan.groups["a"].available == str(4 * GB)


def test_a_full_group_refuses_with_the_numbers_and_no_node_of_it_is_told() -> None:
    old = cache("old", "a")
    new = cache("new", "a", "b", made="2026-02-01T00:00:00Z")
    plan = plan_caches(Known((new, old), GROUPS, NODES))
    assert names(plan) == {"n1": ["old"], "n2": ["old"], "n3": ["new"]}
    (refusal,) = plan.refusals
    assert (refusal.cache, refusal.group, refusal.asked_bytes) == ("new", "a", 6 * GB)
    assert (refusal.used_bytes, refusal.limit_bytes) == (6 * GB, 10 * GB)
    assert "2000000000 are missing" in refusal.message
    assert plan.caches["new"].node_status["n1"] == "NodeDownloadError"


def test_one_address_counts_once_however_many_caches_have_it() -> None:
    twins = (cache("m", uri="hf://o/x"), cache("n", uri="hf://o/x"))
    assert not plan_caches(Known(twins, GROUPS, NODES)).refusals


def test_what_is_there_goes_before_what_is_older() -> None:
    older, there = cache("older"), cache("there", made="2026-03-01T00:00:00Z")
    before = plan_caches(Known((there,), GROUPS, NODES))
    held = holding(before, {"n1": {"there": "ModelDownloaded"}})
    plan = plan_caches(Known((older, there), GROUPS, NODES, held))
    assert [r.cache for r in plan.refusals] == ["older"]
    assert plan.caches["there"].node_status["n1"] == "NodeDownloaded"


def test_a_raised_limit_lets_in_what_was_refused() -> None:
    both = (cache("m"), cache("n"))
    assert plan_caches(Known(both, GROUPS, NODES)).refusals
    assert not plan_caches(Known(both, (group("a", "12G"), GROUPS[1]), NODES)).refusals


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("ModelDownloadPending", "NodeDownloadPending"),
        ("ModelDownloading", "NodeDownloading"),
        ("ModelDownloaded", "NodeDownloaded"),
        ("ModelDownloadError", "NodeDownloadError"),
    ],
)
def test_what_nodes_say_becomes_the_caches_words(said: str, word: str) -> None:
    before = plan_caches(Known((cache("m"),), GROUPS, NODES))
    plan = plan_caches(Known((cache("m"),), GROUPS, NODES, holding(before, {"n1": {"m": said}})))
    status = plan.caches["m"]
    assert status.node_status["n1"] == word
    assert status.copies is not None
    assert status.copies.total == 2
    assert (status.copies.available, status.copies.failed) == (
        said == "ModelDownloaded",
        said[-5:] == "Error",
    )


def test_a_node_that_is_not_ready_is_told_nothing_new_and_one_that_is_gone_is_forgotten() -> None:
    nodes = (node("n1", "a"), node("n2", "a", ready=False))
    before = plan_caches(Known((cache("m"),), GROUPS, nodes))
    assert names(before) == {"n1": ["m"]}
    assert before.caches["m"].node_status["n2"] == "NodeNotReady"
    after = plan_caches(Known((cache("m"),), GROUPS, nodes[1:], holding(before, {})))
    assert "n1" not in after.caches["m"].node_status


def test_removing_one_cache_or_one_group_leaves_the_others() -> None:
    both = (cache("m", "a", "b", size="1G"), cache("n", "a", size="1G"))
    before = plan_caches(Known(both, GROUPS, NODES))
    less = (cache("m", "b", size="1G"), both[1])
    plan = plan_caches(Known(less, GROUPS, NODES, holding(before, {})))
    assert names(plan) == {"n1": ["n"], "n2": ["n"], "n3": ["m"]}
    assert names(plan_caches(Known(both[:1], GROUPS, NODES, holding(before, {}))))["n1"] == ["m"]


def test_a_group_that_is_not_there_is_named() -> None:
    (refusal,) = plan_caches(Known((cache("m", "zz"),), GROUPS, NODES)).refusals
    assert refusal.message == "NodeGroup zz not found"


def test_a_new_cache_is_refused_before_it_is_stored() -> None:
    (refusal,) = over_limit(cache("new"), (cache("old"),), GROUPS)
    assert (
        "node group a has no room: new asks for 6000000000 bytes, 6000000000 of 10000000000"
        in refusal.message
    )
    assert not over_limit(cache("old", size="9G"), (cache("old"),), GROUPS)


def service(uri: str = "hf://o/m", **extra: object) -> InferenceService:
    document = {
        "metadata": {"name": "s", "namespace": "ns", "annotations": extra.pop("annotations", {})},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "x"}, "storageUri": uri}, **extra}},
    }
    return msgspec.convert(document, InferenceService)


def bound(
    what: InferenceService, *caches: Cache, groups: tuple[LocalModelNodeGroup, ...] = GROUPS
) -> Binding | None:
    found = bind(what, Known(tuple(caches), groups, NODES))
    assert len(found) < 2
    return found[0] if found else None


def test_a_service_is_bound_by_address_or_below_it() -> None:
    assert bound(service("hf://o/m/sub"), cache("m")) is not None
    assert bound(service("hf://o/mm"), cache("m")) is None
    assert bound(service("hf://o/m"), cache("m"), cache("m2", uri="hf://o/m")) is not None


def test_the_annotation_binds_and_a_cache_without_that_group_is_passed_over() -> None:
    wished = service(annotations={NODE_GROUP: "b"})
    assert bound(wished, cache("m", "a")) is None
    found = bound(wished, cache("m", "a", "b"))
    assert found is not None
    assert found.group == "b"


def test_without_it_the_services_own_selectors_choose() -> None:
    found = bound(service(nodeSelector={"pool": "b"}), cache("m", "a", "b"))
    assert found is not None
    assert found.group == "b"


def test_then_what_is_there_then_room_then_order() -> None:
    there = msgspec.structs.replace(
        cache("m", "a", "b"),
        status=msgspec.structs.replace(cache("m").status, node_status={"n3": "NodeDownloaded"}),
    )
    assert (bound(service(), there) or pytest.fail()).group == "b"
    roomy = (group("a", available="1G"), group("b", available="9G"))
    assert (bound(service(), cache("m", "a", "b"), groups=roomy) or pytest.fail()).group == "b"
    assert (bound(service(), cache("m", "a", "b")) or pytest.fail()).group == "a"


def test_a_cache_of_the_namespace_goes_first_and_others_are_not_seen() -> None:
    spec = cache("m").spec
    own = msgspec.convert(
        {"metadata": {"name": "own", "namespace": "ns"}, "spec": msgspec.to_builtins(spec)},
        LocalModelNamespaceCache,
    )
    other = msgspec.structs.replace(own, metadata=msgspec.structs.replace(own.metadata, namespace="else"))
    found = bound(service(), cache("m"), other, own)
    assert found is not None
    assert found.cache is own


def test_binding_is_written_once_and_taken_back() -> None:
    what = service()
    found = bound(what, cache("m"))
    assert found is not None
    patch = rebound(what.metadata, (found,))
    assert patch["labels"] == {CACHE_LABEL: "m"}
    done = msgspec.structs.replace(
        what.metadata, labels=dict(patch["labels"]), annotations=dict(patch["annotations"])
    )
    assert rebound(done, (found,)) == {}
    assert rebound(done, ())["labels"] == {CACHE_LABEL: None}


def test_a_gated_pod_waits_with_a_reason_then_goes_where_the_model_is() -> None:
    made = cache("m")
    waiting = gate_of(made, "a", ("n1", "n2"), {"n1": "downloading 43 %"})
    assert waiting.nodes == ()
    assert "0 of 2 nodes of a hold it (n1: downloading 43 %, n2: NodeNotReady)" in waiting.message
    status = msgspec.structs.replace(made.status, node_status={"n2": "NodeDownloaded"})
    gate = gate_of(msgspec.structs.replace(made, status=status), "a", ("n1", "n2"), {})
    assert gate.nodes == ("n2",)
    pod = Pod(spec=gated(Pod().spec))
    assert is_gated(pod.spec)
    patch = opened(pod, gate.nodes)
    assert patch["schedulingGates"] == []
    assert GATE not in str(patch)
    (term,) = patch["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]


models = st.lists(
    st.builds(
        Held,
        name=st.text(min_size=1, max_size=5),
        size_bytes=st.integers(1, 10**12),
        last_at=st.floats(0, 1e6),
        weight=st.floats(0, 1e3),
        reload_s=st.floats(0, 1e3),
        pinned=st.sampled_from(["", "deployed"]),
    ),
    max_size=20,
    unique_by=lambda model: model.name,
)


@given(models, st.integers(1, 10**13), st.integers(0, 10**12))
def test_pins_stay_and_room_is_made_down_to_the_low_mark_or_the_lack_is_told(
    held: list[Held], limit: int, coming: int
) -> None:
    used = sum(model.size_bytes for model in held)
    decided = evict(held, used_bytes=used, limit_bytes=limit, coming_bytes=coming, now=2e6)
    assert not {model.name for model in held if model.pinned} & set(decided.names)
    assert len(decided.reasons) == len(held)
    if used + coming <= HIGH * limit:
        assert decided.names == ()
    elif not decided.missing_bytes:
        assert used + coming - decided.freed_bytes <= LOW * limit + 1


def test_bytes_that_save_least_go_first() -> None:
    seldom = Held("seldom", 5 * GB, 0.0, 1.0, 50.0)
    often = Held("often", 5 * GB, 0.0, 9.0, 50.0)
    quick = Held("quick", 5 * GB, 0.0, 9.0, 5.0)
    decided = evict((often, seldom, quick), used_bytes=15 * GB, limit_bytes=15 * GB, now=10.0)
    assert decided.names[0] == "quick"
    assert "often" not in decided.names
