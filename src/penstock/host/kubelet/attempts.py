"""One attempt to run a container, as files: start it, find it again, signal it, learn how it ended.

All that is known lies in the attempt's folder and is written by the shim, so a new control plane knows as much as the old one.
The number of the latest attempt is the container's restart count.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.host.kubelet import shim
from penstock.host.kubelet.layout import write_atomically
from penstock.host.kubelet.processes import ProcessId, is_alive, wait_until_dead
from penstock.kit.errors import Unavailable
from penstock.kit.timestamps import rfc3339_micro

START_TIMEOUT_S = 20.0
GROUP_KILL_S = 5.0
KEPT_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What a container runs, fully resolved: nothing in it is expanded or rewritten any more."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    stop_signal: int = signal.SIGTERM
    cgroup: Path | None = None

    def encoded(self) -> bytes:
        """As the shim reads it."""
        fields = [b"arg=" + os.fsencode(arg) for arg in self.argv]
        fields += [b"env=" + os.fsencode(f"{name}={value}") for name, value in self.env.items()]
        fields += [b"cwd=" + os.fsencode(self.cwd), b"stop=%d" % self.stop_signal]
        if self.cgroup:
            fields.append(b"cgroup=" + os.fsencode(self.cgroup))
        return b"\0".join([*fields, b"end="])


@dataclass(frozen=True, slots=True)
class Exit:
    """How an attempt ended. `code` is 128 + `signal` for a killed one; times are Unix seconds."""

    code: int
    signal: int
    started_at: float
    finished_at: float
    known: bool = True
    """False if nobody saw the end: the machine went down, or the shim was killed."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Attempt `number` of a container, in its folder."""

    folder: Path
    number: int

    @property
    def log(self) -> Path:
        """The newest log file; older ones are `log.1`, `log.2`, …"""
        return self.folder / "log"

    def identity(self) -> tuple[ProcessId, ProcessId, float] | None:
        """(shim, container, start in Unix seconds), or None if the shim never got that far."""
        fields = _numbers(self.folder / "pid", 5)
        if fields is None:
            return None
        shim_pid, shim_start, child_pid, child_start = (int(field) for field in fields[:4])
        return ProcessId(shim_pid, shim_start), ProcessId(child_pid, child_start), fields[4]

    def ended(self) -> Exit | None:
        """The exit record, if there is one."""
        fields = _numbers(self.folder / "exit", 4)
        return Exit(int(fields[0]), int(fields[1]), fields[2], fields[3]) if fields else None

    def is_running(self) -> bool:
        """Whether its shim lives and has not recorded an end."""
        found = self.identity()
        return found is not None and self.ended() is None and is_alive(found[0], str(self.folder))

    async def wait(self) -> Exit:
        """The end, once shim and container are both gone."""
        found = self.identity()
        if found is None:
            return Exit(137, 9, 0.0, 0.0, known=False)
        shim_process, child, started_at = found
        if is_alive(shim_process, str(self.folder)):
            await wait_until_dead(shim_process)
        if ended := self.ended():
            return ended
        await _outlive(child)
        return Exit(137, 9, started_at, _modified(self.log), known=False)

    def terminate(self) -> None:
        """Ask the container to stop, with its stop signal."""
        self.signal_shim(signal.SIGTERM)

    async def kill(self) -> None:
        """Kill the container's whole group; a shim that does not do so is killed too, and its keeper does it."""
        self.signal_shim(signal.SIGUSR1)
        found = self.identity()
        if found is None:
            return
        try:
            async with asyncio.timeout(GROUP_KILL_S):
                await wait_until_dead(found[0])
        except TimeoutError:
            self.signal_shim(signal.SIGKILL)
            await wait_until_dead(found[0])
        await _outlive(found[1])

    def signal_shim(self, number: int) -> None:
        """Send a signal to its shim, if that lives; what signals mean to it is said in `shim.py`."""
        found = self.identity()
        if found and is_alive(found[0], str(self.folder)):
            try:
                os.kill(found[0].pid, number)
            except ProcessLookupError:
                return

    def discard(self) -> None:
        """Forget the attempt. A shim that has not written its record yet cannot do so any more, and ends."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def stopped(self) -> bool:
        """Whether the platform ended it in order to run it again: not the container's own doing."""
        return (self.folder / "stopped").exists()

    def mark_stopped(self) -> None:
        """Remember that the platform itself ends this attempt and the next start shall repeat it."""
        (self.folder / "stopped").touch(mode=0o600)


def attempts(container: Path) -> tuple[Attempt, ...]:
    """The kept attempts of the container in this folder, oldest first."""
    if not container.is_dir():
        return ()
    numbers = sorted(int(path.name) for path in container.iterdir() if path.name.isdigit())
    return tuple(Attempt(container / str(number), number) for number in numbers)


async def start(container: Path, number: int, spec: ProcessSpec) -> Attempt:
    """Run `spec` as attempt `number`; Unavailable if its program cannot be started, with the system's reason."""
    attempt = Attempt(container / str(number), number)
    attempt.discard()
    attempt.folder.mkdir(mode=0o700, parents=True)
    for old in attempts(container)[:-KEPT_ATTEMPTS]:
        old.discard()
    launch = asyncio.ensure_future(asyncio.to_thread(_launch, attempt.folder, spec))
    try:
        report = await asyncio.shield(launch)
    except asyncio.CancelledError:
        await asyncio.wait([launch])  # so that whoever cancelled us finds the process in its folder
        raise
    if report[:1] == ["started"]:
        return attempt
    attempt.discard()
    number_of_error = int(report[1]) if report[1:] else 0
    what = {"chdir": f"working folder {spec.cwd}", "cgroup": f"control group {spec.cgroup}"}
    subject = what.get(report[2] if report[2:] else "", f"program {spec.argv[0]}")
    reason = os.strerror(number_of_error) if number_of_error else "the supervising process did not start"
    raise Unavailable(f"{subject}: {reason}", code="container_cannot_run")


def done(container: Path, number: int, said: Sequence[str], started_at: float, ended_at: float) -> Attempt:
    """Attempt `number`, whose work was done without a process, with its record as the shim would have left it."""
    attempt = Attempt(container / str(number), number)
    attempt.discard()
    attempt.folder.mkdir(mode=0o700, parents=True)
    stamp = rfc3339_micro(ended_at).removesuffix("Z") + "000Z"
    attempt.log.write_text("".join(f"{stamp} stdout F {line}\n" for line in said))
    attempt.log.chmod(0o600)
    write_atomically(attempt.folder / "exit", f"0 0 {started_at:.6f} {ended_at:.6f}\n".encode())
    nobody = "0 1"  # a process id that is never given away
    write_atomically(attempt.folder / "pid", f"{nobody} {nobody} {started_at:.6f}\n".encode())
    return attempt


def _launch(folder: Path, spec: ProcessSpec) -> list[str]:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", shim.__file__, str(folder)],
            input=spec.encoded(),
            capture_output=True,
            env={},
            timeout=START_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.decode().split()


async def _outlive(child: ProcessId) -> None:
    """Wait a little for the keeper to kill an orphaned group, then do it ourselves."""
    try:
        # wait_for may swallow a cancellation where the wait is over at once
        async with asyncio.timeout(GROUP_KILL_S):
            await wait_until_dead(child)
    except TimeoutError:
        if is_alive(child):
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.killpg(child.pid, signal.SIGKILL)
        await wait_until_dead(child)


def _numbers(path: Path, count: int) -> list[float] | None:
    try:
        fields = [float(field) for field in path.read_text().split()]
    except (OSError, ValueError):
        return None
    return fields if len(fields) == count else None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
