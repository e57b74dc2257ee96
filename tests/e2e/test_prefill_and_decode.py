"""An LLMInferenceService with pods of its own for prompts, on simulated engines that hand KV on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
from platform_process import Platform, running_platform, until

from plain_http import PATIENT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
SERVICE = {
    "apiVersion": "serving.kserve.io/v1alpha2",
    "kind": "LLMInferenceService",
    "metadata": {"name": "pretend", "annotations": {"penstock.dev/runtime": "penstock-sim"}},
    "spec": {
        "model": {"uri": "hf://somebody/pretend", "name": "somebody/pretend"},
        "storageInitializer": {"enabled": False},
        "replicas": 1,
        "prefill": {"replicas": 1},
    },
}


def prompts_computed(platform: Platform, role: str) -> float:
    """Tokens of prompts that the pod of a role has taken in."""
    [pod] = platform.objects("pods", f"penstock.dev/role={role}")
    address = pod["status"]["podIP"]
    text = httpx.get(f"http://{address}:8080/metrics", **PATIENT).text
    found = re.search(r"^vllm:prompt_tokens_total\{.*\} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_long_prompts_are_computed_by_one_pod_and_answered_by_another(tmp_path: Path) -> None:
    with running_platform(tmp_path / "home", "--no-quickstart") as platform:
        platform.kubectl("apply", "-f", "-", stdin=json.dumps(SERVICE))
        platform.kubectl("wait", "--for=condition=Ready", "llmisvc/pretend", "--timeout=50s")
        until("it answers", lambda: platform.ask("pretend", max_tokens=3).status_code == 200)
        assert prompts_computed(platform, "prefill") == 0
        long = {"messages": [{"role": "user", "content": "a long prompt " * 1000}], "max_tokens": 3}

        def went_around() -> bool:
            answer = platform.ask("somebody/pretend", **long)
            assert answer.status_code == 200, answer.text
            assert answer.json()["usage"]["completion_tokens"] == 3
            return prompts_computed(platform, "prefill") >= 3000

        until("the gateway knows of the pod that computes prompts", went_around)
        platform.kubectl("delete", "llmisvc/pretend")
        until("all is gone", lambda: not platform.objects("pods"))
