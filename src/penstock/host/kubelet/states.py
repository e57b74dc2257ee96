"""A container's status in Kubernetes' words, from what happened to its attempts."""

from __future__ import annotations

from msgspec import structs

from penstock.host.kubelet.attempts import Attempt, Exit
from penstock.kit.timestamps import rfc3339
from penstock.resources.pod import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
)

FINAL_BYTES = 2048
FINAL_LINES = 80


def container_id(pod: Pod, container: Container, number: int) -> str:
    """Names one attempt for good."""
    return f"penstock://{pod.metadata.uid}/{container.name}/{number}"


def first_status(pod: Pod, container: Container, pending: str, *, adopted: bool) -> ContainerStatus:
    """The status to begin with: the recorded one if it still runs or the pod has ended, else waiting for `pending`."""
    known = (*pod.status.container_statuses, *pod.status.init_container_statuses)
    old = next((status for status in known if status.name == container.name), None)
    if old is None:
        fresh = ContainerStatus(
            name=container.name, ready=False, restart_count=0, image=container.image, started=False
        )
        return waiting(fresh, pending)
    return old if adopted or pod.status.phase in {"Succeeded", "Failed"} else waiting(old, pending)


def waiting(status: ContainerStatus, reason: str, message: str = "") -> ContainerStatus:
    """Not running; what had ended becomes the last state."""
    state = ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message))
    return structs.replace(status, ready=False, started=False, state=state, last_state=_last(status))


def running(status: ContainerStatus, id_: str, restart_count: int, started_at: float) -> ContainerStatus:
    """Running since `started_at`, neither started nor ready by its probes yet."""
    return structs.replace(
        status,
        ready=False,
        started=False,
        restart_count=restart_count,
        container_id=id_,
        state=ContainerState(running=ContainerStateRunning(started_at=rfc3339(started_at))),
        last_state=_last(status),
    )


def terminated(id_: str, end: Exit, *, message: str = "", oom: bool = False) -> ContainerState:
    """Ended. An end that nobody saw is `ContainerStatusUnknown`, as in Kubernetes."""
    if not end.known:
        reason = "ContainerStatusUnknown"
        message = "nobody saw the container end: the machine went down, or its supervising process was killed"
    elif oom:
        reason = "OOMKilled"
    else:
        reason = "Completed" if end.code == 0 else "Error"
    return ContainerState(
        terminated=ContainerStateTerminated(
            exit_code=end.code,
            signal=end.signal or None,
            reason=reason,
            message=message,
            started_at=rfc3339(end.started_at) if end.started_at else None,
            finished_at=rfc3339(end.finished_at) if end.finished_at else None,
            container_id=id_,
        )
    )


def final_words(container: Container, attempt: Attempt, end: Exit) -> str:
    """The end of the log, for a failed container whose terminationMessagePolicy is FallbackToLogsOnError."""
    if end.code == 0 or container.termination_message_policy != "FallbackToLogsOnError":
        return ""
    try:
        with attempt.log.open("rb") as file:
            file.seek(max(0, attempt.log.stat().st_size - 2 * FINAL_BYTES))
            lines = file.read().splitlines()[-FINAL_LINES:]
    except OSError:
        return ""
    texts = [line.split(b" ", 3)[-1] for line in lines]
    return b"\n".join(texts)[-FINAL_BYTES:].decode("utf-8", "replace")


def _last(status: ContainerStatus) -> ContainerState:
    return status.state if status.state.terminated else status.last_state
