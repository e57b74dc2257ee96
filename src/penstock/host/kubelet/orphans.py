"""Kill every container that a data folder knows of, without a control plane.

For a supervisor that must leave nothing behind when the control plane is dead: only processes which the shims recorded are
touched, and only if id and start time still agree.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

from penstock.host.kubelet.attempts import Attempt, attempts
from penstock.host.kubelet.layout import Layout

STEP_S = 0.02
KILL_S = 2.0
"""How long a shim is given to kill its container."""
END_S = 10.0
"""How long the system is given to end shims that were killed."""


def kill_all(home: Path, grace_s: float = 0.0) -> int:
    """Stop all recorded containers, by SIGKILL once `grace_s` has passed; returns how many were running. Blocks."""
    running = [attempt for attempt in _recorded(Layout(home)) if attempt.is_running()]
    for attempt in running:
        attempt.mark_stopped()
        attempt.terminate()
    _wait(running, grace_s)
    for number, limit_s in ((signal.SIGUSR1, KILL_S), (signal.SIGKILL, END_S)):
        for attempt in running:
            attempt.signal_shim(number)
        _wait(running, limit_s)
    return len(running)


def _recorded(layout: Layout) -> list[Attempt]:
    return [
        attempt
        for node in layout.nodes()
        for pod in layout.pods(node)
        if pod.containers.is_dir()
        for container in pod.containers.iterdir()
        for attempt in attempts(container)
    ]


def _wait(running: list[Attempt], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and any(attempt.is_running() for attempt in running):
        time.sleep(STEP_S)
