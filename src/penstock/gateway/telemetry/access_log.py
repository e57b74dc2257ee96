"""The access log: one JSON line for each request, without what was asked or answered, written by a thread of its own.

A line is made when the request has ended and put into a bounded buffer; the thread writes batches. So a slow disk costs lines,
which are counted, and never delays a request.
"""

from __future__ import annotations

import fcntl
import os
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

import msgspec
from msgspec import Struct

from penstock.gateway.call import Call
from penstock.gateway.telemetry.outcome import Outcome, outcome_of

MAX_LINES = 20_000
"""Lines that may wait for the disk; further ones are dropped and counted as `buffer_full`."""
MAX_PATH = 1024
"""Characters of a request's path that are logged."""
GATHER_S = 0.2
"""How long lines gather before they are written together."""


class Line(Struct, omit_defaults=True, gc=False):
    """What is logged of one request; what is not known is left out. Times end in their unit, `time` is when it began."""

    time: datetime
    request_id: str
    trace_id: str
    peer: str
    method: str
    path: str
    protocol: str
    status: int
    outcome: Outcome
    duration_ms: float
    request_bytes: int
    response_bytes: int
    attempts: int
    service: str = ""
    model: str = ""
    revision: str = ""
    endpoint: str = ""
    key: str = ""
    tenant: str = ""
    error: str = ""
    ttft_ms: float = -1.0
    prompt_tokens: int = -1
    cached_tokens: int = -1
    completion_tokens: int = -1


_ENCODE = msgspec.json.Encoder().encode


def line(call: Call, now: float, at: float) -> bytes:
    """The line of a call that ended at the monotonic time `now`, which is `at` in Unix seconds.

    Keys stand with their names, never with what makes them keys.
    """
    request, respond, service, key = call.request, call.respond, call.service, call.key
    taken_s = now - call.started
    entry = Line(
        datetime.fromtimestamp(at - taken_s, UTC),
        call.id,
        call.trace.id.decode(),
        request.peer,
        request.head.method.decode("latin-1"),
        request.head.target.partition(b"?")[0][:MAX_PATH].decode("latin-1"),
        call.target.protocol,
        respond.status,
        outcome_of(call),
        int(taken_s * 1e6) / 1000,
        len(request.body),
        respond.sent_bytes,
        call.attempts,
        f"{service.namespace}/{service.name}" if service is not None else "",
        call.model,
        call.revision,
        call.endpoint,
        f"{key.namespace}/{key.name}" if key is not None else "",
        key.tenant if key is not None else "",
        call.error,
        int((call.first_byte_at - call.started) * 1e6) / 1000 if call.first_byte_at else -1.0,
        call.prompt_tokens,
        call.cached_tokens,
        call.completion_tokens,
    )
    return _ENCODE(entry) + b"\n"


class AccessLog:
    """A file that lines are appended to, also by several workers at once, with rotation by size."""

    def __init__(self, path: Path, *, max_bytes: int = 64 << 20, keep: int = 4) -> None:
        """`path` is created with mode 0600; beyond `max_bytes` it becomes `path.1`, and of such files `keep` are kept."""
        self._path, self._max_bytes, self._keep = path, max_bytes, keep
        self._lines: deque[bytes] = deque()
        self._some, self._closed = Event(), Event()
        self._buffer_full = 0
        self._write_failed = 0
        self._file = -1
        self._thread = Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> dict[str, int]:
        """Lines that were not written, by cause."""
        return {"buffer_full": self._buffer_full, "write_failed": self._write_failed}

    def append(self, entry: bytes) -> None:
        """Write it soon; at once it is only kept."""
        if len(self._lines) >= MAX_LINES:
            self._buffer_full += 1
            return
        self._lines.append(entry)
        if not self._some.is_set():
            self._some.set()

    def close(self) -> None:
        """Write what is left. Waits for the disk, 5 s at most."""
        self._closed.set()
        self._some.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._some.wait()
            self._closed.wait(GATHER_S)
            self._some.clear()
            self._write()
        self._write()
        if self._file >= 0:
            os.close(self._file)

    def _write(self) -> None:
        batch = [self._lines.popleft() for _ in range(len(self._lines))]
        if not batch:
            return
        try:
            self._append(b"".join(batch))
        except OSError:
            self._write_failed += len(batch)

    def _append(self, data: bytes) -> None:
        """All of it or nothing, and never into a file that another worker has rotated away. Raises OSError."""
        self._lock()
        try:
            size = os.fstat(self._file).st_size
            if size and size + len(data) > self._max_bytes:
                self._rotate()
                size = 0
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            except OSError:
                os.ftruncate(self._file, size)
                raise
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _lock(self) -> None:
        """Hold the lock of the file that stands at the path."""
        while True:
            if self._file < 0:
                self._file = self._open()
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.fstat(self._file), self._path.stat()):
                    return
            except FileNotFoundError:
                pass
            os.close(self._file)
            self._file = -1

    def _rotate(self) -> None:
        """Under the lock of the old file; the new one is locked before others can find it full."""
        for number in range(self._keep, 1, -1):
            older = self._path.with_name(f"{self._path.name}.{number - 1}")
            if older.exists():
                older.replace(older.with_name(f"{self._path.name}.{number}"))
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        old, self._file = self._file, self._open()
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.close(old)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
