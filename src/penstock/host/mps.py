"""NVIDIA's MPS daemon of this machine: started while GPUs are shared by MPS, asked whether it answers, started again with growing pauses.

Programs find it by CUDA_MPS_PIPE_DIRECTORY, which the kubelet gives those that hold a replica. While it does not answer nothing parts the GPUs'
memory, so they are tainted (`look`). It outlives a control plane that ends without its pods, and the next one finds it answering.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from penstock.contracts.controller import Cache, Key, Recorder, Watch
from penstock.contracts.devices import Gpu
from penstock.decide.gpu_health import MPS, GpuFault
from penstock.kit.backoff import delay_s
from penstock.kit.clock import Clock
from penstock.resources.core import Node
from penstock.resources.devices import ResourceSlice
from penstock.resources.meta import Resource

PROGRAM = "nvidia-cuda-mps-control"
LOOK_S = 10.0
"""How often the daemon is asked."""
ANSWER_S = 10.0
"""How long it may take to answer."""
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 300.0
MIB = 1 << 20
MAX_WORDS = 400
"""Of what a failing daemon says."""


class MpsDaemon:
    """One node's daemon; `folder` holds its pipes and its log."""

    name = "mps"

    def __init__(
        self,
        cache: Cache,
        recorder: Recorder,
        clock: Clock,
        *,
        node: str,
        folder: Path,
        gpus: Callable[[str], tuple[Gpu, ...]],
    ) -> None:
        """See `contracts/controller.py`; `gpus(node)` are a node's devices."""
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._node = node
        self._gpus = gpus
        self._folder = folder
        self._failures = 0
        self._next_at = 0.0
        self._told: Sequence[str] | None = None
        """The limits that the daemon was told, None while it does not answer."""
        self._needing: tuple[str, ...] = ()

    def watches(self) -> tuple[Watch, ...]:
        """How the node's GPUs are shared."""
        return (Watch(ResourceSlice, self._own),)

    def _own(self, obj: Resource) -> Iterable[Key]:
        assert isinstance(obj, ResourceSlice), "the watch is on slices"
        return (Key("", self._node),) if obj.spec.node_name == self._node else ()

    def look(self) -> tuple[GpuFault, ...]:
        """Its absence, of every GPU that needs it."""
        return () if self._told is not None else tuple(GpuFault(uuid, MPS) for uuid in self._needing)

    async def reconcile(self, key: Key) -> float | None:
        """Ask it, start it where it does not answer, end it where no GPU is shared so."""
        shared = self._shared()
        self._needing = tuple(gpu.uuid for gpu in shared)
        if not shared:
            if self._told is not None:
                await self._end()
            return None
        if self._told is not None and not await self._answers():
            self._told = None
            self._event(
                "Warning", "MpsFailed", "The MPS daemon does not answer any more: it is started again"
            )
        if self._told is None:
            if (left_s := self._next_at - self._clock.monotonic()) > 0:
                return left_s
            if why := await self._started():
                return self._failed(why)
        limits = _limits(shared)
        if self._told != limits and (why := await self._limited(limits)):
            return self._failed(why)
        return LOOK_S

    async def _limited(self, limits: tuple[str, ...]) -> str:
        """Why the daemon could not be told, "" where it was."""
        for command in limits:
            code, words = await self._run(command)
            if code:
                return f"{command}: {words}"
        if self._told is None:
            self._event("Normal", "MpsStarted", f"The MPS daemon answers in {self._folder}")
        self._told, self._failures = limits, 0
        return ""

    async def close(self) -> None:
        """End it. Only where the pods' processes were ended too: without it those that work through it fail."""
        if self._told is not None:
            await self._end()

    def _shared(self) -> tuple[Gpu, ...]:
        """The real GPUs that are shared by MPS."""
        found = self._gpus(self._node)
        return tuple(gpu for gpu in found if gpu.driver and gpu.sharing.strategy == "mps" and not gpu.is_mig)

    async def _answers(self) -> bool:
        code, _ = await self._run("get_default_active_thread_percentage")
        return code == 0

    async def _started(self) -> str:
        """Why it could not be, "" where it answers."""
        if await self._answers():
            return ""  # an earlier control plane started it
        for name in ("pipe", "log"):
            (self._folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        code, words = await self._run(None)
        if code:
            return words
        return "" if await self._answers() else "it was started and does not answer"

    def _failed(self, why: str) -> float:
        self._told = None
        self._failures += 1
        pause_s = delay_s(self._failures, base_s=FIRST_PAUSE_S, cap_s=LAST_PAUSE_S)
        self._next_at = self._clock.monotonic() + pause_s
        self._event("Warning", "MpsFailed", f"GPUs that are shared by MPS get no new pods: {why}")
        return pause_s

    async def _end(self) -> None:
        """It takes no new programs, and ends with the last that it has."""
        self._told = None
        await self._run("quit")

    def _event(self, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        node = self._cache.get(Node, self._node)
        if node is not None:
            self._recorder.event(node, type_, reason, message)

    async def _run(self, command: str | None) -> tuple[int, str]:
        """A command to the daemon, or None to start it in the background: the exit code, and what was said."""
        program = shutil.which(PROGRAM)
        if program is None:
            return 127, f"{PROGRAM} is not on PATH; it comes with NVIDIA's driver"
        argv = [program, "-d"] if command is None else [program]
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **mps_environment(self._folder)},
                start_new_session=True,
            )
        except OSError as error:
            return 126, f"{program}: {error.strerror}"
        try:
            async with asyncio.timeout(ANSWER_S):
                said, _ = await process.communicate(f"{command or ''}\n".encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            return 124, f"no answer in {ANSWER_S:g} s"
        words = said.decode("utf-8", "replace").strip()[:MAX_WORDS]
        return process.returncode or 0, words or f"exit code {process.returncode}"


def mps_environment(folder: Path) -> dict[str, str]:
    """Where the daemon of this folder has its pipes and its log."""
    return {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}


def _limits(shared: Iterable[Gpu]) -> tuple[str, ...]:
    """What a program gets that sets no limit itself: its part of each device."""
    found = []
    for gpu in shared:
        size = gpu.type.memory_bytes // gpu.sharing.replicas // MIB
        found.append(f"set_default_device_pinned_mem_limit {gpu.index} {size}M")
    percent = min((max(1, 100 // gpu.sharing.replicas) for gpu in shared), default=100)
    return (*found, f"set_default_active_thread_percentage {percent}")
