"""`respawn.py CORES READY COMMAND …`: an engine in a container of its own, as far as this machine allows.

Once it answers at READY, an URL, it has no more than CORES of processor time, as an engine has its own GPU and not its neighbour's: or else
what an idle engine leaves would go to a busy one, and no router would be the worse for loading one engine with all requests. When it was killed
it is started again under its address, as a container is; the platform waits longer each time, as Kubernetes does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

CPU = Path("/sys/fs/cgroup/cpu")
"""Of control groups v1. Where there are those of v2, the platform itself sees to the limit."""
GROUP = "penstock-bench"
PERIOD_US = 10_000
LOOK_S = 0.05


def main() -> int:
    """Until the command ends by itself, or SIGTERM ends both."""
    cores, ready, *command = sys.argv[1:]
    group = own_group()
    is_stopping = False

    def stop(*_: object) -> None:
        nonlocal is_stopping
        is_stopping = True
        process.terminate()

    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, stop)
    while (code := attend(process, ready, group, float(cores))) == -signal.SIGKILL and not is_stopping:
        process = subprocess.Popen(command)
    if group is not None:
        (CPU / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()
    return code


def own_group() -> Path | None:
    """The control group that this process and its children are in from now on; None where none can be made."""
    group = CPU / f"{GROUP}-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return None
    return group


def attend(process: subprocess.Popen[bytes], ready: str, group: Path | None, cores: float) -> int:
    """Its exit code, once it has one; it starts without a limit."""
    if group is not None:
        (group / "cpu.cfs_quota_us").write_text("-1")
        while process.poll() is None and not answers(ready):
            time.sleep(LOOK_S)
        (group / "cpu.cfs_quota_us").write_text(str(int(cores * PERIOD_US)))
    return process.wait()


def answers(url: str) -> bool:
    """Whether it is ready."""
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
