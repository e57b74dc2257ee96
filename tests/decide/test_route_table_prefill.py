"""Pods that compute prompts for others are told apart from those that answer."""

import msgspec
from routed_services import FIRST, iris, pod, with_meta

from penstock.decide.route_table import TRANSFER_GROUP, service_routes
from penstock.resources.routing import PREFILL_FOR

HELPING = "helper-predictor-00001"


def labelled(one, **labels):
    names = {"role": "penstock.dev/role", "group": TRANSFER_GROUP}
    added = {names[key]: value for key, value in labels.items()}
    meta = msgspec.structs.replace(one.metadata, labels={**one.metadata.labels, **added})
    return msgspec.structs.replace(one, metadata=meta)


def helper():
    return with_meta(iris((HELPING, 100), name="helper", annotations={PREFILL_FOR: "iris"}))


def names(endpoints):
    return [one.name for one in endpoints]


def test_a_pod_of_the_role_prefill_gets_no_requests():
    pods = [pod("a"), labelled(pod("b"), role="prefill"), labelled(pod("c"), role="decode")]
    [route] = service_routes([iris()], pods)
    [revision] = route.revisions
    assert (names(revision.endpoints), names(revision.prefill)) == (["a", "c"], ["b"])


def test_another_service_may_compute_its_prompts_and_answers_nobody():
    [route] = service_routes([iris(), helper()], [pod("a"), pod("p", HELPING)])
    assert route.name == "iris"
    [revision] = route.revisions
    assert (names(revision.endpoints), names(revision.prefill)) == (["a"], ["p"])


def test_only_pods_of_one_group_go_on_with_each_others_cache():
    pods = [
        labelled(pod("a"), group="new"),
        labelled(pod("p", HELPING), group="new"),
        labelled(pod("q", HELPING), group="old"),
    ]
    [route] = service_routes([iris(), helper()], pods)
    assert names(route.revisions[0].prefill) == ["p"]


def test_one_that_is_not_ready_computes_nothing_yet():
    pods = [pod("a"), pod("p", HELPING, ready="False")]
    [route] = service_routes([iris(), helper()], pods)
    assert not route.revisions[0].prefill
    assert not route.revisions[0].starting


def test_a_helper_that_is_being_deleted_helps_no_more():
    gone = with_meta(helper(), deletion_timestamp="2025-06-15T00:00:00Z")
    [route] = service_routes([iris(), gone], [pod("a"), pod("p", HELPING)])
    assert not route.revisions[0].prefill
    assert route.revisions[0].name == FIRST


def test_a_helper_says_whose_it_is_and_a_pod_of_the_service_itself_does_not():
    mine, other = labelled(pod("b"), role="prefill"), pod("p", HELPING)
    meta = msgspec.structs.replace(
        other.metadata, labels={**other.metadata.labels, "serving.kserve.io/inferenceservice": "helper"}
    )
    [route] = service_routes(
        [iris(), helper()], [pod("a"), mine, msgspec.structs.replace(other, metadata=meta)]
    )
    [revision] = route.revisions
    assert {one.name: one.home for one in revision.prefill} == {"b": "", "p": f"helper/{HELPING}"}
    assert {one.name: one.engine_model for one in revision.prefill} == {"b": "", "p": "helper"}
    assert not revision.endpoints[0].home
