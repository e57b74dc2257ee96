"""The MPS daemon is kept alive.

Faults are injected: the program on PATH is a stand-in that behaves as NVIDIA's (`-d` leaves a daemon behind, otherwise commands are read and
fail where no daemon is), so that it can be killed and made to fail. With a real GPU and driver the last test asks the real one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from penstock.app.gpu_types import find_gpu_type
from penstock.contracts.controller import Key
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, Sharing
from penstock.decide.gpu_health import MPS, GpuFault, taint_of
from penstock.host.gpu_faults import GpuFaults
from penstock.host.kubelet.devices import container_devices
from penstock.host.mps import FIRST_PAUSE_S, LOOK_S, PROGRAM, MpsDaemon
from penstock.resources.core import Node
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec
from penstock.testing.clock import HandClock

KEY = Key("", "n")
QUARTER = Sharing(strategy="mps", replicas=4, resource="nvidia.com/gpu.shared")
SHARED = Gpu(index=0, uuid="GPU-0", type=find_gpu_type("l4"), driver="565.57.1", sharing=QUARTER)
STAND_IN = """#!{python}
import os, signal, subprocess, sys
pipe, log = os.environ["CUDA_MPS_PIPE_DIRECTORY"], os.environ["CUDA_MPS_LOG_DIRECTORY"]
pid_file = os.path.join(pipe, "pid")
def daemon():
    try:
        pid = int(open(pid_file).read())
        return 0 if open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()[0] == "Z" else pid
    except (OSError, ValueError):
        return 0
if os.path.exists(os.path.join(os.path.dirname(__file__), "broken")):
    sys.exit("MPS control daemon: cannot get exclusive access")
if sys.argv[1:] == ["-d"]:
    child = subprocess.Popen(["/bin/sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
    open(pid_file, "w").write(str(child.pid))
    sys.exit(0)
command = sys.stdin.readline().strip()
if not daemon():
    print("Cannot find MPS control daemon process"); sys.exit(1)
open(os.path.join(log, "commands"), "a").write(command + "\\n")
if command == "quit":
    os.kill(daemon(), signal.SIGTERM)
"""


class Machine:
    """The cache and the recorder of node `n`, as far as the daemon's keeper asks them."""

    def __init__(self, folder: Path) -> None:
        self.gpus: tuple[Gpu, ...] = (SHARED,)
        self.events: list[tuple[str, str]] = []
        self.folder = folder
        self.clock = HandClock()

    def get(self, kind: type, name: str) -> Node:
        return Node(metadata=ObjectMeta(name=name))

    def event(self, node: Node, type_: str, reason: str, message: str) -> None:
        self.events.append((reason, message))

    def keeper(self) -> MpsDaemon:
        own = cast(Any, self)
        return MpsDaemon(own, own, self.clock, node="n", folder=self.folder, gpus=lambda _: self.gpus)

    def pid(self) -> int:
        return int((self.folder / "pipe" / "pid").read_text())

    def commands(self) -> list[str]:
        return (self.folder / "log" / "commands").read_text().split("\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    program = tmp_path / "bin" / PROGRAM
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    made = Machine(tmp_path / "mps")
    yield made
    if (made.folder / "pipe" / "pid").exists() and is_alive(made.pid()):
        os.kill(made.pid(), signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(pid: int) -> None:
    """Whoever is told to end does it in its own time."""
    async with asyncio.timeout(30):
        while is_alive(pid):
            await asyncio.sleep(0.01)


async def test_the_daemon_runs_while_gpus_are_shared_by_it_and_is_told_each_programs_part(
    machine: Any,
) -> None:
    keeper = machine.keeper()
    assert await keeper.reconcile(KEY) == LOOK_S
    assert is_alive(machine.pid())
    assert keeper.look() == ()
    size = SHARED.type.memory_bytes // 4 // (1 << 20)
    assert f"set_default_device_pinned_mem_limit 0 {size}M" in machine.commands()
    assert "set_default_active_thread_percentage 25" in machine.commands()
    assert [reason for reason, _ in machine.events] == ["MpsStarted"]
    machine.gpus = (replace(SHARED, sharing=Sharing()),)
    await keeper.reconcile(KEY)
    await gone(machine.pid())


async def test_a_daemon_that_died_is_started_again_and_an_event_says_so(machine: Any) -> None:
    keeper = machine.keeper()
    await keeper.reconcile(KEY)
    before = machine.pid()
    os.kill(before, signal.SIGKILL)
    await gone(before)
    await keeper.reconcile(KEY)
    assert is_alive(machine.pid())
    assert machine.pid() != before
    assert [reason for reason, _ in machine.events] == ["MpsStarted", "MpsFailed", "MpsStarted"]


async def test_a_daemon_that_does_not_start_taints_its_gpus_and_is_tried_again_later_and_later(
    machine: Any,
) -> None:
    broken = machine.folder.parent / "bin" / "broken"
    broken.touch()
    keeper = machine.keeper()
    assert await keeper.reconcile(KEY) == FIRST_PAUSE_S
    machine.clock.at += FIRST_PAUSE_S / 4
    assert await keeper.reconcile(KEY) == FIRST_PAUSE_S * 3 / 4
    fault = GpuFault("GPU-0", MPS)
    assert GpuFaults((keeper,)).look() == (fault,)
    taint = taint_of(fault, "")
    assert taint is not None
    assert (taint.effect, fault.meaning) == ("NoSchedule", "the MPS daemon does not answer")
    [(reason, message)] = machine.events
    assert reason == "MpsFailed"
    assert message == (
        "GPUs that are shared by MPS get no new pods: MPS control daemon: cannot get exclusive access"
    )
    machine.clock.at += FIRST_PAUSE_S
    assert await keeper.reconcile(KEY) == 2 * FIRST_PAUSE_S
    broken.unlink()
    machine.clock.at += 2 * FIRST_PAUSE_S
    assert await keeper.reconcile(KEY) == LOOK_S
    assert keeper.look() == ()


async def test_without_the_program_the_reason_names_it(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    keeper = machine.keeper()
    await keeper.reconcile(KEY)
    assert f"{PROGRAM} is not on PATH" in machine.events[0][1]
    assert keeper.look() == (GpuFault("GPU-0", MPS),)


async def test_the_next_control_plane_finds_the_daemon_and_whoever_stops_the_platform_ends_it(
    machine: Any,
) -> None:
    await machine.keeper().reconcile(KEY)
    pid = machine.pid()
    following = machine.keeper()
    await following.reconcile(KEY)
    assert machine.pid() == pid
    await following.close()
    await gone(pid)


async def test_declared_gpus_and_those_that_are_not_shared_need_no_daemon(machine: Any) -> None:
    for gpu in (replace(SHARED, driver=""), replace(SHARED, sharing=Sharing())):
        machine.gpus = (gpu,)
        keeper = machine.keeper()
        assert await keeper.reconcile(KEY) is None
        assert keeper.look() == ()
    assert not machine.folder.exists()


def test_programs_are_told_their_part_and_where_the_daemon_is() -> None:
    share = '[{"gpu":"GPU-0","container":"c","replica":1}]'
    pod = Pod(
        metadata=ObjectMeta(name="p", annotations={DEVICES_ANNOTATION: share}),
        spec=PodSpec(containers=(Container(name="c"),), node_name="n"),
    )
    found = container_devices(pod, pod.spec.containers[0], lambda _: (SHARED,), "/mps/pipe")
    assert found["CUDA_MPS_PIPE_DIRECTORY"] == "/mps/pipe"
    assert found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "25"
    assert found["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == f"0={SHARED.type.memory_bytes // 4 // (1 << 20)}M"
    sliced = replace(SHARED, sharing=replace(QUARTER, strategy="time-slicing"))
    without = container_devices(pod, pod.spec.containers[0], lambda _: (sliced,), "/mps/pipe")
    assert not [name for name in without if name.startswith("CUDA_MPS")]


@pytest.mark.skipif(
    shutil.which(PROGRAM) is None or not Path("/dev/nvidia0").exists(),
    reason=f"{PROGRAM} and a GPU are not here: the real daemon can only be asked where both are",
)
async def test_the_real_daemon_answers(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "mps")
    keeper = machine.keeper()
    assert await keeper.reconcile(KEY) == LOOK_S
    assert keeper.look() == ()
    await keeper.close()
