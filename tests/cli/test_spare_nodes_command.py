"""What `penstock spare-nodes` prints and remembers; only the server is pretended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.app.home import Home
from penstock.app.spare_nodes import read_since, write_since
from penstock.cli.commands import spare_nodes
from penstock.kit.errors import NotFound, Unavailable
from penstock.resources.core import Node, NodeStatus
from penstock.resources.meta import Condition, ObjectMeta, Resource
from penstock.resources.pod import Container, Pod, PodSpec


class Server:
    server = "https://one:6443"

    def __init__(self) -> None:
        status = NodeStatus(
            allocatable={"cpu": "8", "memory": "32Gi", "pods": "110"},
            conditions=(Condition(type="Ready", status="True"),),
        )
        nodes: list[Resource] = [Node(metadata=ObjectMeta(name=name), status=status) for name in "ab"]
        self.items: dict[str, list[Resource]] = {"nodes": nodes, "pods": []}

    def get(self, path: str, **query: str) -> dict[str, Any]:
        plural = path.rpartition("/")[2]
        if plural not in self.items:
            raise NotFound(f"{path}: no such kind")
        return {"items": msgspec.to_builtins(self.items[plural])}


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    found = Server()
    monkeypatch.setattr(spare_nodes, "connect", lambda *_: found)
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    return found


def test_a_node_can_go_when_it_was_hardly_used_from_one_question_to_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spare_nodes.run()
    assert "a      no       unknown   hardly used for 0 s, goes after 600 s" in capsys.readouterr().out
    path = Home(tmp_path).spare_nodes
    before = read_since(path, Server.server)
    write_since(path, Server.server, {name: at - 700 for name, at in before.items()})
    spare_nodes.run()
    out = capsys.readouterr().out
    assert "a      yes      unknown   its pods have places on the others" in out
    assert "b      no       unknown   the only node that is left" in out


def test_while_pods_wait_no_node_is_spare(server: Server) -> None:
    spec = PodSpec(containers=(Container(name="main"),))
    server.items["pods"] = [Pod(metadata=ObjectMeta(name="p", namespace="default", uid="p"), spec=spec)]
    with pytest.raises(Unavailable, match="found 1, "):
        spare_nodes.run()


def test_one_cluster_is_not_taken_for_another_and_half_a_file_for_none(tmp_path: Path) -> None:
    path = tmp_path / "state" / "spare.json"
    write_since(path, "one", {"a": 1.0})
    write_since(path, "two", {"a": 2.0})
    assert (read_since(path, "one"), read_since(path, "two")) == ({"a": 1.0}, {"a": 2.0})
    path.write_bytes(path.read_bytes()[:5])
    assert read_since(path, "one") == {}
