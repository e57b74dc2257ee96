"""What every `Cluster` must do, as cases that any test can run: `for case in CASES: await case(cluster)`.

Each case gets an empty cluster with the namespace `default`, and needs no controllers: where Kubernetes' own controllers would act
upon an object, the case uses kinds on which none does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from penstock.contracts.cluster import Change, Cluster, Preconditions
from penstock.kit.errors import AlreadyExists, Conflict, Expired, Invalid, NotFound, PlatformError
from penstock.resources.core import ConfigMap, Node, Secret
from penstock.resources.meta import Condition, ObjectMeta, OwnerReference
from penstock.resources.pod import Pod
from penstock.resources.workload import Deployment, DeploymentStatus
from penstock.testing.factories import config_map, deployment, meta, pod, secret

Case = Callable[[Cluster], Awaitable[None]]
PATIENCE_S = 30.0


async def raises(error: type[PlatformError], action: Awaitable[object]) -> PlatformError:
    """The error that the action must raise."""
    try:
        await action
    except error as caught:
        return caught
    raise AssertionError(f"expected {error.__name__}, nothing was raised")


async def take(changes: AsyncIterator[Change[ConfigMap]], count: int) -> list[tuple[str, str]]:
    """The next `count` changes as (type, name)."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(PATIENCE_S):
        async for change in changes:
            if change.type != "BOOKMARK":
                found.append((change.type, change.object.metadata.name))
            if len(found) == count:
                break
    return found


async def a_created_object_has_identity_and_is_read_back(cluster: Cluster) -> None:
    """Uid, creationTimestamp and resourceVersion are given by the cluster."""
    made = await cluster.create(config_map("a", data={"k": "v"}, labels={"app": "x"}))
    assert made.metadata.uid
    assert made.metadata.creation_timestamp
    assert made.metadata.resource_version
    assert made.data == {"k": "v"}
    assert await cluster.get(ConfigMap, "a", "default") == made


async def a_name_can_be_taken_once(cluster: Cluster) -> None:
    """In its namespace."""
    await cluster.create(config_map("a"))
    await raises(AlreadyExists, cluster.create(config_map("a")))


async def a_generated_name_starts_as_asked_and_is_unique(cluster: Cluster) -> None:
    """`generateName`."""
    wish = ConfigMap(metadata=ObjectMeta(generate_name="run-", namespace="default"))
    names = {(await cluster.create(wish)).metadata.name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("run-") and len(name) > 4 for name in names)


async def what_is_absent_is_not_found(cluster: Cluster) -> None:
    """For every verb that names an object, and for a namespace that does not exist."""
    await raises(NotFound, cluster.get(ConfigMap, "absent", "default"))
    await raises(NotFound, cluster.replace(config_map("absent")))
    await raises(NotFound, cluster.patch(ConfigMap, "absent", "default", {"data": {}}))
    await raises(NotFound, cluster.delete(ConfigMap, "absent", "default"))
    await raises(NotFound, cluster.create(config_map("a", "no-such-namespace")))


async def a_list_is_ordered_and_narrowed_by_selectors(cluster: Cluster) -> None:
    """By labels, fields and namespace."""
    for name, tier in (("c", "web"), ("a", "web"), ("b", "db")):
        await cluster.create(config_map(name, labels={"tier": tier}))

    async def names(**selectors: str) -> list[str]:
        found = await cluster.list(ConfigMap, "default", **selectors)
        return [item.metadata.name for item in found.items if item.metadata.name in "abc"]

    assert await names() == ["a", "b", "c"]
    assert await names(labels="tier=web") == ["a", "c"]
    assert await names(labels="tier in (db,other)") == ["b"]
    assert await names(labels="tier!=db") == ["a", "c"]
    assert await names(labels="!tier") == []
    assert await names(fields="metadata.name=b") == ["b"]
    assert (await cluster.list(ConfigMap, "kube-public-absent")).items == ()
    everywhere = await cluster.list(ConfigMap, labels="tier=web")
    assert [item.metadata.name for item in everywhere.items] == ["a", "c"]


async def a_list_is_narrowed_to_what_an_owner_controls(cluster: Cluster) -> None:
    """One that is an owner without being the controller does not count."""
    owner = await cluster.create(config_map("owner"))
    for name, controls in (("b", True), ("a", True), ("c", False)):
        reference = OwnerReference(
            api_version="v1", kind="ConfigMap", name="owner", uid=owner.metadata.uid, controller=controls
        )
        owned = ObjectMeta(name=name, namespace="default", owner_references=(reference,))
        await cluster.create(ConfigMap(metadata=owned))
    found = await cluster.list(ConfigMap, "default", owner=owner.metadata.uid)
    assert [item.metadata.name for item in found.items] == ["a", "b"]
    assert (await cluster.list(ConfigMap, "kube-system", owner=owner.metadata.uid)).items == ()
    assert (await cluster.list(Pod, "default", owner=owner.metadata.uid)).items == ()


async def a_write_over_a_newer_version_conflicts(cluster: Cluster) -> None:
    """Optimistic concurrency; an empty resourceVersion writes over whatever is there."""
    first = await cluster.create(config_map("a"))
    changed = ConfigMap(metadata=first.metadata, data={"now": "changed"})
    second = await cluster.replace(changed)
    assert second.metadata.resource_version != first.metadata.resource_version
    await raises(Conflict, cluster.replace(changed))
    await raises(
        Conflict,
        cluster.patch(
            ConfigMap,
            "a",
            "default",
            {"metadata": {"resourceVersion": first.metadata.resource_version}, "data": {"x": "y"}},
        ),
    )
    blind = await cluster.replace(config_map("a", data={"blind": "yes"}))
    assert blind.data == {"blind": "yes"}
    assert blind.metadata.uid == first.metadata.uid


async def a_write_without_a_difference_changes_no_version(cluster: Cluster) -> None:
    """So that a controller that writes what is there wakes nobody."""
    made = await cluster.create(config_map("a"))
    again = await cluster.replace(made)
    assert again.metadata.resource_version == made.metadata.resource_version


async def patches_change_what_they_name(cluster: Cluster) -> None:
    """Merge patches (null removes) and JSON patches."""
    await cluster.create(config_map("a", data={"keep": "1", "drop": "2"}))
    merged = await cluster.patch(ConfigMap, "a", "default", {"data": {"drop": None, "new": "3"}})
    assert merged.data == {"keep": "1", "new": "3"}
    patched = await cluster.patch(
        ConfigMap,
        "a",
        "default",
        [{"op": "replace", "path": "/data/keep", "value": "4"}, {"op": "remove", "path": "/data/new"}],
    )
    assert patched.data == {"keep": "4"}


async def a_generation_counts_changes_of_the_spec_alone(cluster: Cluster) -> None:
    """Labels and status leave it."""
    made = await cluster.create(deployment("web", replicas=0, paused=True))
    assert made.metadata.generation == 1
    labelled = await cluster.patch(Deployment, "web", "default", {"metadata": {"labels": {"x": "y"}}})
    assert labelled.metadata.generation == 1
    changed = await cluster.patch(Deployment, "web", "default", {"spec": {"minReadySeconds": 5}})
    assert changed.metadata.generation == 2


async def status_and_spec_are_written_apart(cluster: Cluster) -> None:
    """Each through its own door; the other's part is ignored."""
    made = await cluster.create(deployment("web", replicas=0, paused=True))
    line = Condition(type="Custom", status="True", reason="Test")
    both = Deployment(
        metadata=ObjectMeta(name="web", namespace="default"),
        spec=(await cluster.get(Deployment, "web", "default")).spec,
        status=DeploymentStatus(conditions=(line,)),
    )
    by_spec = await cluster.replace(both)
    assert not any(condition.type == "Custom" for condition in by_spec.status.conditions)
    by_status = await cluster.patch(
        Deployment,
        "web",
        "default",
        {"spec": {"minReadySeconds": 99}, "status": {"conditions": [{"type": "Custom", "status": "True"}]}},
        subresource="status",
    )
    assert any(condition.type == "Custom" for condition in by_status.status.conditions)
    assert by_status.spec.min_ready_seconds == made.spec.min_ready_seconds


async def scale_sets_replicas_and_nothing_else(cluster: Cluster) -> None:
    """Through the scale subresource."""
    await cluster.create(deployment("web", replicas=0, paused=True))
    scaled = await cluster.patch(Deployment, "web", "default", {"spec": {"replicas": 3}}, subresource="scale")
    assert scaled.spec.replicas == 3
    assert scaled.spec.paused
    assert (await cluster.get(Deployment, "web", "default")).spec.replicas == 3


async def a_dry_run_answers_and_stores_nothing(cluster: Cluster) -> None:
    """For creates and changes."""
    wish = await cluster.create(config_map("a"), dry_run=True)
    assert wish.metadata.uid
    await raises(NotFound, cluster.get(ConfigMap, "a", "default"))
    made = await cluster.create(config_map("a"))
    wish = await cluster.patch(ConfigMap, "a", "default", {"data": {"x": "y"}}, dry_run=True)
    assert wish.data["x"] == "y"
    assert await cluster.get(ConfigMap, "a", "default") == made


async def an_invalid_object_is_refused_with_its_causes(cluster: Cluster) -> None:
    """Each cause names its field."""
    error = await raises(Invalid, cluster.create(config_map("Not A Name")))
    assert any(cause.field == "metadata.name" for cause in error.causes)


async def finalizers_hold_a_deleted_object_until_they_are_gone(cluster: Cluster) -> None:
    """And nothing can be added meanwhile."""
    await cluster.create(config_map("a", finalizers=("example.org/hold",)))
    await cluster.delete(ConfigMap, "a", "default")
    held = await cluster.get(ConfigMap, "a", "default")
    assert held.metadata.deletion_timestamp
    await raises(
        Invalid,
        cluster.patch(
            ConfigMap, "a", "default", {"metadata": {"finalizers": ["example.org/hold", "example.org/more"]}}
        ),
    )
    await cluster.patch(ConfigMap, "a", "default", {"metadata": {"finalizers": None}})
    await raises(NotFound, cluster.get(ConfigMap, "a", "default"))


async def a_delete_can_demand_the_object_that_was_seen(cluster: Cluster) -> None:
    """By uid or resourceVersion."""
    made = await cluster.create(config_map("a"))
    await raises(
        Conflict, cluster.delete(ConfigMap, "a", "default", preconditions=Preconditions(uid="another"))
    )
    await raises(
        Conflict, cluster.delete(ConfigMap, "a", "default", preconditions=Preconditions(resource_version="1"))
    )
    await cluster.delete(ConfigMap, "a", "default", preconditions=Preconditions(uid=made.metadata.uid))
    await raises(NotFound, cluster.get(ConfigMap, "a", "default"))


async def a_placed_pod_waits_for_its_processes(cluster: Cluster) -> None:
    """A delete marks it with its grace; a delete with no grace removes it. An unplaced pod goes at once."""
    await cluster.create(pod("placed", node="no-such-node"))
    await cluster.delete(Pod, "placed", "default", grace_period_s=7)
    waiting = await cluster.get(Pod, "placed", "default")
    assert waiting.metadata.deletion_timestamp
    assert waiting.metadata.deletion_grace_period_seconds == 7
    await cluster.delete(Pod, "placed", "default", grace_period_s=0)
    await raises(NotFound, cluster.get(Pod, "placed", "default"))


async def a_watch_from_a_list_misses_nothing_and_repeats_nothing(cluster: Cluster) -> None:
    """Added, modified, deleted, in order."""
    await cluster.create(config_map("before"))
    since = (await cluster.list(ConfigMap, "default")).resource_version
    await cluster.create(config_map("a"))
    await cluster.patch(ConfigMap, "a", "default", {"data": {"x": "y"}})
    changes = cluster.watch(ConfigMap, "default", since=since)
    assert await take(changes, 2) == [("ADDED", "a"), ("MODIFIED", "a")]
    later = cluster.watch(ConfigMap, "default", since=since)
    await cluster.delete(ConfigMap, "a", "default")
    assert await take(later, 3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


async def a_waiting_watch_wakes_up(cluster: Cluster) -> None:
    """When something happens later."""
    since = (await cluster.list(ConfigMap, "default")).resource_version
    waiting = asyncio.create_task(take(cluster.watch(ConfigMap, "default", since=since), 1))
    await asyncio.sleep(0.01)
    await cluster.create(config_map("a"))
    assert await waiting == [("ADDED", "a")]


async def a_selecting_watch_sees_objects_come_and_go(cluster: Cluster) -> None:
    """An object that gets or loses the label is added or deleted as far as the watcher can tell."""
    since = (await cluster.list(ConfigMap, "default")).resource_version
    await cluster.create(config_map("a"))
    for value in ("yes", "still", None):
        labels = {"wanted": value, "other": str(value)}
        await cluster.patch(ConfigMap, "a", "default", {"metadata": {"labels": labels}})
    changes = cluster.watch(ConfigMap, "default", since=since, labels="wanted")
    assert await take(changes, 3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


async def a_watch_from_too_long_ago_is_expired(cluster: Cluster) -> None:
    """So that the watcher lists again."""

    async def start() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await anext(cluster.watch(ConfigMap, "default", since="1"))

    await raises(Expired, start())


async def texts_of_a_secret_become_data(cluster: Cluster) -> None:
    """`stringData` is write-only."""
    made = await cluster.create(secret("s", word="t0p"))
    assert made.data == {"word": "dDBw"}
    assert (await cluster.get(Secret, "s", "default")).string_data == {}


async def kinds_without_a_namespace_have_none(cluster: Cluster) -> None:
    """Nodes, for one."""
    made = await cluster.create(Node(metadata=ObjectMeta(name="far-away")))
    assert made.metadata.namespace == ""
    assert (await cluster.get(Node, "far-away")).metadata.uid == made.metadata.uid
    await cluster.delete(Node, "far-away")


async def the_same_name_in_two_namespaces_is_two_objects(cluster: Cluster) -> None:
    """Names are scoped."""
    await cluster.create(ConfigMap(metadata=meta("a", "default"), data={"in": "default"}))
    await cluster.create(ConfigMap(metadata=meta("a", "kube-system"), data={"in": "kube-system"}))
    await cluster.delete(ConfigMap, "a", "default")
    assert (await cluster.get(ConfigMap, "a", "kube-system")).data == {"in": "kube-system"}


CASES: tuple[Case, ...] = (
    a_created_object_has_identity_and_is_read_back,
    a_name_can_be_taken_once,
    a_generated_name_starts_as_asked_and_is_unique,
    what_is_absent_is_not_found,
    a_list_is_ordered_and_narrowed_by_selectors,
    a_list_is_narrowed_to_what_an_owner_controls,
    a_write_over_a_newer_version_conflicts,
    a_write_without_a_difference_changes_no_version,
    patches_change_what_they_name,
    a_generation_counts_changes_of_the_spec_alone,
    status_and_spec_are_written_apart,
    scale_sets_replicas_and_nothing_else,
    a_dry_run_answers_and_stores_nothing,
    an_invalid_object_is_refused_with_its_causes,
    finalizers_hold_a_deleted_object_until_they_are_gone,
    a_delete_can_demand_the_object_that_was_seen,
    a_placed_pod_waits_for_its_processes,
    a_watch_from_a_list_misses_nothing_and_repeats_nothing,
    a_waiting_watch_wakes_up,
    a_selecting_watch_sees_objects_come_and_go,
    a_watch_from_too_long_ago_is_expired,
    texts_of_a_secret_become_data,
    kinds_without_a_namespace_have_none,
    the_same_name_in_two_namespaces_is_two_objects,
)
