"""Runs a command, and runs it again when it was killed: an engine that crashed is back under its address at once, as in a container that restarts."""

from __future__ import annotations

import signal
import subprocess
import sys


def main() -> int:
    """Until the command ends by itself, or SIGTERM ends both."""
    is_stopping = False

    def stop(*_: object) -> None:
        nonlocal is_stopping
        is_stopping = True
        process.terminate()

    process = subprocess.Popen(sys.argv[1:])
    signal.signal(signal.SIGTERM, stop)
    while (code := process.wait()) == -signal.SIGKILL and not is_stopping:
        process = subprocess.Popen(sys.argv[1:])
    return code


if __name__ == "__main__":
    sys.exit(main())
