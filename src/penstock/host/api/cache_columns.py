"""The columns of model caches, their node groups and nodes. KServe's CRDs have none but Name and Age."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.contracts.node_caches import downloads_of
from penstock.host.api.cells import AGE, NAME, Column, count, pairs, path

COPIES = ("status", "copies")
MODEL_CACHE = (
    NAME,
    Column("Size", path("spec", "modelSize")),
    Column("NodeGroups", lambda d, now_s: ",".join(path("spec", "nodeGroups", default=())(d, now_s))),
    Column("Available", path(*COPIES, "available", default=0), "integer"),
    Column("Total", path(*COPIES, "total", default=0), "integer"),
    Column("Failed", path(*COPIES, "failed", default=0), "integer"),
    AGE,
    Column("Source", path("spec", "sourceModelUri"), wide=True),
    Column("Nodes", pairs("status", "nodeStatus"), wide=True),
)
CACHE_COLUMNS: dict[str, tuple[Column, ...]] = {
    "LocalModelCache": MODEL_CACHE,
    "LocalModelNamespaceCache": MODEL_CACHE,
    "LocalModelNodeGroup": (
        NAME,
        Column("Limit", path("spec", "storageLimit")),
        Column("Used", path("status", "used", default="0")),
        Column("Available", path("status", "available")),
        AGE,
    ),
    "LocalModelNode": (
        NAME,
        count("spec", "localModels"),
        Column("Status", pairs("status", "modelStatus")),
        Column("Progress", lambda d, now_s: _progress(d)),
        AGE,
    ),
}


def _progress(node: Mapping[str, Any]) -> str:
    known = downloads_of(node["metadata"].get("annotations") or {})
    return "; ".join(f"{model}: {download.told}" for model, download in sorted(known.items()))
