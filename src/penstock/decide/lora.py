"""Which adapters go with this model, where do they lie, and how does the engine hear of them?

As in KServe each of `spec.model.lora.adapters` has a name and an address. They are brought beside the model, so a model cache serves them too.
Engines that speak vLLM's flags take them.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from penstock.kit.errors import InvalidInput

FOLDER = "/mnt/lora"
FLAGS = (("maxRank", "max-lora-rank"), ("maxAdapters", "max-loras"), ("maxCpuAdapters", "max-cpu-loras"))
_NAME = re.compile(r"[A-Za-z0-9]([\w.-]{0,126}[A-Za-z0-9])?", re.ASCII)


class Adapter(NamedTuple):
    """Callers name it as a model; it lies in `path`."""

    name: str
    uri: str

    @property
    def path(self) -> str:
        """In the pod."""
        return f"{FOLDER}/{self.name}"


def adapters_of(lora: Any) -> tuple[Adapter, ...]:
    """`lora` as the field has it. Raises InvalidInput, which names what is wrong."""
    given = lora.get("adapters", []) if isinstance(lora, dict) else []
    if not isinstance(given, list):
        raise InvalidInput(f"spec.model.lora.adapters: found {given!r}, expected a list")
    found: list[Adapter] = []
    for index, one in enumerate(given):
        where = f"spec.model.lora.adapters[{index}]"
        name, uri = (one.get("name"), one.get("uri")) if isinstance(one, dict) else (None, None)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInput(f"{where}.name: found {name!r}, expected letters, digits, - _ and .")
        if not isinstance(uri, str) or "://" not in uri:
            raise InvalidInput(f"{where}.uri: found {uri!r}, expected an address, as hf://OWNER/NAME")
        if any(name == other.name for other in found):
            raise InvalidInput(f"{where}.name: found {name!r}, which another adapter has")
        found.append(Adapter(name, uri))
    return tuple(found)


def lora_args(lora: Any, adapters: tuple[Adapter, ...]) -> tuple[str, ...]:
    """Nothing without adapters."""
    if not adapters:
        return ()
    limits = tuple(f"--{flag}={lora[field]}" for field, flag in FLAGS if lora.get(field) is not None)
    return ("--enable-lora", *limits, "--lora-modules", *(f"{one.name}={one.path}" for one in adapters))
