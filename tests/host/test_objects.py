from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.host.deletion import DeleteOptions
from penstock.host.objects import SYSTEM_NAMESPACES, ObjectStore
from penstock.host.scale import scale_of
from penstock.host.store import Store
from penstock.kit.errors import AlreadyExists, Conflict, Invalid, InvalidInput, NotFound, PlatformError
from penstock.resources.core import ConfigMap, Namespace
from penstock.resources.pod import Pod
from penstock.resources.scheme import kind_of
from penstock.resources.workload import Deployment, ReplicaSet
from penstock.testing.clock import HandClock

MAPS, PODS, DEPLOYMENTS = kind_of(ConfigMap), kind_of(Pod), kind_of(Deployment)
SPEC = {"containers": [{"name": "main", "image": "example"}]}


@pytest.fixture
def objects() -> ObjectStore:
    return ObjectStore(Store(":memory:"), HandClock(1_800_000_000.0))


def config_map(objects: ObjectStore, name: str = "a", **fields: Any) -> dict[str, Any]:
    return objects.create(
        MAPS, "default", {"metadata": {"name": name, **fields}, "data": {"k": "v"}}
    ).document


def test_the_systems_namespaces_exist_from_the_start_and_are_made_once(objects: ObjectStore) -> None:
    names = [document["metadata"]["name"] for document in objects.list(kind_of(Namespace)).documents]
    assert names == sorted(SYSTEM_NAMESPACES)
    version = objects.store.version
    ObjectStore(objects.store)
    assert objects.store.version == version


def test_what_the_cluster_decides_cannot_be_given(objects: ObjectStore) -> None:
    given = {
        "uid": "mine",
        "generation": 7,
        "creationTimestamp": "2001-01-01T00:00:00Z",
        "deletionTimestamp": "2001-01-01T00:00:00Z",
    }
    meta = config_map(objects, **given)["metadata"]
    assert meta["uid"] != "mine"
    assert meta["creationTimestamp"] == "2027-01-15T08:00:00Z"
    assert "deletionTimestamp" not in meta
    patched = objects.patch(
        MAPS, "default", "a", {"metadata": {"creationTimestamp": None, "generation": 9}}
    ).document
    assert patched["metadata"] == meta


def test_an_object_is_refused_where_its_path_contradicts_it(objects: ObjectStore) -> None:
    for document in (
        {"kind": "Secret", "metadata": {"name": "a"}},
        {"apiVersion": "v2", "metadata": {"name": "a"}},
        {"metadata": {"name": "a", "namespace": "kube-system"}},
        {"metadata": {"name": "a", "resourceVersion": "5"}},
        {"metadata": {"name": ["a"]}},
    ):
        with pytest.raises(InvalidInput):
            objects.create(MAPS, "default", document)
    config_map(objects)
    with pytest.raises(InvalidInput):
        objects.replace(MAPS, "default", "a", {"metadata": {"name": "b"}})
    with pytest.raises(Invalid):
        objects.create(MAPS, "default", {"metadata": {}})
    with pytest.raises(InvalidInput):
        objects.watch(MAPS, None, since="soon")


def test_another_objects_uid_is_a_conflict(objects: ObjectStore) -> None:
    config_map(objects)
    with pytest.raises(Conflict, match="UID in precondition"):
        objects.replace(MAPS, "default", "a", {"metadata": {"name": "a", "uid": "other"}})


def test_a_generated_name_that_is_taken_is_tried_again(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = iter("aaaaaaaaaabbbbb" + "b" * 100)
    monkeypatch.setattr("penstock.host.objects.secrets.choice", lambda _: next(letters))
    wish = {"metadata": {"generateName": "run-"}}
    names = [objects.create(MAPS, "default", wish).document["metadata"]["name"] for _ in range(2)]
    assert names == ["run-aaaaa", "run-bbbbb"]
    with pytest.raises(AlreadyExists):
        objects.create(MAPS, "default", wish)


def placed(objects: ObjectStore, name: str = "p", **spec: Any) -> dict[str, Any]:
    document = {"metadata": {"name": name}, "spec": {**SPEC, "nodeName": "here", **spec}}
    return objects.create(PODS, "default", document).document


def test_a_pod_starts_pending_whatever_its_creator_says(objects: ObjectStore) -> None:
    document = {"metadata": {"name": "p"}, "spec": SPEC, "status": {"phase": "Running"}}
    assert objects.create(PODS, "default", document).document["status"] == {"phase": "Pending"}


@pytest.mark.parametrize(
    ("asked", "own", "grace_s"), [(None, None, 30), (None, 5, 5), (2, 5, 2), (60, 5, 60)]
)
def test_a_placed_pods_grace_is_what_is_asked_else_its_own_else_30_s(
    objects: ObjectStore, asked: int | None, own: int | None, grace_s: int
) -> None:
    placed(objects, **({} if own is None else {"terminationGracePeriodSeconds": own}))
    document, gone = objects.delete(PODS, "default", "p", DeleteOptions(grace_period_s=asked))
    meta = document["metadata"]
    assert (gone, meta["deletionGracePeriodSeconds"]) == (False, grace_s)
    assert meta["deletionTimestamp"] == f"2027-01-15T08:0{grace_s // 60}:{grace_s % 60:02}Z"


def test_a_second_delete_shortens_a_grace_and_never_lengthens_it(objects: ObjectStore) -> None:
    placed(objects)
    first, _ = objects.delete(PODS, "default", "p", DeleteOptions(grace_period_s=10))
    longer, _ = objects.delete(PODS, "default", "p", DeleteOptions(grace_period_s=60))
    assert longer["metadata"] == first["metadata"]
    shorter, _ = objects.delete(PODS, "default", "p", DeleteOptions(grace_period_s=3))
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 3
    assert shorter["metadata"]["deletionTimestamp"] < first["metadata"]["deletionTimestamp"]
    _, gone = objects.delete(PODS, "default", "p", DeleteOptions(grace_period_s=0))
    assert gone


def test_a_pod_without_processes_goes_at_once(objects: ObjectStore) -> None:
    objects.create(PODS, "default", {"metadata": {"name": "unplaced"}, "spec": SPEC})
    placed(objects, "ended")
    objects.patch(PODS, "default", "ended", {"status": {"phase": "Succeeded"}}, subresource="status")
    for name in ("unplaced", "ended"):
        assert objects.delete(PODS, "default", name)[1]


def test_a_status_write_leaves_the_rest_and_an_absent_subresource_is_not_found(objects: ObjectStore) -> None:
    placed(objects)
    patch = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"nodeName": "there"},
        "status": {"phase": "Running"},
    }
    document = objects.patch(PODS, "default", "p", patch, subresource="status").document
    assert document["status"] == {"phase": "Running"}
    assert document["spec"]["nodeName"] == "here"
    assert "labels" not in document["metadata"]
    with pytest.raises(NotFound):
        objects.patch(MAPS, "default", config_map(objects)["metadata"]["name"], {}, subresource="scale")


def deployment(objects: ObjectStore) -> dict[str, Any]:
    labels = {"app": "web"}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": SPEC}}
    return objects.create(DEPLOYMENTS, "default", {"metadata": {"name": "web"}, "spec": spec}).document


def test_a_scale_shows_one_replica_when_none_is_given_and_checks_what_it_is_sent(
    objects: ObjectStore,
) -> None:
    seen = scale_of(deployment(objects))
    assert (seen["spec"], seen["status"]) == ({"replicas": 1}, {"replicas": 0, "selector": "app=web"})
    for wrong in (-1, "3", True, None):
        with pytest.raises(Invalid, match="replicas"):
            objects.replace(DEPLOYMENTS, "default", "web", {"spec": {"replicas": wrong}}, subresource="scale")
    stale = {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 2}}
    with pytest.raises(Conflict):
        objects.replace(DEPLOYMENTS, "default", "web", stale, subresource="scale")
    assert objects.store.read("replicasets.apps", "default", "web") is None
    assert "scale" in kind_of(ReplicaSet).subresources


def test_a_selector_of_expressions_is_shown_in_kubectls_notation() -> None:
    expressions = [
        {"key": "a", "operator": "In", "values": ["x", "y"]},
        {"key": "b", "operator": "NotIn", "values": ["z"]},
        {"key": "c", "operator": "Exists"},
        {"key": "d", "operator": "DoesNotExist"},
    ]
    shown = scale_of({"metadata": {}, "spec": {"selector": {"matchExpressions": expressions}}})
    assert shown["status"]["selector"] == "a in (x,y),b notin (z),c,!d"


def test_a_dry_run_leaves_the_version_where_it_was(objects: ObjectStore) -> None:
    config_map(objects)
    version = objects.store.version
    objects.create(MAPS, "default", {"metadata": {"name": "b"}}, dry_run=True)
    objects.patch(MAPS, "default", "a", {"data": {"x": "y"}}, dry_run=True)
    _, gone = objects.delete(MAPS, "default", "a", dry_run=True)
    assert gone
    assert objects.store.version == version


Operation = Callable[[ObjectStore], object]
NAMES = st.sampled_from(["a", "b"])
OPERATIONS = st.one_of(
    NAMES.map(lambda name: lambda objects: config_map(objects, name)),
    NAMES.map(lambda name: lambda objects: config_map(objects, name, finalizers=["example.org/hold"])),
    st.tuples(NAMES, st.sampled_from("xyz")).map(
        lambda args: lambda objects: objects.patch(MAPS, "default", args[0], {"data": {"k": args[1]}})
    ),
    NAMES.map(
        lambda name: lambda objects: objects.patch(MAPS, "default", name, {"metadata": {"finalizers": None}})
    ),
    NAMES.map(lambda name: lambda objects: objects.delete(MAPS, "default", name)),
)


@given(st.lists(OPERATIONS, max_size=25))
def test_whatever_happens_versions_rise_uids_stay_and_watchers_agree_with_lists(
    operations: list[Operation],
) -> None:
    objects = ObjectStore(Store(":memory:"), HandClock(1_800_000_000.0))
    watch = objects.watch(MAPS, "default", since=str(objects.store.version))
    version, known = objects.store.version, {}
    for operation in operations:
        try:
            operation(objects)
        except PlatformError:
            assert objects.store.version == version, "a refused operation writes nothing"
        assert objects.store.version >= version
        version = objects.store.version
    uids: dict[str, str] = {}
    for seen in watch.take():
        document = orjson.loads(seen.document)
        meta = document["metadata"]
        assert int(meta["resourceVersion"]) == seen.version
        if seen.type == "ADDED":
            assert meta["uid"] not in uids.values()
            uids[meta["name"]] = meta["uid"]
        assert uids[meta["name"]] == meta["uid"]
        known[meta["name"]] = document
        if seen.type == "DELETED":
            del known[meta["name"]]
    listed = objects.list(MAPS, "default").documents
    assert {document["metadata"]["name"]: document for document in listed} == known
