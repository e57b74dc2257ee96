"""May pods still use this GPU?

What a device reports decides, as NVIDIA's device plugin and DCGM judge it: an XID that is the application's own fault says nothing about the
device; one that is the device's takes it out of use and moves its pods; a row remapping that waits for a reset only keeps new pods off.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from penstock.contracts.devices import Gpu
from penstock.decide.mig_relayout import WITHHELD
from penstock.resources.core import Taint

XID, ROW_REMAP, ECC, LOST = (f"gpu.nvidia.com/{word}" for word in ("xid", "row-remap", "ecc", "lost"))
MPS = "penstock.dev/mps"
"""The device is shared by a daemon that does not answer: whoever would come now would not be held to its part."""
APPLICATION_XIDS = frozenset((13, 31, 43, 45, 68, 109))
"""Faults of programs, which the device survives: an exception of a kernel, a bad address, a stopped channel, a preemptive clean-up, …"""
RESET_XIDS = frozenset((63, 160, 161))
"""The device goes on, but wants a reset before it gets new work."""
XID_MEANINGS = {
    48: "double bit ECC error",
    62: "the device's microcontroller halted",
    63: "a row remapping is pending",
    64: "a row could not be remapped",
    74: "NVLink error",
    79: "the device fell off the bus",
    92: "high rate of single bit ECC errors",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "the device's system processor does not answer",
    120: "the device's system processor failed",
}


class GpuFault(Struct, frozen=True):
    """Something that is wrong with a device: `key` is one of XID, ROW_REMAP, ECC, LOST, MPS; `value` the code or the state."""

    gpu: str
    key: str
    value: str = ""

    @property
    def meaning(self) -> str:
        """The fault in words."""
        if self.key == XID:
            known = XID_MEANINGS.get(int(self.value)) if self.value.isdecimal() else None
            return f"XID {self.value}" + (f" ({known})" if known else "")
        words = {
            ROW_REMAP: "row remapping",
            ECC: "uncorrectable ECC errors",
            LOST: "the driver no longer sees it",
            MPS: "the MPS daemon does not answer",
        }
        return f"{words.get(self.key, self.key)} {self.value}".strip()


def taint_of(fault: GpuFault, now: str) -> Taint | None:
    """The device's taint, from `now` (RFC 3339) on; None for what is not the device's fault."""
    effect = "NoExecute"
    if fault.key == XID:
        code = int(fault.value)
        if code in APPLICATION_XIDS:
            return None
        effect = "NoSchedule" if code in RESET_XIDS else "NoExecute"
    elif fault.key == MPS:
        effect = "NoSchedule"
    elif fault.key == ROW_REMAP:
        effect = "NoSchedule" if fault.value == "pending" else "NoExecute"
    return Taint(key=fault.key, value=fault.value, effect=effect, time_added=now)


def with_faults(taints: tuple[Taint, ...], faults: Iterable[GpuFault], now: str) -> tuple[Taint, ...]:
    """The taints with those of these faults; one that is there already keeps its time."""
    found = list(taints)
    for fault in faults:
        taint = taint_of(fault, now)
        if taint is not None and not any((t.key, t.value) == (taint.key, taint.value) for t in found):
            found.append(taint)
    return tuple(found)


def problem(gpus: Iterable[Gpu]) -> str:
    """What is wrong with a node's GPUs, in one sentence; "" where nothing is. To be laid out anew is nothing wrong."""
    bad = [
        f"GPU {gpu.index} ({gpu.uuid}): {', '.join(GpuFault(gpu.uuid, t.key, t.value).meaning for t in wrong)}"
        for gpu in gpus
        if (wrong := [taint for taint in gpu.taints if taint.key != WITHHELD])
    ]
    return "; ".join(bad)
