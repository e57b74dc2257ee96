"""The shim with real processes: exit codes, logs, signals, and that nobody is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.host.kubelet import shim
from penstock.host.kubelet.attempts import Attempt, ProcessSpec, attempts, start
from penstock.host.kubelet.processes import ProcessId, is_alive
from penstock.kit.errors import Unavailable

ENV = {"PATH": os.environ["PATH"], "GREETING": "hello"}


def sh(script: str, folder: Path) -> ProcessSpec:
    return ProcessSpec(("/bin/sh", "-c", script), ENV, folder)


@pytest.fixture
async def container(tmp_path: Path) -> AsyncIterator[Path]:
    folder = tmp_path / "c"
    yield folder
    for attempt in attempts(folder):
        await attempt.kill()


def lines(attempt: Attempt) -> list[tuple[str, str, str]]:
    found = []
    for line in attempt.log.read_bytes().decode("utf-8", "replace").splitlines():
        stamp, stream, tag, text = line.split(" ", 3)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", stamp)
        found.append((stream, tag, text))
    return found


def child_of(attempt: Attempt) -> ProcessId:
    found = attempt.identity()
    assert found
    return found[1]


async def eventually(what: object, limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not what():  # type: ignore[operator]
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


async def test_exit_code_and_both_streams_are_kept(container: Path, tmp_path: Path) -> None:
    attempt = await start(container, 0, sh("echo $GREETING; echo bad >&2; printf rest; exit 7", tmp_path))
    end = await attempt.wait()
    assert (end.code, end.signal, end.known) == (7, 0, True)
    assert end.started_at <= end.finished_at <= time.time()
    assert sorted((stream, text) for stream, _, text in lines(attempt)) == [
        ("stderr", "bad"),
        ("stdout", "hello"),
        ("stdout", "rest"),  # as a piece, should the shell stand still before it ends
    ]


def left_in_a_pipe(folder: Path, text: bytes) -> tuple[shim.Shim, select.poll, int]:
    """A shim whose container wrote this to its standard output, and the end that somebody may hold open."""
    made, poll = shim.Shim(str(folder), shim.Spec(b"")), select.poll()
    end, start_of = os.pipe()
    os.write(start_of, text)
    made.streams = {end: shim.Stream(end, b"stdout")}
    poll.register(end, select.POLLIN)
    return made, poll, start_of


def text_of(folder: Path) -> list[str]:
    return [line.split(" ", 1)[1] for line in (folder / "log").read_text().splitlines()]


def test_the_end_of_the_output_makes_the_rest_a_line(tmp_path: Path) -> None:
    made, poll, held = left_in_a_pipe(tmp_path, b"whole\nrest")
    os.close(held)
    made._drain(poll)
    assert text_of(tmp_path) == ["stdout F whole", "stdout F rest"]
    os.close(made.log.fd)


def test_a_shim_that_stood_still_reads_what_is_left_even_if_somebody_holds_the_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, poll, held = left_in_a_pipe(tmp_path, b"whole\nrest")
    moments = iter([0.0, *(1000.0 for _ in range(9))])
    monkeypatch.setattr(shim.time, "monotonic", lambda: next(moments))
    made._drain(poll)
    assert text_of(tmp_path) == ["stdout F whole", "stdout F rest"]
    for fd in (held, made.log.fd, *made.streams):
        os.close(fd)


@pytest.mark.skipif(
    sys.platform != "linux", reason="a shim's end is its container's through a signal of Linux"
)
async def test_a_shim_whose_folder_is_taken_before_its_record_is_written_starts_nothing(
    tmp_path: Path,
) -> None:
    folder, mark, held = tmp_path / "attempt", tmp_path / "mark", tmp_path / "held"
    folder.mkdir()
    os.mkfifo(held)
    os.link(held, folder / "pid.new")  # whoever opens it to write stands still until somebody reads
    starting = subprocess.Popen(
        [sys.executable, "-I", "-S", shim.__file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert starting.stdin and starting.stdout
    starting.stdin.write(sh(f"touch {mark}", tmp_path).encoded())
    starting.stdin.close()
    try:
        await eventually((folder / "log").exists)
        await asyncio.sleep(0.3)  # ample for what must not happen
        assert not mark.exists()
        shutil.rmtree(folder)
    finally:
        reading = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
        told = await asyncio.to_thread(starting.stdout.read)
        assert starting.wait(30) == 0
        starting.stdout.close()
        os.close(reading)
    assert told == b"error 0 shim\n"
    assert not mark.exists()


async def test_nothing_but_the_given_environment_reaches_the_container(
    container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_TOKEN", "secret")
    attempt = await start(container, 0, ProcessSpec(("/usr/bin/env",), {"A": "1=2", "B": "x y"}, tmp_path))
    await attempt.wait()
    assert sorted(text for _, _, text in lines(attempt)) == ["A=1=2", "B=x y"]


async def test_stop_signal_reaches_the_first_process(container: Path, tmp_path: Path) -> None:
    script = "trap 'echo bye; exit 3' INT; echo up; while :; do sleep 0.05; done"
    spec = ProcessSpec(("/bin/sh", "-c", script), ENV, tmp_path, stop_signal=signal.SIGINT)
    attempt = await start(container, 0, spec)
    await eventually(lambda: lines(attempt))
    attempt.terminate()
    assert (await attempt.wait()).code == 3
    assert lines(attempt)[-1] == ("stdout", "F", "bye")


async def test_death_by_signal_is_128_plus_its_number(container: Path, tmp_path: Path) -> None:
    attempt = await start(container, 0, sh("kill -SEGV $$", tmp_path))
    end = await attempt.wait()
    assert (end.code, end.signal) == (139, 11)


async def test_kill_ends_a_container_that_ignores_its_stop_signal(container: Path, tmp_path: Path) -> None:
    attempt = await start(container, 0, sh("trap '' TERM; echo up; sleep 60", tmp_path))
    await eventually(lambda: lines(attempt))
    attempt.terminate()
    await asyncio.sleep(0.1)
    assert attempt.is_running()
    await attempt.kill()
    assert (await attempt.wait()).code == 137


@pytest.mark.skipif(
    sys.platform != "linux", reason="daemons that leave the group are found by a subreaper only"
)
async def test_what_the_first_process_leaves_behind_dies_with_it(container: Path, tmp_path: Path) -> None:
    script = "sleep 61 & echo $!; (setsid sleep 62 & echo $!); sleep 0.1"
    attempt = await start(container, 0, sh(script, tmp_path))
    await attempt.wait()
    pids = [int(text) for _, _, text in lines(attempt)]
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_killing_the_shim_leaves_no_orphan(container: Path, tmp_path: Path) -> None:
    attempt = await start(container, 0, sh("trap '' TERM HUP; sleep 63 & echo $!; wait", tmp_path))
    await eventually(lambda: lines(attempt))
    grandchild = int(lines(attempt)[0][2])
    found = attempt.identity()
    assert found
    os.kill(found[0].pid, signal.SIGKILL)
    end = await attempt.wait()
    assert (end.code, end.known) == (137, False)
    assert not is_alive(child_of(attempt))
    await eventually(lambda: not is_alive(ProcessId(grandchild, 0)))


async def test_a_stopped_shim_is_killed_and_takes_the_container_along(
    container: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.host.kubelet.attempts.GROUP_KILL_S", 0.3)
    attempt = await start(container, 0, sh("sleep 64", tmp_path))
    found = attempt.identity()
    assert found
    os.kill(found[0].pid, signal.SIGSTOP)
    await attempt.kill()
    assert not is_alive(found[0])
    assert not is_alive(found[1])


async def test_a_line_without_end_is_cut_and_binary_output_is_kept(container: Path, tmp_path: Path) -> None:
    content = b"x" * (3 * shim.MAX_LINE_BYTES + 5) + b"\n\xff\xfe\0z\n"
    (tmp_path / "content").write_bytes(
        content
    )  # less than a pipe holds: it is written in one go, without a pause
    attempt = await start(container, 0, sh("cat content", tmp_path))
    await attempt.wait()
    raw = attempt.log.read_bytes().splitlines()
    pieces = [line.split(b" ", 3) for line in raw]
    assert all(len(piece[3]) <= shim.MAX_LINE_BYTES for piece in pieces)
    assert b"".join(piece[3] for piece in pieces[:-1]) == b"x" * (3 * shim.MAX_LINE_BYTES + 5)
    assert [piece[2] for piece in pieces] == [b"P", b"P", b"P", b"F", b"F"]
    assert pieces[-1][3] == b"\xff\xfe\0z"


async def test_a_line_that_waits_for_its_end_is_shown(container: Path, tmp_path: Path) -> None:
    attempt = await start(
        container, 0, sh("printf 'loading '; while ! test -e go; do sleep 0.02; done; echo done", tmp_path)
    )
    await eventually(lambda: lines(attempt) == [("stdout", "P", "loading ")])
    (tmp_path / "go").touch()
    await attempt.wait()
    assert lines(attempt)[1:] == [("stdout", "F", "done")]


async def test_logs_rotate_by_size_and_only_five_are_kept(container: Path, tmp_path: Path) -> None:
    total = 6 * shim.MAX_LOG_BYTES
    attempt = await start(container, 0, sh(f"yes {'0123456789abcdef' * 16} | head -c {total}", tmp_path))
    await attempt.wait()
    names = sorted(path.name for path in attempt.folder.glob("log*"))
    assert names == ["log", "log.1", "log.2", "log.3", "log.4"]
    assert all(path.stat().st_size <= shim.MAX_LOG_BYTES for path in attempt.folder.glob("log*"))


@pytest.mark.parametrize(
    ("argv", "cwd", "expected"),
    [
        (("/no/such/program",), "/", "program /no/such/program: No such file or directory"),
        (("/bin/true",), "/no/such/folder", "working folder /no/such/folder: No such file or directory"),
        (("/etc/passwd",), "/", "program /etc/passwd: Permission denied"),
    ],
)
async def test_what_cannot_start_says_why(
    container: Path, argv: tuple[str, ...], cwd: str, expected: str
) -> None:
    with pytest.raises(Unavailable, match=expected):
        await start(container, 0, ProcessSpec(argv, ENV, Path(cwd)))
    assert attempts(container) == ()


async def test_only_the_last_two_attempts_are_kept(container: Path, tmp_path: Path) -> None:
    for number in range(4):
        await (await start(container, number, sh("true", tmp_path))).wait()
    assert [attempt.number for attempt in attempts(container)] == [2, 3]


async def test_a_reused_process_number_is_not_taken_for_ours(container: Path, tmp_path: Path) -> None:
    attempt = await start(container, 0, sh("sleep 65", tmp_path))
    found = attempt.identity()
    assert found and attempt.is_running()
    other = subprocess.Popen(["sleep", "66"])
    try:
        record = (attempt.folder / "pid").read_text().split()
        forged = [str(other.pid), *record[1:]]
        (attempt.folder / "pid").write_text(" ".join(forged))
        assert not attempt.is_running()
        (attempt.folder / "pid").write_text(" ".join(record))
    finally:
        other.kill()
        other.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_shim_is_small_and_quick(container: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    attempt = await start(container, 0, sh("sleep 67", tmp_path))
    took_s = time.monotonic() - began
    found = attempt.identity()
    assert found
    status = Path(f"/proc/{found[0].pid}/status").read_text()
    resident_kib = int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]
    assert resident_kib < 12 * 1024
    assert took_s < 20, "generous, since test machines are busy; typical is 40 ms"
