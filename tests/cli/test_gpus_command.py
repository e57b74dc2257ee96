"""What `penstock gpus` and `penstock nodes` print; only the server is pretended."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from penstock.app.gpu_types import find_gpu_type
from penstock.cli.commands import gpus, nodes
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, Share
from penstock.decide.device_slices import slices_of
from penstock.resources.core import Node, NodeStatus, Taint
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements

FOUND = (
    Gpu(index=0, uuid="GPU-0", type=find_gpu_type("l4")),
    Gpu(
        index=1,
        uuid="GPU-1",
        type=find_gpu_type("a30"),
        is_mig=True,
        taints=(Taint(key="k", value="v", effect="NoExecute"),),
    ),
)


class Server:
    def __init__(self) -> None:
        shares = (
            Share(gpu="GPU-0", container="main", memory_bytes=8 << 30),
            Share(gpu="GPU-1", profile="2g.12gb", start=2),
        )
        limits = ResourceRequirements(limits={"cpu": "1500m", "memory": "4Gi"})
        pod = Pod(
            metadata=ObjectMeta(
                name="p",
                namespace="default",
                annotations={DEVICES_ANNOTATION: msgspec.json.encode(shares).decode()},
            ),
            spec=PodSpec(node_name="n", containers=(Container(name="main", resources=limits),)),
        )
        conditions = (
            Condition(type="Ready", status="True"),
            Condition(type="GPUProblem", status="True", message="GPU 1 is broken"),
        )
        status = NodeStatus(allocatable={"cpu": "8", "memory": "32Gi", "pods": "110"}, conditions=conditions)
        node = Node(metadata=ObjectMeta(name="n"), status=status)
        self.items = {"pods": [pod], "nodes": [node], "resourceslices": [*slices_of("n", FOUND)]}

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return {"items": msgspec.to_builtins(self.items[path.rpartition("/")[2]])}


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()
    for module in (gpus, nodes):
        monkeypatch.setattr(module, "connect", lambda *_: found)
    return found


def test_gpus_are_a_row_for_each_holding(capsys: pytest.CaptureFixture[str]) -> None:
    gpus.run()
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "NODE",
        "GPU",
        "TYPE",
        "MODE",
        "POD",
        "HOLDS",
        "MEMORY",
        "SLICES",
        "FREE",
        "PROBLEM",
    ]
    assert first.split() == ["n", "0", "l4", "whole", "default/p", "part", "8.0Gi", "14.5Gi"]
    assert "2g.12gb at 2   11.4Gi   2 to 3   12.6Gi, 2 of 4 slices   k=v:NoExecute" in second


def test_gpus_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    gpus.run(output="picture")
    out = capsys.readouterr().out
    assert "0  l4               [aaaaaaaaa...............]  14.5Gi of 22.5Gi free" in out
    assert "1  a30              [.|.|a|a]" in out


def test_gpus_are_told_to_programs_in_bytes_and_slices(capsys: pytest.CaptureFixture[str]) -> None:
    gpus.run(output="json")
    found = json.loads(capsys.readouterr().out)
    assert found[0]["freeBytes"] == find_gpu_type("l4").memory_bytes - (8 << 30)
    assert found[1]["freeSlices"] == [0, 1]
    assert found[1]["holdings"][0]["slices"] == [2, 3]


def test_only_one_nodes_gpus_may_be_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    gpus.run(node="other")
    assert capsys.readouterr().err == "No GPUs found.\n"


def test_nodes_say_what_is_reserved_and_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    nodes.run()
    _, row = capsys.readouterr().out.splitlines()
    assert "1500m / 8   4.0Gi / 32.0Gi   1 / 110   1 l4, 1 a30" in row
    assert row.endswith("GPU 1 is broken")
