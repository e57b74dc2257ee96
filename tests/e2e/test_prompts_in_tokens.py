"""Of a model that lies on this machine the gateway finds the tokenizer, hears the engines' KV events, and sends turns where they are held."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from platform_process import Platform, running_platform, service, until
from prometheus_client.parser import text_string_to_metric_families as families

from plain_http import PATIENT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
UNTOKENIZED = "penstock_gateway_untokenized_total"
SIMULATED = {"modelFormat": {"name": "simulated"}, "runtime": "penstock-sim", "args": ["--time-scale=20"]}


def routed(model: dict[str, Any] | None) -> str:
    document = json.loads(service("talk", replicas=2))
    document["spec"]["predictor"]["model"] = model or document["spec"]["predictor"]["model"]
    return json.dumps(document)


def samples(platform: Platform, name: str) -> dict[str, float]:
    text = httpx.get(f"{platform.url}/metrics", **PATIENT).text
    return {
        s.labels.get("endpoint")
        or s.labels.get("reason")
        or s.labels.get("kind")
        or s.labels.get("outcome", ""): s.value
        for family in families(text)
        for s in family.samples
        if s.name == name
    }


@pytest.mark.parametrize("model", [None, SIMULATED], ids=["penstock-cpu", "penstock-sim"])
def test_turns_return_to_the_replica_that_told_of_their_blocks(
    tmp_path: Path, model: dict[str, Any] | None
) -> None:
    with running_platform(tmp_path / "home", "--no-quickstart") as platform:
        applied = platform.penstock("apply", "-f", "-", stdin=routed(model))
        assert applied.returncode == 0, applied.stderr
        until("both replicas answer", lambda: len(endpoints(platform)) == 2, 60)
        until("KV events are heard, since prompts are in tokens", lambda: hears(platform), 60)
        for about in ("weirs", "sluices", "mills"):
            seen = until(
                f"all turns about {about} are tokenized in time",
                lambda about=about: talk(platform, about),
                60,
            )
            assert len(seen) == 1, about
        tokens = samples(platform, "penstock_gateway_routed_prompt_tokens_total")
        assert set(samples(platform, UNTOKENIZED)) <= {"late"}
        assert tokens["predicted"] > 0
        assert tokens["agreed"] >= 0.9 * tokens["predicted"]


def talk(platform: Platform, about: str) -> set[str]:
    """The endpoints of three turns, each asked when what the one before left there is heard of; none where one was not tokenized in time."""
    late, opening = samples(platform, UNTOKENIZED), f"{time.monotonic()}: you know all about {about}. "
    messages = [{"role": "system", "content": opening * 40}]
    seen = set()
    for turn in range(3):
        messages.append({"role": "user", "content": f"Tell me of {about} once more, {turn}. " * 5})
        before = heard(platform)
        answer = platform.ask("talk", messages=messages, max_tokens=4)
        assert answer.status_code == 200, answer.text
        seen.add(answer.headers["x-penstock-endpoint"])
        messages.append({"role": "assistant", "content": "Indeed."})
        until("its blocks are told", lambda before=before: heard(platform) > before)
    return seen if samples(platform, UNTOKENIZED) == late else set()


def endpoints(platform: Platform) -> set[str]:
    answers = [platform.ask("talk", max_tokens=1) for _ in range(8)]
    return {a.headers["x-penstock-endpoint"] for a in answers if a.status_code == 200}


def hears(platform: Platform) -> bool:
    platform.ask("talk", max_tokens=1)
    return bool(heard(platform))


def heard(platform: Platform) -> float:
    """KV events, in batches."""
    return sum(samples(platform, "penstock_gateway_kv_event_batches_total").values())
