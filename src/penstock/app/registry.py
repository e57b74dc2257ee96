"""Finds plugins by listing their folders: a new one is a new file, and no list is edited."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType

import penstock.plugins.sources
from penstock.contracts.source import ModelSource
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
