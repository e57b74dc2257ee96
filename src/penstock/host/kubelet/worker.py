"""One pod from its first sight to its end: address, volumes, init containers, containers, termination.

The worker's life is a task that can be cancelled at any point without harm to the processes; ending them is a second, separate
step that works from what is on disk.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from penstock.contracts.cluster import Preconditions
from penstock.host.kubelet.addresses import Addresses
from penstock.host.kubelet.attempts import attempts
from penstock.host.kubelet.container import DEFAULT_GRACE_S, ContainerRunner
from penstock.host.kubelet.context import PodContext, Tools
from penstock.host.kubelet.layout import PodRecord, Verdict
from penstock.host.kubelet.notices import give_notice
from penstock.host.kubelet.publisher import Publisher
from penstock.host.kubelet.status import Observed, pod_status
from penstock.kit.errors import Conflict, NotFound, PlatformError, Unavailable
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.pod import Container, Pod, PodStatus

log = logging.getLogger(__name__)
RETRY_S = 1.0
LONGEST_RETRY_S = 15.0
TERMINAL = ("Succeeded", "Failed")
STOPPED = Verdict("Pending", "PlatformStopped", "Penstock was stopped; the pod runs again at its next start")
OVERDUE = Verdict(
    "Failed", "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the pod's processes shall end. `again`: they are to run again at the platform's next start."""

    why: str
    grace_s: float
    again: bool = False


class PodWorker:
    """Drives one pod. `update` brings news; `run` is the whole life; nothing else may touch the pod's folder."""

    def __init__(self, tools: Tools, addresses: Addresses, pod: Pod) -> None:
        folder = tools.layout.pod(pod.spec.node_name, pod.metadata.uid)
        self._addresses = addresses
        self._context = PodContext(tools, pod, folder, self._changed)
        self._publisher = Publisher(tools.cluster, tools.clock, pod, self._status)
        record = folder.read()
        start_time = pod.status.start_time
        seen_at = parse_rfc3339(start_time) if start_time else tools.clock.now()
        self._started_at = record.started_at if record else seen_at
        self._context.address = record.address if record else ""
        self._verdict: Verdict | None = None
        self._ending: Ending | None = None
        self._end_asked = asyncio.Event()
        self._hurry = asyncio.Event()
        spec = pod.spec
        init_policy = "Never" if spec.restart_policy == "Never" else "OnFailure"
        pending = "PodInitializing" if spec.init_containers else "ContainerCreating"
        self._init = [
            ContainerRunner(
                self._context, each, each.restart_policy or init_policy, pending="PodInitializing"
            )
            for each in spec.init_containers
        ]
        self._main = [
            ContainerRunner(self._context, each, spec.restart_policy or "Always", pending=pending)
            for each in spec.containers
        ]

    @property
    def pod(self) -> Pod:
        """The newest version that was seen."""
        return self._context.pod

    def update(self, pod: Pod) -> None:
        """A newer version of the same pod."""
        self._context.pod = pod
        self._publisher.seen(pod)
        if pod.metadata.deletion_timestamp:
            grace_s = pod.metadata.deletion_grace_period_seconds
            self.end(Ending("deleted", self._grace_s() if grace_s is None else float(grace_s)))

    def end(self, ending: Ending) -> None:
        """Ask for the pod's end. A later call may turn a stop into a deletion, or shorten the grace to nothing."""
        if self._ending is None or (self._ending.again and not ending.again):
            self._ending = ending
        if self._end_asked.is_set():  # asked again: from now on the shorter grace counts
            asyncio.get_running_loop().call_later(max(0.0, ending.grace_s), self._hurry.set)
        self._end_asked.set()

    def longest_grace_s(self, limit_s: float | None) -> float:
        """The pod's own grace period, or `limit_s` where that is shorter."""
        return self._grace_s() if limit_s is None else min(limit_s, self._grace_s())

    async def run(self) -> None:
        """Until the pod is gone, or (`again`) stopped. Cancelling it leaves the processes running."""
        publishing = asyncio.ensure_future(self._publisher.run())
        try:
            await self._until_asked()
            ending = self._ending
            assert ending is not None
            await self._terminate(ending)
            if ending.again and self._ending is ending:
                await self._publisher.flush()
            else:
                await self._leave()
        finally:
            publishing.cancel()
            await asyncio.wait([publishing])

    async def _until_asked(self) -> None:
        life = asyncio.ensure_future(self._life())
        asked = asyncio.ensure_future(self._end_asked.wait())
        try:
            await asyncio.wait((life, asked), return_when=asyncio.FIRST_COMPLETED)
            await self._end_asked.wait()
        finally:
            asked.cancel()
            life.cancel()
            await asyncio.wait([life, asked])

    async def _life(self) -> None:
        retry_s = RETRY_S
        while True:
            try:
                return await self._live()
            except Exception as error:  # the outermost loop of one pod: a fault of ours must not end it
                log.exception("pod %s/%s", self.pod.metadata.namespace, self.pod.metadata.name)
                self._context.event(
                    "Warning", "FailedSync", f"error syncing pod, will try again: {type(error).__name__}"
                )
            await self._context.tools.clock.sleep(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    async def _live(self) -> None:
        status, folder = self.pod.status, self._context.folder
        if status.phase in TERMINAL:
            self._verdict = Verdict(status.phase, status.reason, status.message)
            return
        if folder.finished.exists():
            self._verdict = folder.verdict()
            self._changed()
            return
        deadline_s = self.pod.spec.active_deadline_seconds
        left_s = None
        if deadline_s is not None:
            left_s = max(0.0, self._started_at + deadline_s - self._context.tools.clock.now())
        try:
            async with asyncio.timeout(left_s):
                await self._serve()
        except TimeoutError:
            if left_s is None:
                raise
            self._context.event("Normal", "DeadlineExceeded", OVERDUE.message)
            await self._terminate(Ending("deadline", self._grace_s()))
            self._verdict = OVERDUE
        folder.finish(self._verdict)
        self._changed()

    async def _serve(self) -> None:
        await self._insist(self._take_address, "FailedCreatePodSandBox")
        self._changed()
        self._say_limits()
        await self._insist(self._context.prepare_volumes, "FailedMount")
        async with asyncio.TaskGroup() as group:
            sidecars = []
            for runner in self._init:
                task = group.create_task(runner.run())
                if runner.container.restart_policy == "Always":
                    sidecars.append(task)
                    await runner.started.wait()
                elif await task != 0:
                    break
            else:
                mains = [group.create_task(runner.run()) for runner in self._main]
                await asyncio.gather(*mains)
            for task in sidecars:
                task.cancel()
        for runner in reversed(self._init):
            await runner.stop(self._grace_s(), self._hurry)

    async def _insist(self, step: Callable[[], Awaitable[None]], reason: str) -> None:
        retry_s = RETRY_S
        while True:
            try:
                return await step()
            except PlatformError as error:
                message = f"{error}: {error.hint}" if error.hint else str(error)
                self._context.event("Warning", reason, message)
                for runner in (*self._init, *self._main):
                    runner.show_waiting("ContainerCreating", message)
            await self._context.tools.clock.sleep(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    async def _take_address(self) -> None:
        meta, record = self.pod.metadata, self._context.folder.read()
        containers = (*self.pod.spec.init_containers, *self.pod.spec.containers)
        ports = [port.container_port for container in containers for port in container.ports]
        alive = any(self._is_running(container) for container in containers)
        wish = record.address if record else ""
        self._context.address = self._addresses.take(meta.uid, ports, wish, in_use=alive)
        address = self._context.address
        self._context.folder.write(PodRecord(meta.namespace, meta.name, meta.uid, address, self._started_at))
        self._context.tools.layout.cache(self.pod.spec.node_name).mkdir(
            mode=0o700, parents=True, exist_ok=True
        )

    def _is_running(self, container: Container) -> bool:
        kept = attempts(self._context.folder.container(container.name))
        return bool(kept) and kept[-1].is_running()

    def _say_limits(self) -> None:
        limits = self._context.tools.limits
        limited = [
            container.name
            for container in (*self.pod.spec.init_containers, *self.pod.spec.containers)
            if container.resources and {"cpu", "memory"} & set(container.resources.limits)
        ]
        if limits.base is None and limited and not self.pod.status.start_time:
            names = ", ".join(limited)
            self._context.event(
                "Warning",
                "LimitsNotEnforced",
                f"cpu and memory limits of {names} are not enforced: {limits.why}",
            )

    async def _terminate(self, ending: Ending) -> None:
        now = self._context.tools.clock.monotonic
        until = now() + ending.grace_s
        give_notice(
            self.pod, self._context.folder, ending.why, self._context.tools.clock.now() + ending.grace_s
        )
        for runners in (self._main, self._init):  # sidecars end last
            left_s = max(0.0, until - now())
            stops = (runner.stop(left_s, self._hurry, again=ending.again) for runner in runners)
            await asyncio.gather(*stops)
        ended = self.pod.status.phase in TERMINAL or self._context.folder.finished.exists()
        if ending.again and not ended:
            for runner in self._main:
                runner.show_waiting(STOPPED.reason, STOPPED.message)
            self._verdict = STOPPED
        self._changed()

    async def _leave(self) -> None:
        """Processes are gone: write the last status, free what the pod had, and let the object go."""
        if self._ending and self._ending.why == "deleted":
            await self._publisher.flush()
        await asyncio.to_thread(shutil.rmtree, self._context.folder.path, True)
        self._addresses.release(self.pod.metadata.uid)
        if not (self._ending and self._ending.why == "deleted"):
            return
        meta, cluster = self.pod.metadata, self._context.tools.cluster
        retry_s = RETRY_S
        while True:
            try:
                only = Preconditions(uid=meta.uid)
                await cluster.delete(Pod, meta.name, meta.namespace, grace_period_s=0, preconditions=only)
                return
            except (NotFound, Conflict):  # a Conflict: the name belongs to another pod by now
                return
            except Unavailable as error:
                log.warning("pod %s/%s cannot be removed yet: %s", meta.namespace, meta.name, error)
            await self._context.tools.clock.sleep(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    def _grace_s(self) -> float:
        grace_s = self.pod.spec.termination_grace_period_seconds
        return DEFAULT_GRACE_S if grace_s is None else float(grace_s)

    def _changed(self) -> None:
        self._publisher.changed()

    def _status(self, pod: Pod) -> PodStatus:
        observed = Observed(
            address=self._context.address,
            started_at=self._started_at,
            init=tuple(runner.status for runner in self._init),
            containers=tuple(runner.status for runner in self._main),
            verdict=self._verdict,
        )
        return pod_status(pod, observed, self._context.tools.clock.now())
