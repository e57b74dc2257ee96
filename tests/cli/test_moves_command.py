"""What `penstock gpus --defragment` says would move, and why the rest stays; only the server is pretended."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest

from penstock.app.gpu_types import find_gpu_type
from penstock.cli.commands import gpus
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu
from penstock.decide.device_slices import slices_of
from penstock.host.move_ledger import NAME, NAMESPACE
from penstock.kit.errors import NotFound
from penstock.kit.timestamps import rfc3339
from penstock.testing.factories import node


def pod(name: str, on: str, count: int, age_s: float) -> dict[str, Any]:
    """A server on the first GPUs of its node, or one that waits."""
    moment = rfc3339(time.time() - age_s)
    shares = [{"gpu": f"GPU-{on}{i}", "milli": 1000} for i in range(count)]
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": name,
        "uid": f"rs-{name}",
        "controller": True,
    }
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full"}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": moment}
    limits = {"limits": {"nvidia.com/gpu": str(count)}}
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": name,
            "creationTimestamp": moment,
            "ownerReferences": [owner],
            "annotations": {DEVICES_ANNOTATION: json.dumps(shares)} if on else {},
        },
        "spec": {"nodeName": on, "containers": [{"name": "main", "resources": limits}]},
        "status": {"startTime": moment, "conditions": [ready if on else waits]},
    }


class Server:
    """Two nodes of two L4s; `chat` and `embed` hold one on each, and `big` waits for two."""

    def __init__(self, age_s: float = 3600.0) -> None:
        kind = find_gpu_type("l4")
        found = {n: [Gpu(index=i, uuid=f"GPU-{n}{i}", type=kind) for i in range(2)] for n in "ab"}
        names = ("chat", "embed", "big")
        self.items: dict[str, list[Any]] = {
            "nodes": [node(name, **{"nvidia.com/gpu": "2"}) for name in "ab"],
            "resourceslices": [one for name, some in found.items() for one in slices_of(name, some)],
            "pods": [pod("chat", "a", 1, age_s), pod("embed", "b", 1, age_s), pod("big", "", 2, age_s)],
            "replicasets": [
                {
                    "metadata": {"name": name, "namespace": "default", "uid": f"rs-{name}"},
                    "spec": {"replicas": 1, "selector": {}, "template": {}},
                }
                for name in names
            ],
        }

    def get(self, path: str, **query: str) -> dict[str, Any]:
        plural = path.rpartition("/")[2]
        if plural not in self.items:
            raise NotFound(f"{path}: no such kind")
        return {"items": msgspec.to_builtins(self.items[plural])}


def asked(server: Server, monkeypatch: pytest.MonkeyPatch, output: str = "") -> None:
    monkeypatch.setattr(gpus, "connect", lambda *_: server)
    gpus.run(defragment=True, output=output)


def test_it_shows_who_would_move_where_at_which_cost_and_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(Server(), monkeypatch)
    out, err = capsys.readouterr()
    [header, row, *_] = out.splitlines()
    assert header.split() == ["POD", "FROM", "TO", "HOW", "GPU-SECONDS", "BECAUSE"]
    assert row.split()[:5] in (
        ["default/chat", "a", "b", "surge", "0"],
        ["default/embed", "b", "a", "surge", "0"],
    )
    assert "so that default/big gets room" in row
    assert "Nothing is moved without being asked for" in err


def test_it_says_why_nothing_moves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(Server(age_s=120), monkeypatch)
    out = capsys.readouterr().out
    assert "Nothing would move: no move would make room for who waits." in out
    assert "default/chat stays: it has run for 12" in out
    assert "may be moved after 600 s." in out


def test_the_hours_moves_that_were_made_already_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server()
    spent = [{"at": time.time() - 60, "pods": ["x/1", "x/2", "x/3", "x/4"], "gpuSeconds": 0}]
    meta = {"name": NAME, "namespace": NAMESPACE}
    server.items["configmaps"] = [{"metadata": meta, "data": {"spent": json.dumps(spent)}}]
    asked(server, monkeypatch, "json")
    found = json.loads(capsys.readouterr().out)
    assert found["moves"] == []
    assert found["message"] == "default/big waits: 1 pods would move, 0 more may within the hour"
