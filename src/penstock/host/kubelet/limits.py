"""CPU and memory limits by control groups (cgroup v2), where this user may make them.

A group for the whole data folder is made beside the platform's own (as systemd delegates them) or below it, and one for each container in
it. Where that is not possible the pod gets an Event that says so; limits are not imitated by address space, which says little about memory in use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import xxhash

from penstock.kit.quantity import parse_quantity
from penstock.resources.meta import Quantity

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
CONTROLLERS = ("cpu", "memory")
CPU_PERIOD_US = 100_000
LEAST_CPU_US = 1_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Where groups can be made; `base` is None where they cannot, and `why` says why."""

    base: Path | None
    why: str = ""

    def enter(self, uid: str, container: str, limits: Mapping[str, Quantity]) -> Path | None:
        """A group with these limits for one container; None if it has none, or none can be enforced."""
        wanted = {name: limits[name] for name in CONTROLLERS if name in limits}
        if self.base is None or not wanted:
            return None
        group = self.base / f"{uid}-{container}"
        group.mkdir(exist_ok=True)
        if "cpu" in wanted:
            quota_us = max(LEAST_CPU_US, int(float(parse_quantity(wanted["cpu"])) * CPU_PERIOD_US))
            (group / "cpu.max").write_text(f"{quota_us} {CPU_PERIOD_US}")
        if "memory" in wanted:
            (group / "memory.max").write_text(str(int(parse_quantity(wanted["memory"]))))
        return group

    def was_out_of_memory(self, uid: str, container: str) -> bool:
        """Whether the kernel killed something in this container's group for its memory limit."""
        if self.base is None:
            return False
        try:
            lines = (self.base / f"{uid}-{container}" / "memory.events").read_text().splitlines()
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)

    def leave(self, uid: str, container: str) -> None:
        """Remove the group; it is empty once the container has ended."""
        if self.base is not None:
            with contextlib.suppress(OSError):
                (self.base / f"{uid}-{container}").rmdir()


def find_limits(home: Path, root: Path = ROOT, own: Path = OWN) -> Limits:
    """What this machine and user allow."""
    if not (root / "cgroup.controllers").exists():
        return Limits(None, "this system has no unified control groups (cgroup v2)")
    try:
        line = next(line for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return Limits(None, "the platform's own control group is unknown")
    mine = root / line[3:].strip().lstrip("/")
    name = f"penstock-{xxhash.xxh64_hexdigest(str(home.resolve()).encode())}"
    for parent in (mine.parent, mine):
        if not parent.is_relative_to(root):
            continue
        base = _delegated(parent, name)
        if base is not None:
            return Limits(base)
    return Limits(
        None, f"the control group {mine} does not let this user make groups with {' and '.join(CONTROLLERS)}"
    )


def _delegated(parent: Path, name: str) -> Path | None:
    base = parent / name
    enable = " ".join(f"+{controller}" for controller in CONTROLLERS)
    try:
        enabled = (parent / "cgroup.subtree_control").read_text().split()
        if not set(CONTROLLERS) <= set(enabled):
            (parent / "cgroup.subtree_control").write_text(enable)
        base.mkdir(exist_ok=True)
        (base / "cgroup.subtree_control").write_text(enable)
    except OSError:
        return None
    return base
