"""The notice file: tells a pod that saves its work until when it may do so. It is there before the stop signal is."""

from __future__ import annotations

import msgspec

from penstock.host.kubelet.layout import PodFolder, write_atomically
from penstock.resources.checkpoint import Notice, contract_of, notice_of
from penstock.resources.pod import Pod

REASONS = {
    "deleted": "Deleted",
    "stopped": "PlatformStopped",
    "deadline": "DeadlineExceeded",
    "vanished": "Deleted",
}


def give_notice(pod: Pod, folder: PodFolder, why: str, deadline: float) -> None:
    """Write the notice, with the end of the grace in Unix seconds; nothing for a pod that promises no checkpoints."""
    if contract_of(pod.metadata) is None or not folder.path.is_dir():
        return
    notice = notice_of(pod.metadata)
    if notice is None:
        notice = Notice(deadline=deadline, reason=REASONS.get(why, why))
    write_atomically(folder.notice, msgspec.json.encode(msgspec.structs.replace(notice, deadline=deadline)))
