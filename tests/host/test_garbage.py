import pytest

from penstock.contracts.controller import Key
from penstock.host.cluster import EmbeddedCluster
from penstock.host.garbage import GarbageCollector, uids
from penstock.host.namespaces import NamespaceController
from penstock.kit.errors import Forbidden, NotFound
from penstock.resources.core import ConfigMap, Namespace
from penstock.resources.meta import ObjectMeta, OwnerReference, Resource
from penstock.resources.scheme import KINDS
from penstock.testing.factories import config_map, memory_cluster, namespace, owned_by


@pytest.fixture
def cluster() -> EmbeddedCluster:
    return memory_cluster()


async def settle(cluster: EmbeddedCluster, *gone: Resource) -> None:
    """Run the controllers over everything, and over the objects that went, until nothing changes."""
    garbage, namespaces = GarbageCollector(cluster.objects), NamespaceController(cluster.objects)
    before = -1
    while before != cluster.objects.store.version:
        before = cluster.objects.store.version
        keys = {key for obj in gone for key in uids(obj)}
        for kind in KINDS:
            for obj in (await cluster.list(kind.type)).items:
                keys.update(uids(obj))
        for key in keys:
            await garbage.reconcile(key)
        for found in (await cluster.list(Namespace)).items:
            await namespaces.reconcile(Key("", found.metadata.name))


async def child(cluster: EmbeddedCluster, name: str, *owners: OwnerReference, **fields: object) -> ConfigMap:
    return await cluster.create(config_map(name, owner_references=owners, **fields))


async def names(cluster: EmbeddedCluster) -> list[str]:
    return [item.metadata.name for item in (await cluster.list(ConfigMap, "default")).items]


async def test_what_an_object_owns_goes_with_it_through_all_generations(cluster: EmbeddedCluster) -> None:
    parent = await cluster.create(config_map("parent"))
    middle = await child(cluster, "middle", owned_by(parent))
    await child(cluster, "leaf", owned_by(middle))
    await cluster.create(config_map("stranger"))
    await cluster.delete(ConfigMap, "parent", "default")
    await settle(cluster, parent, middle)
    assert await names(cluster) == ["stranger"]


async def test_an_object_stays_while_one_of_its_owners_does(cluster: EmbeddedCluster) -> None:
    first, second = [await cluster.create(config_map(name)) for name in ("first", "second")]
    await child(cluster, "child", owned_by(first, controller=False), owned_by(second, controller=False))
    await cluster.delete(ConfigMap, "first", "default")
    await settle(cluster, first)
    kept = await cluster.get(ConfigMap, "child", "default")
    assert [owner.name for owner in kept.metadata.owner_references] == ["second"]
    await cluster.delete(ConfigMap, "second", "default")
    await settle(cluster, second)
    assert await names(cluster) == []


async def test_an_object_created_after_its_owner_went_is_collected(cluster: EmbeddedCluster) -> None:
    parent = await cluster.create(config_map("parent"))
    await cluster.delete(ConfigMap, "parent", "default")
    await child(cluster, "late", owned_by(parent))
    await settle(cluster)
    assert await names(cluster) == []


async def test_a_new_object_of_the_owners_name_is_not_the_owner(cluster: EmbeddedCluster) -> None:
    parent = await cluster.create(config_map("parent"))
    await child(cluster, "child", owned_by(parent))
    await cluster.delete(ConfigMap, "parent", "default")
    await cluster.create(config_map("parent"))
    await settle(cluster)
    assert await names(cluster) == ["parent"]


async def test_an_owner_in_another_namespace_does_not_count(cluster: EmbeddedCluster) -> None:
    elsewhere = await cluster.create(config_map("owner", "kube-system"))
    await child(cluster, "child", owned_by(elsewhere))
    await cluster.delete(ConfigMap, "owner", "kube-system")
    await settle(cluster, elsewhere)
    assert await names(cluster) == []


async def test_foreground_keeps_the_owner_until_what_blocks_it_is_gone(cluster: EmbeddedCluster) -> None:
    parent = await cluster.create(config_map("parent"))
    await child(cluster, "held", owned_by(parent), finalizers=("example.org/hold",))
    await child(cluster, "free", owned_by(parent))
    await cluster.delete(ConfigMap, "parent", "default", propagation="Foreground")
    await settle(cluster)
    assert await names(cluster) == ["held", "parent"]
    assert (await cluster.get(ConfigMap, "parent", "default")).metadata.deletion_timestamp
    await cluster.patch(ConfigMap, "held", "default", {"metadata": {"finalizers": None}})
    await settle(cluster)
    assert await names(cluster) == []


async def test_orphaned_objects_stay_without_their_owner(cluster: EmbeddedCluster) -> None:
    parent = await cluster.create(config_map("parent"))
    await child(cluster, "child", owned_by(parent))
    await cluster.delete(ConfigMap, "parent", "default", propagation="Orphan")
    await settle(cluster, parent)
    assert await names(cluster) == ["child"]
    assert (await cluster.get(ConfigMap, "child", "default")).metadata.owner_references == ()


async def test_a_namespace_goes_after_its_content(cluster: EmbeddedCluster) -> None:
    await cluster.create(namespace("demo"))
    await cluster.create(config_map("free", "demo"))
    await cluster.create(config_map("held", "demo", finalizers=("example.org/hold",)))
    await cluster.delete(Namespace, "demo")
    await settle(cluster)
    leaving = await cluster.get(Namespace, "demo")
    assert leaving.status.phase == "Terminating"
    with pytest.raises(Forbidden, match="being terminated"):
        await cluster.create(config_map("late", "demo"))
    await cluster.patch(ConfigMap, "held", "demo", {"metadata": {"finalizers": None}})
    await settle(cluster)
    with pytest.raises(NotFound):
        await cluster.get(Namespace, "demo")
    assert (await cluster.list(ConfigMap, "demo")).items == ()


async def test_the_namespaces_of_the_system_stay(cluster: EmbeddedCluster) -> None:
    with pytest.raises(Forbidden):
        await cluster.delete(Namespace, "default")


async def test_a_foreground_delete_then_a_background_one_lets_go(cluster: EmbeddedCluster) -> None:
    await cluster.create(ConfigMap(metadata=ObjectMeta(name="a", namespace="default")))
    await cluster.delete(ConfigMap, "a", "default", propagation="Foreground")
    assert await names(cluster) == ["a"]
    await cluster.delete(ConfigMap, "a", "default", propagation="Background")
    assert await names(cluster) == []
