"""By which names may requests of this service ask for a priority?

By those of the InferenceObjectives of its namespace that refer to it: by its own name, or by that of the InferencePool that KServe makes for a
service, `NAME-inference-pool`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from penstock.contracts.exchange import ServiceRoute
from penstock.resources.objective import InferenceObjective

POOL_SUFFIX = "-inference-pool"
Objectives = Mapping[tuple[str, str], tuple[tuple[str, int], ...]]
"""By namespace and service: names and their priorities, ordered by name."""


def objectives_of(objectives: Iterable[InferenceObjective]) -> Objectives:
    """Without those that are being deleted."""
    found: dict[tuple[str, str], tuple[tuple[str, int], ...]] = {}
    for one in sorted(objectives, key=lambda one: one.metadata.name):
        if one.metadata.deletion_timestamp is None:
            key = (one.metadata.namespace, one.spec.pool_ref.name.removesuffix(POOL_SUFFIX))
            found[key] = (*found.get(key, ()), (one.metadata.name, one.spec.priority or 0))
    return found


def with_objectives(route: ServiceRoute, known: Objectives) -> ServiceRoute:
    """The route with the names that hold for its service."""
    own = known.get((route.namespace, route.name), ())
    return replace(route, objectives=own) if own != route.objectives else route
