"""`respawn.py CORES COMMAND …`: an engine in a container of its own, as far as this machine allows.

It has no more than CORES of processor time, as an engine has its own GPU and not its neighbour's: or else what an idle engine leaves would
go to a busy one, and no router would be the worse for loading one engine with all requests. When it was killed it is started again, under
its address, as a container is; the platform waits longer each time, as Kubernetes does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

CPU = Path("/sys/fs/cgroup/cpu")
"""Of control groups v1. Where there are those of v2, the platform itself sees to the limit."""
PERIOD_US = 10_000


def main() -> int:
    """Until the command ends by itself, or SIGTERM ends both."""
    cores, *command = sys.argv[1:]
    group = limited(float(cores))
    is_stopping = False

    def stop(*_: object) -> None:
        nonlocal is_stopping
        is_stopping = True
        process.terminate()

    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, stop)
    while (code := process.wait()) == -signal.SIGKILL and not is_stopping:
        process = subprocess.Popen(command)
    if group is not None:
        (CPU / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()
    return code


def limited(cores: float) -> Path | None:
    """The group that this process is in from now on, None where none can be made."""
    group = CPU / f"penstock-bench-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(int(cores * PERIOD_US)))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return None
    return group


if __name__ == "__main__":
    sys.exit(main())
