"""A service whose engine is simulated: no weights, vLLM's answers."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pytest
from platform_process import running_platform, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
SERVICE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "pretend"},
    "spec": {
        "predictor": {
            "minReplicas": 2,
            "model": {
                "modelFormat": {"name": "simulated"},
                "runtime": "penstock-sim",
                "args": ["--time-scale=20"],
            },
        }
    },
}


def test_a_simulated_service_needs_no_model_and_finds_its_prefixes(tmp_path: Path) -> None:
    with running_platform(tmp_path / "home", "--no-quickstart") as platform:
        applied = platform.kubectl("apply", "-f", "-", stdin=json.dumps(SERVICE))
        assert applied.returncode == 0, applied.stderr
        platform.wait_ready("pretend")
        until("it answers", lambda: platform.ask("pretend", max_tokens=1).status_code == 200)
        with openai.OpenAI(base_url=f"{platform.url}/v1", api_key="any", max_retries=0) as client:
            answers = [
                client.completions.create(model="pretend", prompt="the same beginning " * 40, max_tokens=5)
                for _ in range(3)
            ]
    used = [answer.usage for answer in answers if answer.usage]
    assert [usage.completion_tokens for usage in used] == [5, 5, 5]
    cached = [usage.prompt_tokens_details.cached_tokens for usage in used if usage.prompt_tokens_details]
    assert any(cached), "of three answers two came from the same of two replicas"
