"""What `penstock mig-layout` prints; only the server is pretended."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import yaml

from penstock.app.gpu_types import find_gpu_type
from penstock.cli.commands import mig_layout
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, MigInstance, Share
from penstock.decide.device_slices import slices_of
from penstock.kit.errors import InvalidInput
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements
from penstock.testing.factories import node

SEVEN = [("1g.10gb", start) for start in range(7)]


def h100(index: int, places: list[tuple[str, int]]) -> Gpu:
    instances = tuple(MigInstance(uuid=f"MIG-{index}-{s}", profile=p, start=s) for p, s in places)
    uuid = f"GPU-{index}"
    return Gpu(index=index, uuid=uuid, type=find_gpu_type("h100-80gb"), is_mig=True, instances=instances)


class Server:
    def __init__(self) -> None:
        share = Share(gpu="GPU-1", profile="1g.10gb", start=1, instance="MIG-1-1")
        held = {DEVICES_ANNOTATION: msgspec.json.encode((share,)).decode()}
        gpus = (h100(0, SEVEN), h100(1, SEVEN))
        pods = [
            _pod("holds", "n", "nvidia.com/mig-1g.10gb", annotations=held),
            _pod("waits", "", "nvidia.com/mig-3g.40gb"),
        ]
        self.items = {"pods": pods, "nodes": [node("n")], "resourceslices": [*slices_of("n", gpus)]}

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return {"items": msgspec.to_builtins(self.items[path.rpartition("/")[2]])}


def _pod(name: str, on: str, resource: str, **fields: Any) -> Pod:
    limits = ResourceRequirements(limits={resource: "1", "cpu": "1"})
    spec = PodSpec(node_name=on, containers=(Container(name="main", resources=limits),))
    return Pod(metadata=ObjectMeta(name=name, namespace="default", uid=name, **fields), spec=spec)


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mig_layout, "connect", lambda *_: Server())


def test_what_would_be_destroyed_and_created_is_told_by_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    mig_layout.run(demand=["3g.40gb=3"])
    out = capsys.readouterr().out
    first, second = (line.split("   ") for line in out.splitlines()[1:3])
    assert "3g.40gb at 0, 4" in first
    assert [word.strip() for word in second if word][:4] == ["n", "1", "1g.10gb at 4, 5, 6", "3g.40gb at 4"]
    assert "1g.10gb at 1 held, and stays" in second[-1]
    assert "2 GPUs laid out anew" in out


def test_without_a_demand_it_is_what_the_pods_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    mig_layout.run(output="json")
    plan = json.loads(capsys.readouterr().out)
    created = [place for change in plan["changes"] for place in change["created"]]
    assert [name for name, _ in created].count("3g.40gb") >= 1
    assert ["1g.10gb", 1] in plan["layouts"]["GPU-1"]


def test_mig_parted_is_told_of_the_gpus_that_nobody_holds(capsys: pytest.CaptureFixture[str]) -> None:
    mig_layout.run(demand=["3g.40gb=3"], output="mig-parted")
    shown = capsys.readouterr()
    configs = yaml.safe_load(shown.out)["mig-configs"]
    [name] = [one for one in configs if one.startswith("penstock-")]
    assert configs[name] == [{"devices": [0], "mig-enabled": True, "mig-devices": {"3g.40gb": 2}}]
    assert f"kubectl label node n nvidia.com/mig.config={name}" in shown.err
    assert "GPU-1 is left out" in shown.err


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("3g.40gb", "expected PROFILE=INSTANCES"),
        ("3g.40gb=nan", "expected"),
        ("3g.4gb=1", "no GPU in MIG mode"),
    ],
)
def test_a_demand_that_means_nothing_is_refused(word: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        mig_layout.run(demand=[word])
