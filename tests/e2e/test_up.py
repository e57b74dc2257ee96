"""What `penstock up` does when it cannot, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from platform_process import Platform, processes_of, running_platform, until_nothing_is_left

pytestmark = pytest.mark.timeout(180)


def up(platform: Platform, *arguments: str, within_s: float = 50) -> subprocess.CompletedProcess[str]:
    """A start that is to fail."""
    return subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", "up", *arguments],
        env=platform.environment,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


def test_ctrl_c_ends_everything_that_it_started_and_the_output_says_how_to_go_on(tmp_path: Path) -> None:
    with running_platform(tmp_path / "home") as platform:
        platform.wait_ready("quickstart")
        assert len(processes_of(platform.home)) >= 5, "supervisor, two planes, shim and engine"
        said = platform.stop()
        assert f"{platform.url}/v1" in said
        assert "curl -s" in said
        assert "Ctrl-C" in said
        assert "Stopped." in said
        until_nothing_is_left(platform.home)


@pytest.mark.parametrize("which", ["gateway", "api"])
def test_a_taken_port_is_named_with_another_to_take(tmp_path: Path, which: str) -> None:
    platform = Platform(tmp_path / "home")
    port = platform.gateway_port if which == "gateway" else platform.api_port
    with socket.create_server(("127.0.0.1", port)):
        done = up(platform)
    assert done.returncode == 4
    assert f"port {port} is taken by another program" in done.stderr
    assert f"PENSTOCK_{which.upper()}_ADDR=127.0.0.1:" in done.stderr
    assert not platform.home.exists(), "a start that cannot listen makes no folder"


def test_a_data_folder_in_use_is_refused_and_its_owner_named(tmp_path: Path) -> None:
    with running_platform(tmp_path / "home", "--no-quickstart") as platform:
        assert platform.process
        second = Platform(tmp_path / "home")
        done = up(second)
        assert done.returncode == 4
        assert f"is in use by process {platform.process.pid}" in done.stderr
        assert platform.is_serving(), "the first one is not disturbed"


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    done = up(Platform(tmp_path / "home"))
    assert done.returncode == 4
    assert "set PENSTOCK_HOME to a folder of yours" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize(("options", "said"), [("ro", "cannot be written to"), ("size=1m", "free space")])
def test_a_read_only_or_full_disk_is_refused(tmp_path: Path, options: str, said: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        done = up(Platform(disk / "home"))
        assert done.returncode == 4
        assert said in done.stderr
        assert "PENSTOCK_HOME" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_second_ctrl_c_forces(tmp_path: Path) -> None:
    with running_platform(tmp_path / "home") as platform:
        platform.wait_ready("quickstart")
        process = platform.process
        assert process
        for engine in platform.children("penstock.engine"):
            engine.suspend()  # it will not end when it is asked to
        process.send_signal(signal.SIGINT)
        assert process.stdout
        while "Ctrl-C again forces" not in process.stdout.readline():
            assert process.poll() is None, "it did not wait for the engine"
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=40)
        assert "Forced" in said
        until_nothing_is_left(platform.home)


def test_whenever_the_gateway_is_ready_the_api_answers_on_a_second_start_too(tmp_path: Path) -> None:
    with running_platform(tmp_path / "home", "--no-quickstart") as platform:
        for _ in range(2):
            answer = httpx.get(
                f"https://127.0.0.1:{platform.api_port}/readyz", verify=False, timeout=30, trust_env=False
            )
            assert answer.status_code == 200
            platform.stop()
            platform.start("--no-quickstart")
