"""A process of the engine's own, which it speaks with over a socket pair: both ends of the beginning."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys


def started(module: str, *options: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """One that runs `module`, which is told of its end of the pair by --fd, and our end."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", module, f"--fd={theirs.fileno()}", *options]
        return subprocess.Popen(command, pass_fds=[theirs.fileno()]), ours


def link_to_parent(fd: int) -> socket.socket:
    """The end in the process that was started. From now on only the parent ends it, not a terminal that signals all of a group."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return socket.socket(fileno=fd)
