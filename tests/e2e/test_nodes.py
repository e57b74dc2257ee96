"""This machine is a node; declared ones stand beside it and take pods by their labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from platform_process import Platform, running_platform, service, until

pytestmark = pytest.mark.timeout(180)


def test_declared_nodes_take_pods_by_selector_and_their_taints_hold(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").write_text(
        "nodes:\n- {name: gpu-1, cpu: '8', memory: 32Gi, gpus: [{type: nvidia-l4, count: 2}], labels: {zone: a}}\n"
        "- {name: kept, taints: [{key: kept, value: 'yes', effect: NoSchedule}], labels: {zone: b}}\n"
    )
    with running_platform(home, "--no-quickstart") as platform:
        until("all nodes are there", lambda: len(platform.objects("nodes")) == 3)
        until("their devices are told", lambda: gpus(platform, "gpu-1") == "2")
        here = json.loads(service("here"))
        here["spec"]["predictor"]["nodeSelector"] = {"zone": "a"}
        platform.kubectl("apply", "-f", "-", stdin=json.dumps(here))
        platform.wait_ready("here")
        [pod] = platform.objects("pods", "serving.kserve.io/inferenceservice=here")
        assert pod["spec"]["nodeName"] == "gpu-1"
        here["metadata"]["name"] = "there"
        here["spec"]["predictor"]["nodeSelector"] = {"zone": "b"}
        platform.kubectl("apply", "-f", "-", stdin=json.dumps(here))
        until("the taint is told", lambda: "taint" in platform.penstock("explain", "there").stdout)


def gpus(platform: Platform, name: str) -> str | None:
    """How many of a node can be had."""
    [node] = [one for one in platform.objects("nodes") if one["metadata"]["name"] == name]
    count: str | None = node.get("status", {}).get("allocatable", {}).get("nvidia.com/gpu")
    return count
