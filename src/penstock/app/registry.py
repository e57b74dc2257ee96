"""Finds plugins by listing their folders: a new one is a new file, and no list is edited."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import cast

import penstock.plugins.filters
import penstock.plugins.pickers
import penstock.plugins.scorers
import penstock.plugins.sources
import penstock.plugins.triggers
from penstock.contracts.exchange import PluginRoute, RoutingRoute
from penstock.contracts.scheduling import (
    Filter,
    FilterPlugin,
    Picker,
    PickerPlugin,
    Pipeline,
    Scorer,
    ScorerPlugin,
)
from penstock.contracts.source import ModelSource
from penstock.contracts.trigger import TriggerPlugin
from penstock.kit.errors import InvalidInput, nearest
from penstock.resources.routing_plugins import Family


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
    return _names(penstock.plugins.triggers)


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


SUBSET = PluginRoute(name="subset")
_FAMILIES: Mapping[Family, ModuleType] = {
    "filters": penstock.plugins.filters,
    "scorers": penstock.plugins.scorers,
    "pickers": penstock.plugins.pickers,
}


def routing_plugins(family: Family) -> tuple[str, ...]:
    """The filters, scorers or pickers that there are, as routing profiles name them."""
    return _names(_FAMILIES[family])


def open_filter(route: PluginRoute) -> Filter:
    """Raises InvalidInput for a name that is not there, and for parameters that it cannot use."""
    return cast("FilterPlugin", _routing_module("filters", route.name)).open_filter(dict(route.parameters))


def open_scorer(route: PluginRoute) -> Scorer:
    """Raises InvalidInput for a name that is not there, and for parameters that it cannot use."""
    return cast("ScorerPlugin", _routing_module("scorers", route.name)).open_scorer(dict(route.parameters))


def open_picker(route: PluginRoute) -> Picker:
    """Raises InvalidInput for a name that is not there, and for parameters that it cannot use."""
    return cast("PickerPlugin", _routing_module("pickers", route.name)).open_picker(dict(route.parameters))


def open_profile(route: RoutingRoute) -> Pipeline:
    """All parts of a routing profile. What a caller leaves of the endpoints holds also where the profile does not say so."""
    filters = route.filters if SUBSET in route.filters else (SUBSET, *route.filters)
    return Pipeline(
        filters=tuple((one.name, open_filter(one)) for one in filters),
        scorers=tuple((one.name, one.weight, open_scorer(one)) for one in route.scorers if one.weight > 0),
        picker=open_picker(route.picker),
    )


def _routing_module(family: Family, name: str) -> ModuleType:
    known = routing_plugins(family)
    if name not in known:
        close = nearest(name, known, 1)
        raise InvalidInput(
            f"{family}: found {name!r}, expected one of {', '.join(known)}",
            code=f"unknown_{family[:-1]}",
            hint=f"did you mean {close[0]}?" if close else "",
        )
    return importlib.import_module(f"{_FAMILIES[family].__name__}.{name.replace('-', '_')}")


def _names(package: ModuleType) -> tuple[str, ...]:
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__)))
