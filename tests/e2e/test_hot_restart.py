"""The gateway's workers replaced under the load of callers who never notice, by the signal that a person sends."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import httpx
import pytest
from platform_process import Platform, running_platform, until

from plain_http import PATIENT

pytestmark = pytest.mark.timeout(180)
GATEWAY = "penstock.app.gateway"


def gateway_pids(platform: Platform) -> set[int]:
    return {process.pid for process in platform.children(GATEWAY)}


def test_sigusr2_replaces_every_worker_and_each_caller_on_a_new_connection_gets_an_answer(
    tmp_path: Path,
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.yaml").write_text("workers: 2\n")
    with running_platform(tmp_path / "home") as platform:
        platform.wait_ready("quickstart")
        before = until(
            "two workers run", lambda: found if len(found := gateway_pids(platform)) == 2 else None
        )
        over, found = threading.Event(), list[str]()

        def lane() -> None:
            while not over.is_set() or len(found) < 300:
                try:
                    found.append(str(httpx.get(f"{platform.url}/v1/models", **PATIENT).status_code))
                except httpx.HTTPError as error:
                    found.append(repr(error))

        callers = [threading.Thread(target=lane) for _ in range(4)]
        for caller in callers:
            caller.start()
        assert platform.process
        os.kill(platform.process.pid, signal.SIGUSR2)
        until(
            "all workers are new ones", lambda: len(now := gateway_pids(platform)) == 2 and not now & before
        )
        over.set()
        for caller in callers:
            caller.join(60)
        assert set(found) == {"200"}
        assert len(found) >= 300
        assert platform.ask().status_code == 200, "the new workers know the routes"
        logs = {path.name for path in (platform.home / "logs").iterdir()}
        assert {"gateway-1.log", "gateway-2.log", "control-plane.log"} <= logs
        said = platform.stop()
        assert "gateway-1: process" in said
        assert "gateway: 2 of 2 workers replaced" in said
