"""Asks a running container how it is, for as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from penstock.host.kubelet.actions import Target, act
from penstock.host.kubelet.probing import ProbeRule, ProbeState, observe, pause_s, rule_of
from penstock.resources.pod import Container, Probe


class Listener(Protocol):
    """Who is told what the probes found."""

    def on_started(self) -> None:
        """The startup probe succeeded, or there is none."""
        ...

    def on_ready(self, ready: bool) -> None:
        """The readiness probe's verdict changed."""
        ...

    def on_unhealthy(self, message: str) -> None:
        """A probe failed."""
        ...


async def watch(container: Container, target: Target, listener: Listener, *, started: bool) -> str:
    """Probe until the container must be killed, and say why; "" at once if there is nothing to probe.

    The startup probe comes first and alone; `started` skips it (an adopted container that had started before).
    """
    if container.startup_probe and not started:
        async for state in _verdicts("Startup", container.startup_probe, target, listener, eager=True):
            if state.verdict:
                break
            if state.verdict is False:
                return f"Container {container.name} failed startup probe, will be restarted"
    listener.on_started()
    readiness = asyncio.ensure_future(_readiness(container.readiness_probe, target, listener))
    try:
        if container.liveness_probe:
            async for state in _verdicts("Liveness", container.liveness_probe, target, listener, eager=False):
                if state.verdict is False:
                    return f"Container {container.name} failed liveness probe, will be restarted"
        await readiness
    finally:
        readiness.cancel()
    return ""


async def _readiness(probe: Probe | None, target: Target, listener: Listener) -> None:
    if probe is None:
        return
    async for state in _verdicts("Readiness", probe, target, listener, eager=True):
        if state.verdict is not None:
            listener.on_ready(state.verdict)


async def _verdicts(
    kind: str, probe: Probe, target: Target, listener: Listener, *, eager: bool
) -> AsyncIterator[ProbeState]:
    """The state after every answer, for ever."""
    rule: ProbeRule = rule_of(probe, eager=eager)
    state, seen_success = ProbeState(), False
    now = asyncio.get_running_loop().time
    began = now()
    await asyncio.sleep(rule.initial_delay_s)
    counted_at = now()
    while True:
        counted = now() >= counted_at
        if counted:
            counted_at = max(counted_at + rule.period_s, now())
        answer = await act(probe, target, rule.timeout_s)
        state = observe(state, rule, ok=answer.ok, counted=counted)
        if counted and not answer.ok:
            listener.on_unhealthy(f"{kind} probe failed: {answer.message}")
        seen_success = seen_success or state.verdict is True
        yield state
        remaining_s = counted_at - now()
        await asyncio.sleep(
            pause_s(rule, since_start_s=now() - began, until_counted_s=remaining_s, seen_success=seen_success)
        )
