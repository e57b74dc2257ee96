"""The data folder: where things lie in it, and who owns it right now."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path

from penstock.kit.errors import Unavailable

MIN_FREE_BYTES = 64 << 20
LEAVING_WAIT_S = 15.0
"""How long a new start waits for the processes of a supervisor that was killed: they notice and leave by themselves."""


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below the data folder."""

    path: Path

    @property
    def lock(self) -> Path:
        """Held by the running platform; holds the supervisor's process id."""
        return self.path / "lock"

    @property
    def token(self) -> Path:
        """The API's bearer token, mode 0600."""
        return self.path / "token"

    @property
    def kubeconfig(self) -> Path:
        """What kubectl needs to talk to this platform, mode 0600."""
        return self.path / "kubeconfig"

    @property
    def state(self) -> Path:
        """What must survive: objects, the API's certificate, and the pepper."""
        return self.path / "state"

    @property
    def pepper(self) -> Path:
        """What the hashes of API keys are keyed with, mode 0600."""
        return self.state / "pepper"

    @property
    def store(self) -> Path:
        """All objects."""
        return self.state / "store.sqlite"

    @property
    def prices(self) -> Path:
        """What instances and GPUs cost here, where the list prices do not hold; need not be there."""
        return self.path / "prices.yaml"

    @property
    def fit_observations(self) -> Path:
        """How much memory engines took, and what had been predicted."""
        return self.state / "fit-observations.jsonl"

    @property
    def model_shapes(self) -> Path:
        """What the headers of models' files said, by source."""
        return self.state / "model-shapes.json"

    @property
    def spare_nodes(self) -> Path:
        """Since when which nodes have been hardly used."""
        return self.state / "spare-nodes.json"

    @property
    def run(self) -> Path:
        """What only a running platform needs."""
        return self.path / "run"

    @property
    def feed_socket(self) -> Path:
        """Where the planes meet."""
        return self.run / "feed.sock"

    @property
    def route_table(self) -> Path:
        """The gateway's last RouteTable, for a start without the control plane."""
        return self.run / "route-table.json"

    @property
    def workers(self) -> Path:
        """Where the gateway's workers meet."""
        return self.run / "workers"

    @property
    def access_log(self) -> Path:
        """A line for each request."""
        return self.path / "logs" / "access.log"

    def log(self, process: str) -> Path:
        """The log of `control-plane` or `gateway`."""
        return self.path / "logs" / f"{process}.log"

    def prepare(self) -> None:
        """Make the folder and check that it can be written to. Raises Unavailable; leaves nothing half-made."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.path / f".probe-{os.getpid()}"
            try:
                probe.write_bytes(b"x" * 4096)
            finally:
                probe.unlink(missing_ok=True)
            for folder in (self.state, self.run, self.path / "logs"):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _unusable(self.path, error) from None
        free_bytes = os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize
        if free_bytes < MIN_FREE_BYTES:
            raise Unavailable(
                f"{self.path}: found {free_bytes >> 20} MiB of free space, expected at least {MIN_FREE_BYTES >> 20} MiB",
                code="disk_full",
                hint="make room, or set PENSTOCK_HOME to a folder on another disk",
            )


def acquire(home: Home) -> int:
    """The lock's file descriptor; the lock is free again once every process that inherited it has ended.

    Raises Unavailable when another platform runs in this folder. If its supervisor is gone and its children are about to
    leave, waits for them.
    """
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LEAVING_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = holder_of(home)
            if holder is None and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            os.close(descriptor)
            raise _in_use(home, holder) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def holder_of(home: Home) -> int | None:
    """The process id of the supervisor that runs in this folder, None if it is gone."""
    try:
        pid = int(home.lock.read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def _in_use(home: Home, holder: int | None) -> Unavailable:
    who = f"process {holder}" if holder else "processes of an earlier start that do not end"
    return Unavailable(
        f"{home.path} is in use by {who}",
        code="home_in_use",
        hint="stop it with Ctrl-C in its terminal"
        + (f" or `kill {holder}`" if holder else "")
        + ", or set PENSTOCK_HOME, PENSTOCK_GATEWAY_ADDR and PENSTOCK_API_ADDR to run a second one beside it",
    )


def _unusable(path: Path, error: OSError) -> Unavailable:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Unavailable(
        f"{path}: {'the disk is full' if full else f'cannot be written to: {error.strerror}'}",
        code="disk_full" if full else "home_unusable",
        hint="make room, or set PENSTOCK_HOME to another folder"
        if full
        else "set PENSTOCK_HOME to a folder of yours",
    )
