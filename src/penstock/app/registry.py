"""Finds plugins by listing their folders: a new one is a new file, and no list is edited."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import cast

import penstock.plugins.sources
import penstock.plugins.triggers
from penstock.contracts.source import ModelSource
from penstock.contracts.trigger import TriggerPlugin
from penstock.kit.errors import InvalidInput, nearest


def source_modules() -> tuple[ModuleType, ...]:
    """Every model source."""
    package = penstock.plugins.sources
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(importlib.import_module(f"{package.__name__}.{name}") for name in names)


def open_source(uri: str, environ: Mapping[str, str]) -> ModelSource:
    """The source for a storage URI. Raises InvalidInput for a scheme that no source knows."""
    scheme, separator, _ = uri.partition("://")
    known = {name: module for module in source_modules() for name in module.SCHEMES}
    if not separator or scheme not in known:
        close = nearest(scheme, sorted(known), 1)
        raise InvalidInput(
            f"has no known scheme, expected one of {', '.join(f'{name}://' for name in known)} or pvc://",
            code="unknown_scheme",
            hint=f"did you mean {close[0]}://?" if close and close[0] != scheme else "",
        )
    source: ModelSource = known[scheme].open_source(uri, environ)
    return source


def trigger_types() -> tuple[str, ...]:
    """The trigger types that there is a plugin for, as ScaledObjects name them."""
    folder = penstock.plugins.triggers.__path__
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(folder)))


def trigger_plugin(type_: str) -> TriggerPlugin:
    """The plugin of a trigger type. Raises InvalidInput for one that is not there."""
    if type_ not in trigger_types():
        close = nearest(type_, trigger_types(), 1)
        raise InvalidInput(
            f"type: found {type_!r}, expected one of {', '.join(trigger_types())}",
            code="unknown_trigger",
            hint=f"did you mean {close[0]}?" if close else "",
        )
    name = f"{penstock.plugins.triggers.__name__}.{type_.replace('-', '_')}"
    return cast("TriggerPlugin", importlib.import_module(name))
