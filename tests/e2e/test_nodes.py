"""This machine is a node; declared ones stand beside it and take pods by their labels."""

from __future__ import annotations

import json
from pathlib import Path

from platform_process import running_platform, service


def test_declared_nodes_take_pods_by_selector_and_their_taints_hold(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").write_text(
        "nodes:\n- {name: gpu-1, cpu: '8', memory: 32Gi, gpus: [{type: nvidia-l4, count: 2}], labels: {zone: a}}\n"
        "- {name: kept, taints: [{key: kept, value: 'yes', effect: NoSchedule}], labels: {zone: b}}\n"
    )
    with running_platform(home, "--no-quickstart") as platform:
        nodes = {n["metadata"]["name"]: n for n in platform.objects("nodes")}
        assert len(nodes) == 3
        assert nodes["gpu-1"]["status"]["allocatable"]["nvidia.com/gpu"] == "2"
        here = json.loads(service("here"))
        here["spec"]["predictor"]["nodeSelector"] = {"zone": "a"}
        platform.kubectl("apply", "-f", "-", stdin=json.dumps(here))
        platform.wait_ready("here")
        [pod] = platform.objects("pods", "serving.kserve.io/inferenceservice=here")
        assert pod["spec"]["nodeName"] == "gpu-1"
        here["metadata"]["name"] = "there"
        here["spec"]["predictor"]["nodeSelector"] = {"zone": "b"}
        platform.kubectl("apply", "-f", "-", stdin=json.dumps(here))
        explained = ""
        for _ in range(50):
            explained = platform.penstock("explain", "there").stdout
            if "taint" in explained:
                break
        assert "taint" in explained
