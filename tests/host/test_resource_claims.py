"""Claims on devices as users see them: made from templates, given, told, shared, let go."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import Gpu
from penstock.decide.device_slices import slices_of
from penstock.decide.inventory import shares_of
from penstock.host.device_eviction import DeviceEvictionController
from penstock.host.placement import PlacementController
from penstock.host.resource_claims import ResourceClaimController
from penstock.kit.errors import Invalid, NotFound
from penstock.resources.core import Namespace, Node, NodeStatus, Taint
from penstock.resources.devices import (
    CapacityRequests,
    ClaimConstraint,
    ClaimRequest,
    ClaimTemplateSpec,
    DeviceClaim,
    DeviceWish,
    ResourceClaim,
    ResourceClaimSpec,
    ResourceClaimTemplate,
    ResourceSlice,
)
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements
from penstock.testing.world import World, condition

pytestmark = pytest.mark.looptime
L4 = find_gpu_type("l4")


class Fleet(World):
    """Nodes `a` and `b` with two L4 each."""

    def __init__(self) -> None:
        super().__init__(self._placement, self._claims, self._eviction)
        self.kubelet.places = False

    def _placement(self, world: World) -> PlacementController:
        parts = (world.cluster, world.cache, world.recorder.named("placement"), world.clock)
        return PlacementController(*parts, gpu_types=load_gpu_types())

    def _claims(self, world: World) -> ResourceClaimController:
        return ResourceClaimController(world.cluster, world.cache, world.clock)

    def _eviction(self, world: World) -> DeviceEvictionController:
        parts = (world.cluster, world.cache, world.recorder.named("eviction"), world.clock)
        return DeviceEvictionController(*parts, types=load_gpu_types())

    async def make(self) -> None:
        for name in ("a", "b"):
            gpus = tuple(Gpu(index=i, uuid=f"GPU-{name}{i}", type=L4) for i in range(2))
            ready = (Condition(type="Ready", status="True"),)
            status = NodeStatus(allocatable={"cpu": "16", "memory": "64Gi", "pods": "110"}, conditions=ready)
            await self.cluster.create(Node(metadata=ObjectMeta(name=name), status=status))
            for one in slices_of(name, gpus):
                await self.cluster.create(one)

    async def claim(self, name: str, *wishes: DeviceWish, **more: Any) -> ResourceClaim:
        requests = tuple(ClaimRequest(name=f"r{i}", exactly=one) for i, one in enumerate(wishes))
        spec = ResourceClaimSpec(devices=DeviceClaim(requests=requests, **more))
        meta = ObjectMeta(name=name, namespace="default")
        return await self.cluster.create(ResourceClaim(metadata=meta, spec=spec))

    async def template(self, name: str, wish: DeviceWish) -> None:
        spec = ResourceClaimSpec(devices=DeviceClaim(requests=(ClaimRequest(name="gpu", exactly=wish),)))
        meta = ObjectMeta(name=name, namespace="default")
        await self.cluster.create(ResourceClaimTemplate(metadata=meta, spec=ClaimTemplateSpec(spec=spec)))

    async def pod(self, name: str, *entries: dict[str, str], **more: Any) -> Pod:
        """A pod that was given some seconds to find a place and its claims theirs."""
        claims = tuple({"name": one["name"]} for one in entries)
        container = Container(name="main", image="x", resources=ResourceRequirements(claims=claims))
        spec = PodSpec(containers=(container,), resource_claims=entries, **more)
        await self.cluster.create(Pod(metadata=ObjectMeta(name=name, namespace="default"), spec=spec))
        await asyncio.sleep(9)
        return await self.cluster.get(Pod, name, "default")

    async def status(self, name: str) -> dict[str, Any]:
        """What `kubectl get resourceclaims -o yaml` shows."""
        claim = await self.cluster.get(ResourceClaim, name, "default")
        return dict(msgspec.to_builtins(claim.status))

    async def gone(self, name: str) -> None:
        await self.cluster.delete(Pod, name, "default")
        await asyncio.sleep(9)


ONE = DeviceWish(device_class_name="gpu.nvidia.com")
MINE = {"name": "mine", "resourceClaimName": "c"}


async def test_a_claims_status_is_written_as_kubernetes_writes_it_and_taken_away_with_the_pod() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        await fleet.claim("c", ONE)
        pod = await fleet.pod("p", MINE)
        status = await fleet.status("c")
        [result] = status["allocation"]["devices"]["results"]
        assert result == {
            "request": "r0",
            "driver": "gpu.nvidia.com",
            "pool": pod.spec.node_name,
            "device": f"gpu-{shares_of(pod)[0].gpu[-1]}",
        }
        [term] = status["allocation"]["nodeSelector"]["nodeSelectorTerms"]
        assert term["matchFields"][0]["values"] == [pod.spec.node_name]
        assert list(status["reservedFor"]) == [{"resource": "pods", "name": "p", "uid": pod.metadata.uid}]
        await fleet.gone("p")
        assert await fleet.status("c") == {}
        assert (await fleet.cluster.get(ResourceClaim, "c", "default")).metadata.finalizers == ()


async def test_a_claim_that_two_pods_name_is_given_once_and_brings_them_together() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        part = CapacityRequests(requests={"memory": "8Gi"})
        await fleet.claim("c", msgspec.structs.replace(ONE, capacity=part))
        first, second = await fleet.pod("p", MINE), await fleet.pod("q", MINE)
        assert second.spec.node_name == first.spec.node_name
        assert [s.gpu for s in shares_of(first)] == [s.gpu for s in shares_of(second)]
        status = await fleet.status("c")
        assert [one["name"] for one in status["reservedFor"]] == ["p", "q"]
        assert status["allocation"]["devices"]["results"][0]["consumedCapacity"] == {"memory": "8Gi"}
        for name in ("w0", "w1", "w2"):
            await fleet.claim(name, ONE)
            await fleet.pod(name, {"name": "mine", "resourceClaimName": name})
        rest = CapacityRequests(requests={"memory": "14Gi"})
        await fleet.claim("d", msgspec.structs.replace(ONE, capacity=rest))
        third = await fleet.pod("s", {"name": "mine", "resourceClaimName": "d"})
        assert shares_of(third)[0].gpu == shares_of(first)[0].gpu  # of its 22 GiB the two took 8 together
        await fleet.gone("p")
        assert [one["name"] for one in (await fleet.status("c"))["reservedFor"]] == ["q"]


async def test_two_pods_of_one_round_share_what_the_first_of_them_is_given() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        pods = [fleet.pod(name, MINE) for name in ("p", "q", "r")]
        waiting = asyncio.gather(*pods)
        await asyncio.sleep(1)
        await fleet.claim("c", msgspec.structs.replace(ONE, count=2))
        await waiting
        found = [await fleet.cluster.get(Pod, name, "default") for name in ("p", "q", "r")]
        assert len({pod.spec.node_name for pod in found}) == 1
        assert len({shares_of(pod) for pod in found}) == 1
        assert len((await fleet.status("c"))["allocation"]["devices"]["results"]) == 2


async def test_each_pod_of_a_template_has_a_claim_of_its_own_that_goes_with_it() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        await fleet.template("t", ONE)
        entry = {"name": "gpu", "resourceClaimTemplateName": "t"}
        pods = [await fleet.pod(f"p{i}", entry) for i in range(2)]
        claims = (await fleet.cluster.list(ResourceClaim, "default")).items
        owners = {one.metadata.owner_references[0].name: one for one in claims}
        assert owners.keys() == {"p0", "p1"}
        assert owners["p0"].metadata.annotations == {"resource.kubernetes.io/pod-claim-name": "gpu"}
        told = (await fleet.cluster.get(Pod, "p0", "default")).status.resource_claim_statuses
        assert [one.resource_claim_name for one in told] == [owners["p0"].metadata.name]
        assert all(one.status.allocation for one in claims)
        await fleet.gone("p0")
        left = (await fleet.cluster.list(ResourceClaim, "default")).items
        assert [one.metadata.owner_references[0].name for one in left] == [pods[1].metadata.name]


async def test_a_claim_in_use_is_deleted_when_its_last_pod_is_gone() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        await fleet.claim("c", ONE)
        await fleet.pod("p", MINE)
        await fleet.cluster.delete(ResourceClaim, "c", "default")
        late = await fleet.pod("q", MINE)
        assert "claim c is being deleted" in condition(late, "PodScheduled").message
        await fleet.gone("p")
        with pytest.raises(NotFound):
            await fleet.cluster.get(ResourceClaim, "c", "default")


async def test_admin_access_is_for_labelled_namespaces_and_holds_nothing() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        every = msgspec.structs.replace(ONE, allocation_mode="All", admin_access=True)
        with pytest.raises(Invalid, match=r"resource.kubernetes.io/admin-access: true"):
            await fleet.claim("c", every)
        label = {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}}
        await fleet.cluster.patch(Namespace, "default", "", label)
        await fleet.claim("c", every)
        watcher = await fleet.pod("watcher", MINE, node_selector={})
        await fleet.claim("d", msgspec.structs.replace(ONE, count=2))
        results = (await fleet.status("c"))["allocation"]["devices"]["results"]
        assert [one["adminAccess"] for one in results] == [True, True]
        workers = [await fleet.pod("w0", {"name": "d", "resourceClaimName": "d"})]
        await fleet.claim("e", msgspec.structs.replace(ONE, count=2))
        workers.append(await fleet.pod("w1", {"name": "e", "resourceClaimName": "e"}))
        assert {pod.spec.node_name for pod in workers} == {"a", "b"}
        assert watcher.spec.node_name in ("a", "b")


async def test_a_claim_that_tolerates_a_devices_taint_keeps_the_device_when_it_fails() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        tough = msgspec.structs.replace(ONE, tolerations=({"key": "repair", "operator": "Exists"},))
        await fleet.claim("c", tough)
        await fleet.claim("d", ONE)
        stays = await fleet.pod("stays", MINE)
        goes = await fleet.pod("goes", {"name": "mine", "resourceClaimName": "d"})
        for node in ("a", "b"):
            taint = (Taint(key="repair", effect="NoExecute"),)
            gpus = tuple(Gpu(index=i, uuid=f"GPU-{node}{i}", type=L4, taints=taint) for i in range(2))
            [old] = [s for s in (await fleet.cluster.list(ResourceSlice)).items if s.spec.node_name == node]
            await fleet.cluster.replace(msgspec.structs.replace(old, spec=slices_of(node, gpus)[0].spec))
        await asyncio.sleep(9)
        assert (await fleet.cluster.get(Pod, "stays", "default")).metadata.uid == stays.metadata.uid
        with pytest.raises(NotFound):
            await fleet.cluster.get(Pod, goes.metadata.name, "default")


async def test_why_a_claim_cannot_be_met_is_said_on_the_pod() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        same = ClaimConstraint(distinct_attribute="gpu.nvidia.com/productName")
        await fleet.claim("c", ONE, ONE, constraints=(same,))
        pod = await fleet.pod("p", MINE)
        message = condition(pod, "PodScheduled").message
        assert (
            "claim mine: no free devices meet its constraints (distinct gpu.nvidia.com/productName)"
            in message
        )
        none = await fleet.pod("q", {"name": "mine", "resourceClaimName": "absent"})
        assert "the claim or template that it names does not exist" in condition(none, "PodScheduled").message
