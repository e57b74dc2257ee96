"""One container: start it, probe it, see it end, start it again; and stop it gracefully.

The state lies in the attempt folders and in the process; a runner that is cancelled only lets go of them, and a new runner
(perhaps of a new control plane) takes them up again.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from msgspec import structs

from penstock.host.kubelet.actions import Target, act
from penstock.host.kubelet.attempts import Attempt, Exit, ProcessSpec, attempts, done, start
from penstock.host.kubelet.command import CannotRun
from penstock.host.kubelet.context import PodContext
from penstock.host.kubelet.prober import watch
from penstock.host.kubelet.restart import Crashes, after_exit, restarts
from penstock.host.kubelet.states import container_id, final_words, first_status, running, terminated, waiting
from penstock.kit.errors import PlatformError, Unavailable
from penstock.resources.pod import Container, ContainerState, ContainerStatus

RETRY_S = 1.0
LONGEST_RETRY_S = 30.0
DEFAULT_GRACE_S = 30.0


class ContainerRunner:
    """Runs one container of a pod under the given restart policy; `status` is what the pod's status says of it."""

    def __init__(self, context: PodContext, container: Container, policy: str, *, pending: str) -> None:
        """`pending` is the reason shown until it starts: ContainerCreating or PodInitializing."""
        self.container = container
        self.started = asyncio.Event()
        self._context = context
        self._policy = policy
        self._crashes = Crashes()
        self._folder = context.folder.container(container.name)
        self._target: Target | None = None
        kept = attempts(self._folder)
        self.status: ContainerStatus = first_status(
            context.pod, container, pending, adopted=bool(kept) and kept[-1].is_running()
        )
        if kept and (end := kept[-1].ended()) and not kept[-1].stopped:
            self._show(self._ended(kept[-1], end))

    async def run(self) -> int:
        """Until the container has ended and its policy asks for no more; returns its exit code."""
        kept = attempts(self._folder)
        attempt: Attempt | None = kept[-1] if kept and kept[-1].identity() else None
        number = kept[-1].number if kept else 0
        if kept and attempt is None:
            # Its start was cut short. Without its folder, a shim that is still on its way gives up.
            kept[-1].discard()
            number += 1
        while True:
            current = attempt or await self._start(number)
            end = await self._live(current)
            ended = self._ended(current, end)
            self._context.tools.limits.leave(self._context.pod.metadata.uid, self.container.name)
            if current.stopped:  # not its own doing: it runs again, whatever its policy
                self._show(waiting(ended, "ContainerCreating"))
            else:
                self._show(ended)
                if not restarts(self._policy, end.code):
                    return end.code
                await self._back_off(end)
            attempt, number = None, current.number + 1

    async def stop(self, grace_s: float, hurry: asyncio.Event, *, again: bool = False) -> None:
        """End a running attempt: preStop hook, stop signal, and SIGKILL after `grace_s` or when `hurry` is set.

        `again` marks it as stopped by the platform, to be run again at the next start.
        """
        kept = attempts(self._folder)
        if not kept or not kept[-1].is_running():
            return
        attempt = kept[-1]
        if again:
            attempt.mark_stopped()
        self._context.event("Normal", "Killing", f"Stopping container {self.container.name}")
        await self._stop_attempt(attempt, grace_s, hurry)
        self._show(self._ended(attempt, await attempt.wait()))
        self._context.tools.limits.leave(self._context.pod.metadata.uid, self.container.name)

    def show_waiting(self, reason: str, message: str = "") -> None:
        """Say why the container does not run."""
        self._show(waiting(self.status, reason, message))

    def on_started(self) -> None:
        """The startup probe succeeded, or there is none."""
        ready = self.status.ready or self.container.readiness_probe is None
        self._show(structs.replace(self.status, started=True, ready=ready))

    def on_ready(self, ready: bool) -> None:
        """The readiness probe's verdict changed."""
        self._show(structs.replace(self.status, ready=ready))

    def on_unhealthy(self, message: str) -> None:
        """A probe failed."""
        self._context.event("Warning", "Unhealthy", message)

    async def _start(self, number: int) -> Attempt:
        retry_s = RETRY_S
        while True:
            try:
                spec, self._target = await self._context.process(self.container)
                attempt = await self._at_once(number, spec) or await self._launch(number, spec)
                self._context.event("Normal", "Created", f"Created container {self.container.name}")
                return attempt
            except (PlatformError, OSError) as error:
                self._refused(error)
            await self._context.tools.clock.sleep(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    async def _launch(self, number: int, spec: ProcessSpec) -> Attempt:
        limits = self.container.resources.limits if self.container.resources else {}
        uid = self._context.pod.metadata.uid
        self._context.starts(spec.env)
        group = self._context.tools.limits.enter(uid, self.container.name, limits)
        return await start(self._folder, number, replace(spec, cgroup=group))

    async def _at_once(self, number: int, spec: ProcessSpec) -> Attempt | None:
        """Without a process; None where it needs one, as all do that are to stay."""
        if self.container not in self._context.pod.spec.init_containers:
            return None
        clock = self._context.tools.clock
        began = clock.now()
        said = await asyncio.to_thread(self._context.tools.at_once, spec.argv)
        return None if said is None else done(self._folder, number, said, began, clock.now())

    def _refused(self, error: PlatformError | OSError) -> None:
        message = str(error)
        if isinstance(error, PlatformError) and error.hint:
            message = f"{message}: {error.hint}"
        reason = "CreateContainerConfigError"
        if isinstance(error, CannotRun):
            reason = error.waiting_reason
        elif isinstance(error, Unavailable | OSError):
            reason = "CreateContainerError"
        self.show_waiting(reason, message)
        self._context.event("Warning", "Failed", f"Error: {message}")

    async def _live(self, attempt: Attempt) -> Exit:
        found = attempt.identity()
        if attempt.ended() or found is None:
            return await attempt.wait()
        self._begin(attempt, found[2])
        async with asyncio.TaskGroup() as group:
            side = group.create_task(self._attend(attempt))
            end = await attempt.wait()
            side.cancel()
        return end

    def _begin(self, attempt: Attempt, started_at: float) -> None:
        adopted = (
            self.status.container_id == self._id(attempt.number) and self.status.state.running is not None
        )
        status = running(self.status, self._id(attempt.number), attempt.number, started_at)
        if adopted:  # what was true a moment ago holds until a probe says otherwise
            was_started = bool(self.status.started)
            self._show(structs.replace(status, started=was_started, ready=self.status.ready and was_started))
        else:
            self._context.event("Normal", "Started", f"Started container {self.container.name}")
            self._show(status)

    async def _attend(self, attempt: Attempt) -> None:
        """Hooks and probes of a running attempt; ends it if they say so."""
        verdict = await self._hooked() or await watch(
            self.container, await self._aim(), self, started=bool(self.status.started)
        )
        if verdict:
            self._context.event("Normal", "Killing", verdict)
            probe = self.container.liveness_probe
            grace_s = probe.termination_grace_period_seconds if probe else None
            if grace_s is None:
                grace_s = self._context.pod.spec.termination_grace_period_seconds
            await self._stop_attempt(
                attempt, DEFAULT_GRACE_S if grace_s is None else grace_s, asyncio.Event()
            )

    async def _hooked(self) -> str:
        hook = self.container.lifecycle.post_start if self.container.lifecycle else None
        if hook is None or self.status.started:
            return ""
        answer = await act(hook, await self._aim(), DEFAULT_GRACE_S)
        if answer.ok:
            return ""
        self._context.event("Warning", "FailedPostStartHook", f"PostStartHook failed: {answer.message}")
        return f"Container {self.container.name} failed its postStart hook, will be killed"

    async def _aim(self) -> Target:
        while self._target is None:  # adopted: environment and mounts are worked out anew
            try:
                _, self._target = await self._context.process(self.container)
            except (PlatformError, OSError):
                await self._context.tools.clock.sleep(LONGEST_RETRY_S)
        return self._target

    async def _stop_attempt(self, attempt: Attempt, grace_s: float, hurry: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(grace_s):
                gone = asyncio.ensure_future(self._ask_to_stop(attempt, grace_s))
                hurried = asyncio.ensure_future(hurry.wait())
                try:
                    await asyncio.wait((gone, hurried), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    gone.cancel()
                    hurried.cancel()
        except TimeoutError:
            pass
        await attempt.kill()

    async def _ask_to_stop(self, attempt: Attempt, grace_s: float) -> None:
        hook = self.container.lifecycle.pre_stop if self.container.lifecycle else None
        if hook:
            answer = await act(hook, await self._aim(), grace_s)
            if not answer.ok:
                self._context.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {answer.message}")
        attempt.terminate()
        await attempt.wait()

    async def _back_off(self, end: Exit) -> None:
        self._crashes, whole_s = after_exit(self._crashes, end.finished_at - end.started_at)
        delay_s = whole_s - max(0.0, self._context.tools.clock.now() - end.finished_at)
        if delay_s <= 0:
            return
        name, pod = self.container.name, self._context.pod.metadata
        text = f"Back-off restarting failed container {name} in pod {pod.name}"
        self._context.event("Warning", "BackOff", text)
        self.show_waiting("CrashLoopBackOff", f"back-off {whole_s:.0f}s {text.removeprefix('Back-off ')}")
        await self._context.tools.clock.sleep(delay_s)

    def _ended(self, attempt: Attempt, end: Exit) -> ContainerStatus:
        return structs.replace(
            self.status,
            ready=False,
            started=False,
            state=self._terminated(attempt, end),
            restart_count=attempt.number,
            container_id=self._id(attempt.number),
        )

    def _terminated(self, attempt: Attempt, end: Exit) -> ContainerState:
        uid = self._context.pod.metadata.uid
        oom = end.code == 137 and self._context.tools.limits.was_out_of_memory(uid, self.container.name)
        return terminated(
            self._id(attempt.number), end, message=final_words(self.container, attempt, end), oom=oom
        )

    def _id(self, number: int) -> str:
        return container_id(self._context.pod, self.container, number)

    def _show(self, status: ContainerStatus) -> None:
        if status != self.status:
            self.status = status
            if status.started:
                self.started.set()
            self._context.changed()
