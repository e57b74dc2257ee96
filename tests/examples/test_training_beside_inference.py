"""The training of the example gives way to a burst of inference, goes on, and ends with the losses of an undisturbed run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from platform_process import Platform, running_platform, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "02-training-beside-inference"
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def losses_of_an_undisturbed_run(folder: Path) -> list[float]:
    command = [sys.executable, str(EXAMPLE / "train.py"), "--checkpoints", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    losses: list[float] = json.loads((folder / "losses.json").read_text())
    return losses


def step_of(folder: Path) -> int:
    manifest = folder / "checkpoint.json"
    return int(json.loads(manifest.read_text())["step"]) if manifest.exists() else 0


def pods_of(platform: Platform) -> list[dict[str, Any]]:
    return platform.objects("pods", "job-name=ring")


def is_complete(platform: Platform) -> bool:
    [job] = platform.objects("jobs")
    conditions = job["status"].get("conditions", ())
    assert not any(c["type"] == "Failed" for c in conditions), job["status"]
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)


def history_of(platform: Platform) -> str | None:
    [job] = platform.objects("jobs")
    assert not job["status"].get("failed")
    found: str | None = job["metadata"].get("annotations", {}).get("penstock.dev/preemptions")
    return found


def told_of(platform: Platform, *reasons: str) -> dict[str, str]:
    """The newest message by reason, once there is one for each of these."""
    events = {event["reason"]: event["message"] for event in platform.objects("events")}
    return events if events.keys() >= set(reasons) else {}


def test_training_gives_way_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").write_text((EXAMPLE / "config.yaml").read_text())
    folder = home / "volumes" / "default" / "checkpoints" / "ring"
    with running_platform(home, "--no-quickstart") as platform:
        platform.kubectl("apply", "-f", str(EXAMPLE / "priorities.yaml"))
        platform.kubectl("create", "configmap", "training-code", f"--from-file={EXAMPLE / 'train.py'}")
        training = (EXAMPLE / "training.yaml").read_text()
        assert '"0.02"' in training
        # Slower than as an example: it is still at work when it is told, however long that takes.
        platform.kubectl("apply", "-f", "-", stdin=training.replace('"0.02"', '"0.06"'))
        until("the job saves", lambda: step_of(folder) >= 100, within_s=60)
        [first] = pods_of(platform)

        platform.kubectl("apply", "-f", str(EXAMPLE / "inference.yaml"))
        platform.wait_ready("chat", within_s=50)
        assert platform.ask("chat", max_tokens=2).status_code == 200
        until("both replicas run", lambda: len(ready(platform)) == 2)
        told = step_of(folder)
        assert 100 < told < 600
        [second] = until("a successor waits", lambda: [p for p in pods_of(platform) if is_waiting(p)])
        assert first["metadata"]["uid"] != second["metadata"]["uid"]
        history = json.loads(until("the job's history is written", lambda: history_of(platform)))
        assert (history["count"], history.get("ignored", 0)) == (1, 0)
        assert history["lostGpuSeconds"] < 1.0
        events = until("it is all told", lambda: told_of(platform, "Preempting", "Preempted", "GaveWay"))
        assert f"saved at step {told}" in events["GaveWay"], "because it was told, not because it was time"
        described = platform.penstock("describe", "job", "ring").stdout
        assert "penstock.dev/preemptions" in described

        platform.kubectl("delete", "-f", str(EXAMPLE / "inference.yaml"), "--wait=false")
        until("the job is done", lambda: is_complete(platform), within_s=120)
        assert f"goes on from step {told}" in platform.kubectl("logs", second["metadata"]["name"]).stdout
    losses = json.loads((folder / "losses.json").read_text())
    assert losses == losses_of_an_undisturbed_run(tmp_path / "undisturbed")
    assert sum(losses[-50:]) / 50 < 0.35 < losses[0], "it has learnt something"


def ready(platform: Platform) -> list[dict[str, Any]]:
    pods = platform.objects("pods", "serving.kserve.io/inferenceservice=chat")
    return [
        pod
        for pod in pods
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
    ]


def is_waiting(pod: dict[str, Any]) -> bool:
    return not pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]
