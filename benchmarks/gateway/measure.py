"""Build the two C programs, start what is measured, and read what it costs from the kernel."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx
import psutil

SOURCES = Path(__file__).parent
CACHE = Path(os.environ.get("PENSTOCK_BENCH_CACHE", Path.home() / ".cache" / "penstock-bench"))
READY_S = 120.0
OPEN_S = 30.0
CPUCLOCK_SCHED = 2


def build(name: str) -> Path:
    """The program of `name.c`, compiled anew when the source is newer."""
    source, program = SOURCES / f"{name}.c", CACHE / name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise SystemExit(f"no C compiler, and {source.name} is written in C: install gcc, or name one in CC")
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)
    return program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"{process.args!r} does not listen on port {port}")


def end(process: subprocess.Popen[Any]) -> None:
    """With all that it started."""
    if process.poll() is not None:
        return
    members = family(psutil.Process(process.pid))
    process.terminate()
    _, alive = psutil.wait_procs(members, timeout=5)
    for one in alive:
        one.kill()
    process.wait()


def family(process: psutil.Process) -> list[psutil.Process]:
    """It, and all that it started."""
    return [process, *process.children(recursive=True)]


def cpu_ns(processes: Iterable[psutil.Process]) -> int:
    """User and system time of all their threads, those that ended included (clock_getcpuclockid(3))."""
    return sum(time.clock_gettime_ns((~one.pid << 3) | CPUCLOCK_SCHED) for one in processes)


@dataclass
class Running:
    """A proxy under measurement. `process` is None for no proxy at all."""

    name: str
    port: int
    process: subprocess.Popen[bytes] | None = None
    log: IO[bytes] | None = field(default=None, repr=False)

    def family(self) -> list[psutil.Process]:
        return [] if self.process is None else family(psutil.Process(self.process.pid))

    def tasks(self) -> Iterator[Path]:
        """Its threads."""
        for one in self.family():
            yield from Path(f"/proc/{one.pid}/task").iterdir()

    def cpu_ns(self) -> int:
        """Of all its processes."""
        return cpu_ns(self.family())

    def memory_mb(self) -> tuple[float, float]:
        """Resident, and proportional set size: of pages that several processes share, all and its part."""
        found = [one.memory_full_info() for one in self.family()]
        return sum(one.rss for one in found) / 1e6, sum(one.pss for one in found) / 1e6

    def wait_until_ready(self, body: bytes, headers: dict[str, str]) -> None:
        """Until it passes an answer on; raises RuntimeError with the end of its log otherwise."""
        deadline, last = time.monotonic() + READY_S, "no answer"
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        with httpx.Client(trust_env=False, timeout=10) as client:
            while time.monotonic() < deadline and (self.process is None or self.process.poll() is None):
                try:
                    answer = client.post(url, content=body, headers=headers)
                    if answer.status_code == 200:
                        return
                    last = f"{answer.status_code} {answer.text[:300]}"
                except httpx.TransportError as error:
                    last = repr(error)
                time.sleep(0.1)
        raise RuntimeError(f"{self.name} is not ready: {last}{self._end_of_log()}")

    def _end_of_log(self) -> str:
        if self.log is None:
            return ""
        text = Path(self.log.name).read_text(errors="replace")
        return "\n" + "\n".join(text.splitlines()[-8:])

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)
        if self.log is not None:
            self.log.close()


@contextlib.contextmanager
def one_core(*running: Running) -> Iterator[None]:
    """These, and the load generators that are started meanwhile, on one core.

    With one request at a time only one process has work. On several cores it would be the waking of idle ones that is measured,
    which costs many times as much on a quiet virtual machine as on a busy one.
    """
    everywhere = os.sched_getaffinity(0)
    members = [0, *(int(task.name) for one in running for task in one.tasks())]
    _place(members, {max(everywhere)})
    try:
        yield
    finally:
        _place(members, everywhere)


def _place(tasks: Sequence[int], cores: set[int]) -> None:
    for task in tasks:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(task, cores)


@dataclass(frozen=True)
class Load:
    """One way of asking. `events` is how many a whole stream has, None for answers in one piece; `seconds` 0: one request each."""

    head: Path
    body: Path
    connections: int
    seconds: float
    events: int | None = None
    is_new: bool = False
    holds: bool = False

    def arguments(self, port: int) -> Sequence[str | Path]:
        return (
            *(build("load"), str(port), self.head, self.body, str(self.connections), str(self.seconds)),
            *(() if self.events is None else (str(self.events),)),
            *(("new",) if self.is_new else ()),
            *(("hold",) if self.holds else ()),
        )

    def run(self, port: int) -> dict[str, Any]:
        done = subprocess.run(self.arguments(port), stdout=subprocess.PIPE, check=True, timeout=600)
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures

    def open(self, port: int) -> subprocess.Popen[bytes]:
        """Return once every stream is open; they stay so until the process is ended."""
        process = subprocess.Popen(self.arguments(port), stdout=subprocess.PIPE)
        assert process.stdout is not None
        told, _, _ = select.select([process.stdout], [], [], OPEN_S)
        if not told or process.stdout.readline() != b"open\n":
            end(process)
            raise RuntimeError(f"{self.connections} streams could not be opened within {OPEN_S:g} s")
        return process


def cost(running: Running, load: Load) -> dict[str, Any]:
    """One sample: what the load generator saw, and the proxy's CPU microseconds per request or per event."""
    before = running.cpu_ns()
    figures = load.run(running.port)
    used_us = (running.cpu_ns() - before) / 1000
    units = figures["events"] if load.events else figures["requests"]
    figures["cpu_us"] = used_us / max(units, 1)
    figures["per_s"] = units / figures["seconds"]
    return figures
