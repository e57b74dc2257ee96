"""Which program does this container run on this machine?

No image is pulled. In this order: the local command that the runtime's manifest gives (pod annotation
`penstock.dev/local-commands`), else the container's own `command`; a container with neither cannot run here. An engine that shares
a GPU is told besides how much of it is its own, as its placement found (`penstock.dev/fit-certificate`).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from penstock.decide.pod_fit import certificate_of
from penstock.decide.workload import INSTALL_HINTS, LOCAL_COMMANDS
from penstock.kit.errors import PlatformError
from penstock.resources.pod import Container, Pod

_V = TypeVar("_V")


class CannotRun(PlatformError):
    """The container has no program on this machine. `waiting_reason` is what its status says, in Kubernetes' words."""

    def __init__(self, waiting_reason: str, message: str, hint: str = "") -> None:
        super().__init__(message, code="container_cannot_run", hint=hint)
        self.waiting_reason = waiting_reason


def command_of(pod: Pod, container: Container) -> tuple[str, ...]:
    """The command before expansion; `{python}` is already the platform's interpreter."""
    local = _annotation(pod, LOCAL_COMMANDS, dict[str, tuple[str, ...]]).get(container.name)
    certificate = certificate_of(pod)
    told = certificate.arguments if certificate and certificate.container == container.name else ()
    if local:
        return (*(sys.executable if word == "{python}" else word for word in local), *container.args, *told)
    if container.command:
        return (*container.command, *container.args, *told)
    raise CannotRun(
        "ErrImageNeverPull",
        f"container {container.name!r} names image {container.image!r} and no command; images are not pulled on this host",
        "give the container a `command`, or its runtime the annotation penstock.dev/local-command",
    )


def program_of(pod: Pod, container: Container, word: str, search_path: str, cwd: Path) -> str:
    """The executable file that `word` means; CannotRun if there is none."""
    found = str(cwd / word) if "/" in word else shutil.which(word, path=search_path)
    if found and shutil.which(found):
        return found
    hint = _annotation(pod, INSTALL_HINTS, dict[str, str]).get(container.name, "")
    raise CannotRun("CreateContainerError", f'program "{word}" is not installed on this machine', hint)


def _annotation(pod: Pod, name: str, shape: type[dict[str, _V]]) -> Mapping[str, _V]:
    text = pod.metadata.annotations.get(name)
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=shape)
    except msgspec.DecodeError as error:
        raise CannotRun("CreateContainerConfigError", f"metadata.annotations[{name}]: {error}") from None
