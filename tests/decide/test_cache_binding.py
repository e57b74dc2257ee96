"""Services of several models, and bindings that no longer hold."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from test_caching import GB, GROUPS, NODES, cache, group, service

from penstock.contracts.model_bindings import BINDINGS, bound_to, source_of
from penstock.decide.cache_binding import DISABLED, NODE_GROUP, bind, is_stale, rebound
from penstock.decide.cache_gate import Gate, together
from penstock.decide.caching import Known, over_limit, plan_caches, user_of
from penstock.resources.serving import InferenceService


def several(*uris: str, **annotations: str) -> InferenceService:
    document = {
        "metadata": {"name": "s", "namespace": "ns", "annotations": annotations},
        "spec": {
            "predictor": {
                "storageUris": [{"uri": uri, "mountPath": f"/mnt/{i}"} for i, uri in enumerate(uris)]
            }
        },
    }
    return msgspec.convert(document, InferenceService)


def written(what: InferenceService, *caches: Any, groups: Any = GROUPS) -> InferenceService:
    """As the controller would leave it."""
    patch = rebound(what.metadata, bind(what, Known(caches, groups, NODES)))
    meta = what.metadata
    labels = {**meta.labels, **{k: v for k, v in patch.get("labels", {}).items() if v is not None}}
    notes = {**meta.annotations, **{k: v for k, v in patch.get("annotations", {}).items() if v is not None}}
    return msgspec.structs.replace(
        what, metadata=msgspec.structs.replace(meta, labels=labels, annotations=notes)
    )


def test_each_model_of_a_service_is_bound_to_its_cache() -> None:
    made = written(several("hf://o/m", "s3://b/x", "hf://o/n/adapter"), cache("m"), cache("n"))
    assert [(one.cache, one.group, one.source) for one in bound_to(made.metadata.annotations)] == [
        ("m", "a", "hf://o/m"),
        ("n", "a", "hf://o/n"),
    ]


def test_groups_of_one_service_have_nodes_in_common_or_the_model_is_left_out() -> None:
    known = Known((cache("m", "b"), cache("n", "a", "b")), GROUPS, NODES)
    assert [one.group for one in bind(several("hf://o/m", "hf://o/n"), known)] == ["b", "b"]
    known = Known((cache("m", "a", "b"), cache("n", "b")), GROUPS, NODES)
    assert [one.group for one in bind(several("hf://o/m", "hf://o/n"), known)] == ["b", "b"], (
        "whatever comes first"
    )
    apart = Known((cache("m", "b"), cache("n", "a")), GROUPS, NODES)
    assert [one.cache.metadata.name for one in bind(several("hf://o/m", "hf://o/n"), apart)] == ["m"]


def test_two_parts_of_one_model_are_one_binding() -> None:
    made = written(several("hf://o/m/a", "hf://o/m/b"), cache("m"))
    assert len(bound_to(made.metadata.annotations)) == 1


def test_all_users_of_a_cache_are_named_by_their_own_kind() -> None:
    plain = written(several("hf://o/x", "hf://o/m"), cache("m"), cache("x"))
    made = written(service("hf://o/m"), cache("m"))
    owner = {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "name": "llm",
        "uid": "1",
    }
    document = msgspec.to_builtins(made)
    document["metadata"] |= {"name": "llm-prefill", "ownerReferences": [owner]}
    asked = msgspec.convert(document, InferenceService)
    assert user_of(asked, cache("m")) == ("LLMInferenceService", "llm")
    assert user_of(asked, cache("x")) == ("", "")
    status = plan_caches(Known((cache("m"),), GROUPS, NODES, services=(plain, asked, asked))).caches["m"]
    assert [one.name for one in status.inference_services] == ["s"]
    assert [(one.name, one.namespace) for one in status.llm_inference_services] == [("llm", "ns")]


def test_a_binding_holds_until_its_cache_group_or_annotation_says_otherwise() -> None:
    made = written(service("hf://o/m"), cache("m", "a", "b"))
    assert not is_stale(made.metadata, (cache("m", "a", "b"),))
    assert not is_stale(service("hf://o/m").metadata, (cache("m"),)), (
        "a cache that comes later changes nothing"
    )
    assert is_stale(made.metadata, ()), "the cache is gone"
    assert is_stale(made.metadata, (cache("m", "b"),)), "the group is gone from it"
    assert is_stale(made.metadata, (cache("m", "a", uri="hf://o/else"),)), "it is another model"
    for key, value in ((NODE_GROUP, "b"), (DISABLED, "true")):
        notes = {**made.metadata.annotations, key: value}
        asks = msgspec.structs.replace(made.metadata, annotations=notes)
        assert is_stale(asks, (cache("m", "a", "b"),))


def test_a_binding_that_somebody_made_up_does_not_hold() -> None:
    forged = '[{"cache": "m", "group": "a", "source": "hf://secret/model"}]'
    meta = service("hf://o/m", annotations={BINDINGS: forged}).metadata
    assert is_stale(meta, (cache("m"),))
    elsewhere = '[{"cache": "m", "group": "a", "source": "hf://o/m", "namespace": "theirs"}]'
    assert is_stale(service("hf://o/m", annotations={BINDINGS: elsewhere}).metadata, (cache("m"),))
    assert bound_to({BINDINGS: "no json"}) == ()


def test_a_group_that_is_named_but_does_not_exist_is_bound_as_upstream() -> None:
    asked = service("hf://o/m", annotations={NODE_GROUP: "zz"})
    (found,) = bind(asked, Known((cache("m", "zz"),), (group("a"),), NODES))
    assert found.group == "zz"


@pytest.mark.parametrize(
    ("gates", "nodes", "said"),
    [
        ((Gate(("n1", "n2"), "m is there"), Gate(("n2",), "n is there")), ("n2",), "m is there; n is there"),
        ((Gate(("n1",), "m is there"), Gate((), "waiting for n")), (), "waiting for n"),
        (
            (Gate(("n1",), "m"), Gate(("n2",), "n")),
            (),
            "waiting for a node that holds all of its models: m; n",
        ),
    ],
)
def test_a_pod_of_several_models_goes_where_all_are(gates: Any, nodes: tuple[str, ...], said: str) -> None:
    assert together(gates) == Gate(nodes, said)


def test_a_part_is_where_the_whole_is() -> None:
    sources = ["hf://o/m", "s3://b/x/"]
    assert source_of("hf://o/m/lora/", sources) == "hf://o/m"
    assert source_of("s3://b/x", sources) == "s3://b/x/"
    assert source_of("hf://o/mm", sources) == "hf://o/mm"


def test_a_cache_for_several_groups_is_refused_by_each_that_has_no_room_for_it() -> None:
    groups = (group("a", "10G"), group("b", "7G"))
    there = (cache("old", "a", size="5G"), cache("older", "b", size="5G"))
    refused = over_limit(cache("new", "a", "b", size="6G"), there, groups)
    assert [(one.group, one.used_bytes, one.limit_bytes) for one in refused] == [
        ("a", 5 * GB, 10 * GB),
        ("b", 5 * GB, 7 * GB),
    ]
    assert [one.group for one in over_limit(cache("new", "a", "b", size="4G"), there, groups)] == ["b"]
    assert not over_limit(cache("new", "a", size="5G"), there, groups)


def test_a_group_that_shrank_says_what_it_would_take_and_never_less_than_nothing() -> None:
    plan = plan_caches(Known((cache("m", "a", "b", size="6G"),), (group("a", "5G"), group("b", "8G")), NODES))
    assert (plan.groups["a"].used, plan.groups["a"].available) == ("0", str(5 * GB))
    assert (plan.groups["b"].used, plan.groups["b"].available) == (str(6 * GB), str(2 * GB))
    assert [name for name, infos in plan.nodes.items() if infos] == ["n3"]
