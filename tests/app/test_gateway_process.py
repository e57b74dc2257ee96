"""What the gateway's process asks of the machine."""

from __future__ import annotations

import resource

from penstock.app.gateway import OPEN_FILES, allow_open_files
from penstock.gateway.activator import MAX_WAITING
from penstock.gateway.wire.message import Limits


def test_a_shells_limit_of_open_files_does_not_bound_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        allow_open_files()
        most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_waiting_room_is_full_before_connections_run_out() -> None:
    limits = Limits()
    assert MAX_WAITING < limits.max_connections_per_peer < limits.max_connections < OPEN_FILES
