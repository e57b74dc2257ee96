"""What `penstock node-pools` and the costs of pods print; only the server is pretended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from penstock.app import node_pools as app_node_pools
from penstock.app.gpu_types import find_gpu_type
from penstock.cli.commands import explain, node_pools
from penstock.cli.costs import costs, shown
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, Share
from penstock.decide.device_slices import slices_of
from penstock.kit.errors import NotFound
from penstock.resources.core import Node, NodeStatus
from penstock.resources.meta import Condition, ObjectMeta, Resource
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements
from penstock.resources.serving import InferenceService, InferenceServiceSpec, PredictorSpec

POOLS = """
pools:
- {name: single, provider: nebius, cpu: "16", memory: 200Gi, gpus: [{type: h100}]}
- {name: eight, provider: nebius, cpu: "128", memory: 1600Gi, gpus: [{type: h100, count: 8}]}
"""


def pod(name: str, gpus: int, on: str = "", **annotations: str) -> Pod:
    limits = ResourceRequirements(limits={"cpu": "1", "nvidia.com/gpu": str(gpus)})
    spec = PodSpec(
        node_name=on,
        containers=(Container(name="main", resources=limits),),
        node_selector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    )
    meta = ObjectMeta(name=name, namespace="default", uid=name, annotations=annotations)
    return Pod(metadata=meta, spec=spec)


class Server:
    """Node `n` with an L40S of Nebius' that is half held, and no H100 anywhere."""

    namespace = "default"

    def __init__(self) -> None:
        l40s = find_gpu_type("l40s")
        half = (Share(gpu="GPU-0", container="main", memory_bytes=l40s.memory_bytes // 2),)
        held = {DEVICES_ANNOTATION: msgspec.json.encode(half).decode()}
        status = NodeStatus(
            allocatable={"cpu": "8", "memory": "32Gi", "pods": "110"},
            conditions=(Condition(type="Ready", status="True"),),
        )
        labels = {"penstock.dev/provider": "nebius"}
        self.items: dict[str, list[Resource]] = {
            "pods": [pod("held", 0, "n", **held)],
            "events": [],
            "nodes": [Node(metadata=ObjectMeta(name="n", labels=labels), status=status)],
            "resourceslices": [*slices_of("n", (Gpu(index=0, uuid="GPU-0", type=l40s),))],
        }

    def get(self, path: str, **query: str) -> dict[str, Any]:
        plural = path.rpartition("/")[2]
        if plural not in self.items:
            raise NotFound(f"{path}: no such kind")
        return {"items": msgspec.to_builtins(self.items[plural])}


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    found = Server()
    monkeypatch.setattr(node_pools, "connect", lambda *_: found)
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    (tmp_path / "pools.yaml").write_text(POOLS)
    return found


def test_pods_that_no_node_has_the_gpus_for_get_the_cheapest_pool(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.items["pods"] += [pod("a", 1), pod("b", 1)]
    node_pools.run(tmp_path / "pools.yaml")
    out = capsys.readouterr().out
    assert out.splitlines()[:2] == ["ADD   POOL     EACH", "2     single   2.95 USD/h"]
    assert "Together they cost 5.90 USD/h" in out
    assert "Second for the first: a node of eight at 23.60 USD/h" in out
    assert "default/b   single-2" in out


def test_what_is_decided_can_be_read_by_programs(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.items["pods"] += [pod("a", 1), pod("much", 9)]
    node_pools.run(tmp_path / "pools.yaml", output="json")
    found = json.loads(capsys.readouterr().out)
    assert (found["add"], found["usdMicros"]) == ({"single": 1}, 2_950_000)
    assert [name for name, _ in found["left"]] == ["default/much"]


def test_those_behind_the_bound_are_counted_and_no_gang_is_cut_there(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_node_pools, "MAX_QUEUE", 2)
    gang = {"penstock.dev/gang": "g", "penstock.dev/gang-size": "3"}
    server.items["pods"] += [pod("a", 1), *(pod(f"b{i}", 1, **gang) for i in range(3)), pod("c", 1)]
    node_pools.run(tmp_path / "pools.yaml", output="json")
    found = json.loads(capsys.readouterr().out)
    assert sorted(dict(found["served"])["default/g"]) == ["single-2", "single-3", "single-4"]
    assert found["unseen"] == 1
    node_pools.run(tmp_path / "pools.yaml")
    assert "1 more wait that were not looked at" in capsys.readouterr().out


def test_where_nothing_waits_nothing_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node_pools.run(tmp_path / "pools.yaml")
    assert capsys.readouterr().out == "No node is needed.\n"


def test_karpenters_objects_are_printed_without_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_pools, "connect", None)
    path = tmp_path / "pools.yaml"
    path.write_text(POOLS.replace("provider: nebius", "nodeClass: {group: g, kind: K, name: n}"))
    node_pools.run(path, output="karpenter")
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [one["metadata"]["name"] for one in found] == ["single", "eight"]


def test_a_pod_costs_its_part_of_its_node_and_what_is_not_known_is_said(server: Server) -> None:
    pods = [one for one in server.items["pods"] if isinstance(one, Pod)]
    found = costs(server, pods)  # type: ignore[arg-type]
    assert shown(found["held"]) == "0.775 USD/h"
    server.items["nodes"] = [msgspec.structs.replace(server.items["nodes"][0], metadata=ObjectMeta(name="n"))]
    assert shown(costs(server, pods)["held"]) == "unknown"  # type: ignore[arg-type]
    del server.items["resourceslices"]
    assert shown(costs(server, pods)["held"]) == "unknown"  # type: ignore[arg-type]


def test_explain_says_what_each_pod_costs_where_any_price_is_known(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = InferenceServiceSpec(predictor=PredictorSpec())
    service = InferenceService(metadata=ObjectMeta(name="s", namespace="default"), spec=spec)
    reader = explain.Reader(server, None)  # type: ignore[arg-type]
    server.items["pods"].append(pod("waits", 1))
    explain._print_pods(reader, service)
    titles, held, waits = capsys.readouterr().out.splitlines()[-3:]
    assert titles.split()[:6] == ["POD", "PHASE", "NODE", "GPUS", "COST", "WHY"]
    assert ("0.775 USD/h" in held, "unknown" in waits) == (True, True)
    server.items["nodes"] = []
    explain._print_pods(reader, service)
    assert "COST" not in capsys.readouterr().out
