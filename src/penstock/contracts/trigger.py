"""What makes a ScaledObject scale: a trigger reads one number from somewhere, and says whether it calls for replicas.

A trigger type is one file in `plugins/triggers/`, named as KEDA names the type (`penstock-demand` is `penstock_demand.py`). It
offers `open_trigger(opening) -> Trigger`, which checks everything that can be checked without asking anybody. Its metadata's
words are in `resources/triggers.py`, where admission sees them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from msgspec import Struct

from penstock.kit.errors import InvalidInput, Unavailable
from penstock.resources.meta import LabelSelector
from penstock.resources.triggers import as_number, default_of

DemandMetric = Literal["concurrency", "rps", "waiting"]
Demand = Callable[[str, str, DemandMetric], float]
"""The demand on an InferenceService (namespace, name) that the gateways report now: requests under way including those that
wait, requests per second, or requests that wait. Raises NotFound for a service that is not there, Unavailable without reports."""


class Reading(Struct, frozen=True, kw_only=True):
    """What a trigger saw: a finite `value` that is not negative, and whether it is above the activation threshold."""

    value: float
    active: bool


class Opening(Struct, frozen=True, kw_only=True):
    """What a trigger may know. `secrets` are what its authentication resolved to, by parameter.

    `environment` are the plain variables of the scaled container, for KEDA's `…FromEnv`. One read takes at most `timeout_s`;
    `now` is Unix time in seconds.
    """

    type: str
    namespace: str
    metadata: Mapping[str, str]
    now: Callable[[], float]
    demand: Demand
    secrets: Mapping[str, str] = {}
    environment: Mapping[str, str] = {}
    timeout_s: float = 3.0

    def get(self, name: str) -> str:
        """A word's value: from the metadata, else the secrets, else the variable that `NAMEFromEnv` names, else its default."""
        variable = self.metadata.get(f"{name}FromEnv", "")
        given = self.metadata.get(name) or self.secrets.get(name) or self.environment.get(variable, "")
        return given or default_of(self.type, name)

    def need(self, name: str) -> str:
        """The same, of a word without which nothing can be done. Raises InvalidInput."""
        if value := self.get(name):
            return value
        raise InvalidInput(
            f"{self.type}: {name} is not given, neither in the trigger's metadata nor by its authentication",
            hint=f"set metadata.{name}, or give a parameter {name} in the TriggerAuthentication",
        )

    def number(self, name: str) -> float:
        """A word that is a number ≥ 0. Raises InvalidInput, without the value, which may be a secret."""
        number = as_number(self.need(name))
        if number is None or number < 0:
            raise InvalidInput(f"{self.type}: {name} is no number ≥ 0")
        return number

    def flag(self, name: str) -> bool:
        """A word that is true or false."""
        return self.get(name).lower() == "true"

    def reading(self, value: float, activation: str, *, active: bool | None = None) -> Reading:
        """The answer. Raises Unavailable for what cannot be a measurement: NaN, negative, infinite.

        It is active above the threshold that the word `activation` names, unless `active` says otherwise.
        """
        if not (math.isfinite(value) and value >= 0):
            raise Unavailable(f"{self.type}: the server says {value:g}, which is no measurement")
        threshold = self.number(activation) if active is None else 0.0
        return Reading(value=value, active=value > threshold if active is None else active)


class Trigger(Protocol):
    """One trigger of one ScaledObject, opened. Messages of its errors hold no secret.

    `metric` is the metric's name as KEDA forms it, without the `sN-` of its place in the list; `target` is what one replica is to
    have of it.
    """

    metric: str
    target: float

    async def read(self) -> Reading:
        """Now. Raises PlatformError: the server is down, denies, or says what no measurement can be (NaN, negative, infinite)."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class TriggerPlugin(Protocol):
    """A module of `plugins/triggers/`."""

    def open_trigger(self, opening: Opening) -> Trigger:
        """Raises InvalidInput for metadata or secrets that cannot work."""
        ...


class ExternalMetrics(Protocol):
    """Where a HorizontalPodAutoscaler's metrics of type External come from; on one machine, the ScaledObjects."""

    async def external(
        self, namespace: str, metric: str, selector: LabelSelector | None
    ) -> tuple[float, ...]:
        """The values of all series of that name and labels, of which there is at least one; the autoscaler adds them up.

        KEDA's autoscalers select `scaledobject.keda.sh/name`. Raises NotFound where nobody offers the metric, Unavailable where
        it cannot be read now.
        """
        ...
