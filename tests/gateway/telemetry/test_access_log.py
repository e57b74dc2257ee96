"""Every request leaves one line, which tells how it went and nothing that was said."""

import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ended import call, stream

from penstock.gateway.telemetry import access_log
from penstock.gateway.telemetry.access_log import AccessLog, line
from penstock.gateway.telemetry.outcome import CANCELLED


def test_a_line_tells_how_a_request_went() -> None:
    one = stream(model="qwen", revision="qwen-1", endpoint="qwen-1-a", attempts=2)
    entry = json.loads(line(one, now=12.0, at=1_700_000_002.5))
    assert entry.pop("ttft_ms") == pytest.approx(300.0, abs=0.001)
    assert entry == {
        "time": "2023-11-14T22:13:20.500000Z",
        "request_id": "r1",
        "trace_id": one.trace.id.decode(),
        "peer": "127.0.0.1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "protocol": "openai",
        "model": "qwen",
        "service": "default/qwen",
        "revision": "qwen-1",
        "endpoint": "qwen-1-a",
        "key": "default/alice",
        "tenant": "acme",
        "status": 200,
        "outcome": "ok",
        "request_bytes": 2,
        "response_bytes": 100,
        "prompt_tokens": 20,
        "cached_tokens": 16,
        "completion_tokens": 5,
        "attempts": 2,
        "duration_ms": 2000.0,
    }


@pytest.mark.parametrize(
    ("one", "outcome"),
    [
        (call(404, error="model_not_found", service=None), "error"),
        (call(200, error=CANCELLED, first_byte_at=11.0), "cancelled"),
        (call(200, error="upstream_cut_off", first_byte_at=11.0), "broken"),
    ],
)
def test_a_line_names_what_went_wrong(one: access_log.Call, outcome: str) -> None:
    entry = json.loads(line(one, 12.0, 1e9))
    assert (entry["outcome"], entry["error"]) == (outcome, one.error)


def test_neither_content_nor_query_nor_key_is_in_a_line() -> None:
    one = call(body=b'{"prompt":"private words"}', path="/v1/completions?key=private")
    one.request.head.headers.append((b"authorization", b"Bearer private"))
    entry = line(one, 12.0, 1e9)
    assert b"private" not in entry
    assert b"k-public" not in entry


def test_a_path_of_any_length_and_bytes_stays_one_bounded_line() -> None:
    entry = line(call(path="/é\n" * 5000), 12.0, 1e9)
    assert entry.count(b"\n") == 1
    assert len(json.loads(entry)["path"]) == access_log.MAX_PATH


def read(folder: Path) -> list[int]:
    return [json.loads(text)["n"] for path in folder.iterdir() for text in path.read_text().splitlines()]


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_two_workers_write_one_file_and_rotation_loses_and_doubles_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "GATHER_S", 0.0)
    logs = [AccessLog(tmp_path / "access.log", max_bytes=2000, keep=500) for _ in range(2)]

    def write(log: AccessLog, start: int) -> None:
        for n in range(start, start + 2000):
            log.append(b'{"n":%d}\n' % n)

    threads = [threading.Thread(target=write, args=(log, 2000 * i)) for i, log in enumerate(logs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for log in logs:
        log.close()
    assert sorted(read(tmp_path)) == list(range(4000))
    assert (tmp_path / "access.log.1").exists()
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


def test_old_files_are_bounded_in_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "GATHER_S", 0.0)
    for n in range(6):
        log = AccessLog(tmp_path / "access.log", max_bytes=5, keep=2)
        log.append(b'{"n":%d}\n' % n)
        log.close()
    assert sorted(read(tmp_path)) == [3, 4, 5]


def test_lines_that_find_the_buffer_full_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MAX_LINES", 3)
    monkeypatch.setattr(access_log, "GATHER_S", 60.0)
    log = AccessLog(tmp_path / "access.log")
    for n in range(5):
        log.append(b'{"n":%d}\n' % n)
    log.close()
    assert log.dropped == {"buffer_full": 2, "write_failed": 0}
    assert read(tmp_path) == [0, 1, 2]


def test_lines_that_a_full_disk_refuses_are_counted() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("/dev/full is absent")
    log = AccessLog(full)
    log.append(b"{}\n")
    log.close()
    assert log.dropped == {"buffer_full": 0, "write_failed": 1}


def test_what_others_lock_is_waited_for_and_what_comes_meanwhile_is_written_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "GATHER_S", 0.0)
    path = tmp_path / "access.log"
    path.touch()
    log = AccessLog(path)
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        log.append(b'{"n":0}\n')
        until(lambda: not log._lines)
        log.append(b'{"n":1}\n')
        closing = threading.Thread(target=log.close)
        closing.start()
        until(log._closed.is_set)
        assert read(tmp_path) == []
    closing.join()
    assert read(tmp_path) == [0, 1]


def test_a_file_that_was_moved_away_is_not_written_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "GATHER_S", 0.0)
    path = tmp_path / "access.log"
    log = AccessLog(path)
    log.append(b'{"n":0}\n')
    until(lambda: path.exists() and path.stat().st_size > 0)
    path.rename(tmp_path / "moved")
    log.append(b'{"n":1}\n')
    log.close()
    assert path.read_text() == '{"n":1}\n'


def test_of_a_batch_that_was_written_in_part_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(file: int, data: memoryview) -> int:
        if len(data) < 8:
            raise OSError(errno.ENOSPC, "no space is left")
        return write(file, data[: len(data) // 2])

    write = os.write
    path = tmp_path / "access.log"
    path.write_bytes(b'{"n":0}\n')
    monkeypatch.setattr(access_log.os, "write", half)
    log = AccessLog(path)
    log.append(b'{"n":1}\n')
    log.close()
    assert path.read_bytes() == b'{"n":0}\n'
    assert log.dropped == {"buffer_full": 0, "write_failed": 1}
