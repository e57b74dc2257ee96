from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rest_cluster import RestCluster, api, serving

from penstock.contracts.cluster import Cluster
from penstock.testing.conformance.cluster import CASES, Case
from penstock.testing.factories import disk_cluster, memory_cluster


@pytest.fixture(params=["memory", "disk", "rest"])
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    if request.param == "disk":
        on_disk = disk_cluster(tmp_path / "store.sqlite")
        yield on_disk
        on_disk.objects.store.close()
        return
    in_memory = memory_cluster()
    if request.param == "memory":
        yield in_memory
        return
    async with serving(api(in_memory)) as client:
        yield RestCluster(client)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_every_cluster_behaves_the_same(cluster: Cluster, case: Case) -> None:
    await case(cluster)
