"""What `kubectl get` shows of model caches, and that admission looks at changes, not at status."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.host.api.columns import columns_of
from penstock.host.objects import ObjectStore
from penstock.host.store import Store
from penstock.kit.errors import Invalid
from penstock.resources.caching import LocalModelCache, LocalModelNode, LocalModelNodeGroup
from penstock.resources.scheme import kind_of

CACHE, GROUP, NODE = (kind_of(kind) for kind in (LocalModelCache, LocalModelNodeGroup, LocalModelNode))


@pytest.fixture
def objects() -> ObjectStore:
    made = ObjectStore(Store(":memory:"))
    spec = {"storageLimit": "10G", "persistentVolumeSpec": {}, "persistentVolumeClaimSpec": {}}
    made.create(GROUP, "", {"metadata": {"name": "a"}, "spec": spec})
    return made


def cache(name: str, size: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"sourceModelUri": f"hf://o/{name}", "modelSize": size, "nodeGroups": ["a"]},
    }


def test_a_cache_that_grows_beyond_its_group_is_refused_one_that_shrinks_is_not(objects: ObjectStore) -> None:
    objects.create(CACHE, "", cache("m", "6G"))
    with pytest.raises(Invalid, match="1000000000 are missing"):
        objects.patch(CACHE, "", "m", {"spec": {"modelSize": "11G"}})
    objects.patch(CACHE, "", "m", {"spec": {"modelSize": "1G"}})


def test_a_group_that_shrank_keeps_nobody_from_changing_labels(objects: ObjectStore) -> None:
    objects.create(CACHE, "", cache("m", "6G"))
    objects.patch(GROUP, "", "a", {"spec": {"storageLimit": "1G"}})
    objects.patch(CACHE, "", "m", {"metadata": {"labels": {"team": "x"}}})


def shown(kind: Any, document: dict[str, Any]) -> dict[str, Any]:
    return {column.name: column.cell(document, 0.0) for column in columns_of(kind)}


def test_columns_say_copies_room_and_progress() -> None:
    copies = {"available": 1, "total": 3, "failed": 1}
    status = {"copies": copies, "nodeStatus": {"n1": "NodeDownloaded"}}
    row = shown(CACHE, {**cache("m", "6G"), "status": status})
    assert (row["Available"], row["Total"], row["Failed"]) == (1, 3, 1)
    assert (row["Size"], row["NodeGroups"], row["Nodes"]) == ("6G", "a", "n1=NodeDownloaded")
    group = shown(
        GROUP, {"metadata": {"name": "a"}, "spec": {"storageLimit": "10G"}, "status": {"used": "6G"}}
    )
    assert (group["Limit"], group["Used"]) == ("10G", "6G")
    told = {"annotations": {"penstock.dev/download-progress": '{"m": {"told": "downloading 43 %"}}'}}
    node = shown(NODE, {"metadata": told, "spec": {"localModels": [{}, {}]}})
    assert node["Localmodels"] == 2
    assert node["Progress"] == "m: downloading 43 %"
