"""Look at this machine: what is there, what is missing, and what each lack means."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from penstock.app.addresses import Address
from penstock.app.gpu_types import load_gpu_types
from penstock.app.home import MIN_FREE_BYTES, Home, holder_of
from penstock.app.listen import check_port
from penstock.app.runtimes import shipped_runtimes
from penstock.app.settings import Settings, load
from penstock.cli.console import print_table
from penstock.decide.workload import INSTALL_HINT, LOCAL_COMMAND
from penstock.host.gpus import discover_gpus
from penstock.host.kubelet.limits import find_limits
from penstock.host.nvml import nvml_problem
from penstock.kit.errors import PlatformError, Unavailable
from penstock.resources.runtime import ClusterServingRuntime

State = Literal["ok", "note", "problem"]


class Finding(NamedTuple):
    """One thing that was looked at. A "note" costs a feature, a "problem" keeps `penstock up` from running."""

    what: str
    state: State
    found: str
    meaning: str = ""


def run() -> None:
    """Exit code 4 if there is a problem that keeps `penstock up` from running."""
    settings = load(os.environ)
    findings = [finding for look in LOOKS for finding in look(settings)]
    print_table(("what", "state", "found", "what it means"), findings)
    problems = [finding.what for finding in findings if finding.state == "problem"]
    if problems:
        raise Unavailable(f"`penstock up` cannot run here: {', '.join(problems)}", hint="see the table above")


def system(settings: Settings) -> Iterator[Finding]:
    """Interpreter, processors, memory."""
    yield Finding("python", "ok", platform.python_version())
    yield Finding("system", "ok", f"{platform.system()} {platform.release()} {platform.machine()}")
    memory = psutil.virtual_memory()
    yield Finding("cpu", "ok", f"{os.cpu_count()} cores")
    yield Finding(
        "memory", "ok", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB available"
    )


def data_folder(settings: Settings) -> Iterator[Finding]:
    """Whether the data folder can be used, and has room."""
    home = settings.home
    existing = next(path for path in (home, *home.parents) if path.exists())
    writable = os.access(existing, os.W_OK)
    running = holder_of(Home(home))
    found = f"{home}" + (f", in use by process {running}" if running else "")
    if writable:
        yield Finding("data folder", "ok", found)
    else:
        yield Finding("data folder", "problem", found, f"{existing} cannot be written to; set PENSTOCK_HOME")
    free_bytes = shutil.disk_usage(existing).free
    state: State = "ok" if free_bytes >= MIN_FREE_BYTES else "problem"
    yield Finding("disk", state, f"{free_bytes / 2**30:.1f} GiB free", "" if state == "ok" else "make room")


def ports(settings: Settings) -> Iterator[Finding]:
    """Whether both servers could listen."""
    running = holder_of(Home(settings.home)) is not None
    for name, address in (("GATEWAY", settings.gateway), ("API", settings.api)):
        yield _port(name, address, running)
    try:
        with socket.socket() as probe:
            probe.bind(("127.93.7.1", 0))
        yield Finding("pod addresses", "ok", "all of 127.0.0.0/8 is local")
    except OSError:
        yield Finding(
            "pod addresses",
            "problem",
            "only 127.0.0.1 is local",
            "every pod wants an address of its own in 127.0.0.0/8",
        )


def _port(name: str, address: Address, running: bool) -> Finding:
    what = f"{name.lower()} port"
    try:
        check_port(name, address)
    except PlatformError as error:
        if running:
            return Finding(what, "ok", f"{address} in use, by the platform that runs")
        return Finding(what, "problem", error.message, error.hint)
    return Finding(what, "ok", f"{address} free")


def callers(settings: Settings) -> Iterator[Finding]:
    """Who may call models, and what is dangerous about it."""
    found = "every one needs an API key" if settings.keys_required else "none needs an API key"
    state: State = "note" if settings.warnings else "ok"
    yield Finding("callers", state, found, "; ".join(settings.warnings))


def limits(settings: Settings) -> Iterator[Finding]:
    """Whether pods' limits on CPU and memory can be enforced."""
    if sys.platform != "linux":
        yield Finding("limits", "note", "no cgroups", "limits of pods are not enforced")
        return
    found = find_limits(settings.home)
    if found.base is not None:
        yield Finding("limits", "ok", f"cgroups below {found.base}")
    else:
        meaning = "CPU and memory limits of pods are not enforced; each pod gets an Event that says so"
        yield Finding("limits", "note", found.why, meaning)


def gpus(settings: Settings) -> Iterator[Finding]:
    """NVIDIA GPUs through their driver."""
    if why := nvml_problem():
        yield Finding("gpus", "note", f"none ({why})", "runtimes that need a GPU cannot be placed here")
        return
    for gpu in discover_gpus(load_gpu_types()):
        mode = ", partitioned by MIG" if gpu.is_mig else ""
        size = f"{gpu.type.memory_bytes / 2**30:.0f} GiB"
        yield Finding(f"gpu {gpu.index}", "ok", f"{gpu.type.model}, {size}{mode}")


def programs(settings: Settings) -> Iterator[Finding]:
    """Programs that people use beside Penstock."""
    kubectl = shutil.which("kubectl")
    yield Finding(
        "kubectl",
        "ok" if kubectl else "note",
        kubectl or "absent",
        "" if kubectl else "`penstock get` and the other commands do without it (Debian: kubernetes-client)",
    )


def runtimes(settings: Settings) -> Iterator[Finding]:
    """The program of every runtime that comes with Penstock."""
    for runtime in shipped_runtimes():
        yield _runtime(runtime)


def _runtime(runtime: ClusterServingRuntime) -> Finding:
    what = f"runtime {runtime.metadata.name}"
    annotations = runtime.metadata.annotations
    argv = json.loads(annotations.get(LOCAL_COMMAND, "[]"))
    formats = ", ".join(dict.fromkeys(one.name for one in runtime.spec.supported_model_formats))
    if not argv:
        return Finding(what, "note", "names no local command", f"it runs on a cluster only ({formats})")
    if argv[:2] == ["sh", "-c"]:
        argv = argv[3:]  # a script goes by the name of the program that it starts
    program = _program(argv)
    if program:
        return Finding(what, "ok", program)
    hint = annotations.get(INSTALL_HINT, "")
    return Finding(what, "note", f"{argv[0]}: absent", f"no {formats} models with it. {hint}")


def _program(argv: list[str]) -> str | None:
    """Where the command's program is: on PATH, or a module of this interpreter."""
    if argv[0] != "{python}":
        return shutil.which(argv[0])
    if len(argv) > 2 and argv[1] == "-m":
        try:
            spec = find_spec(argv[2])
        except ModuleNotFoundError:
            return None
        return str(Path(spec.origin).parent) if spec and spec.origin else None
    return sys.executable


LOOKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    system, data_folder, ports, callers, limits, gpus, programs, runtimes,
)  # fmt: skip
