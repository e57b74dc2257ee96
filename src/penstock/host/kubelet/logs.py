"""A container's log as `kubectl logs` wants it: across rotation and restarts, followed or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from penstock.host.kubelet.attempts import Attempt, attempts
from penstock.host.kubelet.layout import Layout, PodFolder
from penstock.host.kubelet.logfile import Format, LogReader
from penstock.kit.clock import Clock
from penstock.kit.errors import InvalidInput, nearest
from penstock.resources.pod import Pod

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
POLL_S = 0.2


class PodLogs:
    """Reads the logs below one data folder."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self._layout = Layout(home)
        self._clock = clock

    def open_log(
        self,
        pod: Pod,
        container: str = "",
        *,
        follow: bool = False,
        tail_lines: int | None = None,
        since_s: float | None = None,
        timestamps: bool = False,
        previous: bool = False,
        limit_bytes: int | None = None,
    ) -> AsyncIterator[bytes]:
        """The log's bytes in pieces. With `follow`, until no container of the pod will run again, or the pod is gone.

        Raises at once InvalidInput (400, worded as Kubernetes does) for an unknown container, one that has not run yet, or
        one without an earlier run.
        """
        name = _container(pod, container)
        folder = self._layout.pod(pod.spec.node_name or "unassigned", pod.metadata.uid)
        kept = attempts(folder.container(name))
        if previous and len(kept) < 2:
            text = f'previous terminated container "{name}" in pod "{pod.metadata.name}" not found'
            raise InvalidInput(
                text, code="no_previous_container", hint="it has not restarted; leave out --previous"
            )
        if not kept and not follow:
            text = (
                f'container "{name}" in pod "{pod.metadata.name}" is waiting to start: {_reason(pod, name)}'
            )
            raise InvalidInput(
                text, code="container_waiting", hint="see its state with `kubectl describe pod`"
            )
        since = None if since_s is None else self._clock.now() - since_s
        format_ = Format(timestamps, since)
        if previous:
            pieces = _past(kept[-2], format_, tail_lines)
        elif follow:
            pieces = self._followed(folder, name, format_, tail_lines)
        else:
            pieces = _past(kept[-1], format_, tail_lines)
        return pieces if limit_bytes is None else _limited(pieces, limit_bytes)

    async def _followed(
        self, folder: PodFolder, name: str, format_: Format, tail_lines: int | None
    ) -> AsyncIterator[bytes]:
        number = -1
        while True:
            newer = [attempt for attempt in attempts(folder.container(name)) if attempt.number > number]
            if newer:
                attempt = newer[-1] if number < 0 else newer[0]
                number = attempt.number
                async for piece in self._until_ended(folder, attempt, format_, tail_lines):
                    yield piece
                tail_lines = None
            elif _is_over(folder):
                return
            else:
                await self._clock.sleep(POLL_S)

    async def _until_ended(
        self, folder: PodFolder, attempt: Attempt, format_: Format, tail_lines: int | None
    ) -> AsyncIterator[bytes]:
        """An attempt without a process is one that has not started yet, unless it is too late for that."""
        reader = LogReader(attempt.log, tail_lines)
        try:
            while True:
                begun = attempt.identity() is not None or _is_over(folder) or _has_successor(attempt)
                ended = (
                    begun and not attempt.is_running()
                )  # asked before the read, so that the last lines are seen
                if raw := reader.read():
                    yield format_.text(raw)
                    await asyncio.sleep(0)
                elif ended:
                    return
                else:
                    await self._clock.sleep(POLL_S)
        finally:
            reader.close()


def _is_over(folder: PodFolder) -> bool:
    """Whether no container of the pod will run again."""
    return folder.finished.exists() or not folder.path.exists()


def _has_successor(attempt: Attempt) -> bool:
    """Whether the container was tried again since."""
    return any(other.number > attempt.number for other in attempts(attempt.folder.parent))


async def _past(attempt: Attempt, format_: Format, tail_lines: int | None) -> AsyncIterator[bytes]:
    reader = LogReader(attempt.log, tail_lines)
    try:
        while raw := reader.read():
            yield format_.text(raw)
            await asyncio.sleep(0)
    finally:
        reader.close()


async def _limited(pieces: AsyncIterator[bytes], limit_bytes: int) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece[:limit_bytes]
        limit_bytes -= len(piece)
        if limit_bytes <= 0:
            return


def _container(pod: Pod, name: str) -> str:
    names = [each.name for each in (*pod.spec.containers, *pod.spec.init_containers)]
    chosen = name or pod.metadata.annotations.get(DEFAULT_CONTAINER, "") or (names[0] if names else "")
    if chosen in names:
        return chosen
    close = nearest(chosen, names)
    raise InvalidInput(
        f"container {chosen} is not valid for pod {pod.metadata.name}",
        code="container_not_valid",
        hint=f"did you mean {close[0]!r}?" if close else f"containers of this pod: {', '.join(names)}",
    )


def _reason(pod: Pod, name: str) -> str:
    for status in (*pod.status.container_statuses, *pod.status.init_container_statuses):
        if status.name == name and status.state.waiting:
            return status.state.waiting.reason
    return "ContainerCreating"
