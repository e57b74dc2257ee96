"""The storage initializer against bad servers, crashes, neighbours, damage and a full disk."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from file_server import FileServer, file_server
from penstock.app import part_streams
from penstock.app.fetch import CACHE, main
from penstock.app.part_file import PART_BYTES

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        running.files["/m/model.bin"] = CONTENT
        yield running


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_streams, "FIRST_WAIT_S", 0.0)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {CACHE: str(tmp_path / "cache")}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def start(uri: str, folder: Path, environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "penstock.app.fetch", uri, str(folder)],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_model_arrives_and_is_there_for_the_next_pod(
    server: FileServer, tmp_path: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    uri = server.uri("/m/model.bin")
    assert main([uri, str(tmp_path / "a"), uri, str(tmp_path / "b")], environ) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == {"model.bin": CONTENT}
    assert server.served_bytes == len(CONTENT)
    assert f"{uri}: is in this node's cache" in capsys.readouterr().out


def test_it_may_be_run_again_over_what_is_there(
    server: FileServer, tmp_path: Path, environ: dict[str, str]
) -> None:
    argv = [server.uri("/m/model.bin"), str(tmp_path / "a")]
    assert [main(argv, environ), main(argv, environ)] == [0, 0]
    assert contents(tmp_path / "a") == {"model.bin": CONTENT}


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("sizes", [True, False])
def test_cuts_and_errors_on_the_way_are_survived(
    server: FileServer, tmp_path: Path, environ: dict[str, str], ranges: bool, sizes: bool
) -> None:
    server.ranges = ranges
    server.statuses, server.cuts = [500, None, 503], [1_000_000] if sizes else []
    assert main([server.uri("/m/model.bin"), str(tmp_path / "a")], environ) == 0
    assert contents(tmp_path / "a") == {"model.bin": CONTENT}
    served = len(CONTENT) if ranges or not sizes else len(CONTENT) + 1_000_000
    assert abs(server.served_bytes - served) <= 1_000_000


def test_a_model_that_changes_on_the_way_is_listed_anew(
    server: FileServer, tmp_path: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    other = CONTENT[::-1]
    server.cuts = [1_000_000]
    server.pause = lambda sent: server.files.update({"/m/model.bin": other}) if sent else None
    assert main([server.uri("/m/model.bin"), str(tmp_path / "a")], environ) == 0
    assert contents(tmp_path / "a") == {"model.bin": other}
    assert "changed while it was fetched; looking anew" in capsys.readouterr().out


def test_a_model_that_never_stays_the_same_is_told(
    server: FileServer, tmp_path: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    server.cuts = [1_000_000] * 99
    server.pause = lambda sent: server.files.update({"/m/model.bin": os.urandom(2_000_000)})
    assert main([server.uri("/m/model.bin"), str(tmp_path / "a")], environ) == 7
    assert "changed 3 times while it was fetched" in capsys.readouterr().err


@pytest.mark.parametrize("sizes", [True, False])
def test_killed_in_the_middle_it_goes_on_where_it_was(
    server: FileServer, tmp_path: Path, environ: dict[str, str], sizes: bool
) -> None:
    server.sizes = sizes
    half, go_on = threading.Event(), threading.Event()

    def pause(sent: int) -> None:
        if sent >= 2_000_000 and not go_on.is_set():
            half.set()
            go_on.wait(60)

    server.pause = pause
    first = start(server.uri("/m/model.bin"), tmp_path / "a", environ)
    assert half.wait(30)
    wait_for_part(tmp_path / "cache", 1_000_000)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    kept = arrived(tmp_path / "cache")
    go_on.set()
    server.pause = lambda sent: None
    assert main([server.uri("/m/model.bin"), str(tmp_path / "a")], environ) == 0
    assert contents(tmp_path / "a") == {"model.bin": CONTENT}
    assert server.ranges_asked == ["", f"bytes={kept}-"]


def test_killed_in_the_middle_of_a_large_file_it_fetches_at_most_a_part_per_stream_again(
    server: FileServer, tmp_path: Path, environ: dict[str, str]
) -> None:
    content = os.urandom(64 << 20)
    server.files["/big.bin"] = content
    half, go_on = threading.Event(), threading.Event()

    def pause(sent: int) -> None:
        if sent >= 40 << 20 and not go_on.is_set():
            half.set()
            go_on.wait(60)

    server.pause = pause
    first = start(server.uri("/big.bin"), tmp_path / "a", environ)
    assert half.wait(30)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    go_on.set()
    assert main([server.uri("/big.bin"), str(tmp_path / "a")], environ) == 0
    assert contents(tmp_path / "a") == {"big.bin": content}
    assert server.served_bytes <= len(content) + part_streams.STREAMS * PART_BYTES


def arrived(cache: Path) -> int:
    """Bytes of what is not whole."""
    return sum(path.stat().st_size for path in cache.rglob("parts/*"))


def wait_for_part(cache: Path, least: int) -> None:
    """Until at least so many bytes have arrived."""
    deadline = time.monotonic() + 30
    while (found := arrived(cache)) < least:
        assert time.monotonic() < deadline, f"found {found} bytes, expected {least}"
        threading.Event().wait(0.05)


def test_killed_after_the_last_byte_of_an_unknown_size_it_ends_well(
    server: FileServer, tmp_path: Path, environ: dict[str, str]
) -> None:
    server.sizes = False
    all_sent, go_on = threading.Event(), threading.Event()
    original = server.shutdown_request

    def shutdown_request(request: object) -> None:
        if server.served_bytes >= len(CONTENT):
            all_sent.set()
            go_on.wait(60)
        original(request)  # type: ignore[arg-type]

    server.shutdown_request = shutdown_request  # type: ignore[method-assign]
    first = start(server.uri("/m/model.bin"), tmp_path / "a", environ)
    assert all_sent.wait(30)
    wait_for_part(tmp_path / "cache", 1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    go_on.set()
    (part,) = (tmp_path / "cache").rglob("parts/*")
    part.write_bytes(CONTENT)  # the very last bytes were still in the process's memory
    assert main([server.uri("/m/model.bin"), str(tmp_path / "a")], environ) == 0
    assert contents(tmp_path / "a") == {"model.bin": CONTENT}
    assert server.answered[-1] == "GET 416"


def test_two_at_once_fetch_once(server: FileServer, tmp_path: Path, environ: dict[str, str]) -> None:
    both = threading.Event()

    def pause(sent: int) -> None:
        both.wait(60)

    server.pause = pause
    uri = server.uri("/m/model.bin")
    pods = [start(uri, tmp_path / name, environ) for name in "ab"]
    while server.answered.count("HEAD 200") < 2 and all(pod.poll() is None for pod in pods):
        threading.Event().wait(0.02)
    both.set()
    said = [pod.communicate(timeout=40) for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0], said
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == {"model.bin": CONTENT}
    assert server.served_bytes == len(CONTENT)


def test_a_file_that_a_pod_wrote_to_is_not_given_to_the_next(
    server: FileServer, tmp_path: Path, environ: dict[str, str]
) -> None:
    uri = server.uri("/m/model.bin")
    assert main([uri, str(tmp_path / "a")], environ) == 0
    with (tmp_path / "a" / "model.bin").open("r+b") as file:
        file.write(b"????")
    assert main([uri, str(tmp_path / "b")], environ) == 0
    assert contents(tmp_path / "b") == {"model.bin": CONTENT}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("only root may mount a small disk")
    libc, folder = ctypes.CDLL(None, use_errno=True), tmp_path / "disk"
    folder.mkdir()
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, b"size=66m"):
        pytest.skip(f"mount: {os.strerror(ctypes.get_errno())}")
    yield folder
    libc.umount(str(folder).encode())


def test_a_full_disk_is_told_and_what_has_arrived_is_kept(
    server: FileServer, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["/big.bin"] = bytes(80 << 20)
    argv, environ = [server.uri("/big.bin"), str(tmp_path / "a")], {CACHE: str(small_disk / "cache")}
    assert main(argv, environ) == 6
    assert "MiB of free space, expected 144 MiB" in capsys.readouterr().err
    server.sizes = False
    assert main(argv, environ) == 6
    assert "the disk is full (make room; what has arrived is kept)" in capsys.readouterr().err
    assert sum(part.stat().st_size for part in small_disk.rglob("parts/*")) > 60 << 20
