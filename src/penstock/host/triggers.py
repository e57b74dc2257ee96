"""The opened triggers of one ScaledObject: read together, each within its time, and opened anew when what they rest on changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from penstock.contracts.trigger import Demand, Opening, Reading, Trigger, TriggerPlugin
from penstock.decide.scaled_object_hpa import metric_name
from penstock.decide.scaled_object_metrics import Metric, Observed, observe
from penstock.host.trigger_parameters import ParameterReader, Parameters
from penstock.kit.clock import Clock
from penstock.kit.errors import InvalidInput, PlatformError
from penstock.resources import keda
from penstock.resources.keda import RESOURCE_TRIGGERS, ScaledObject, ScaleTrigger
from penstock.resources.pod import PodSpec

GRACE_S = 2.0
"""What a trigger may take beyond the time that it was given."""
MAX_READ_S = 60.0
PluginFinder = Callable[[str], TriggerPlugin]
logger = logging.getLogger(__name__)


class TriggerFactory:
    """Opens triggers: `plugin` finds the module of a type, `demand` is our own."""

    def __init__(
        self,
        plugin: PluginFinder,
        demand: Demand,
        parameters: ParameterReader,
        clock: Clock,
    ) -> None:
        self._plugin = plugin
        self._demand = demand
        self._parameters = parameters
        self._clock = clock

    def parameters(self, scaled: ScaledObject, pod: PodSpec) -> tuple[Parameters, ...]:
        """What each trigger is given, in order. Raises NotFound, InvalidInput."""
        container = scaled.spec.scale_target_ref.env_source_container_name
        namespace = scaled.metadata.namespace
        return tuple(
            self._parameters.read(trigger, namespace, pod, container) for _, trigger in _external(scaled)
        )

    async def open(self, scaled: ScaledObject, parameters: tuple[Parameters, ...]) -> TriggerSet:
        """All or none. Raises InvalidInput, which names the trigger."""
        opened: list[tuple[Metric, Trigger]] = []
        try:
            for (index, trigger), given in zip(_external(scaled), parameters, strict=True):
                opened.append(self._open(scaled.metadata.namespace, index, trigger, given))
        except PlatformError:
            await _close_all(trigger for _, trigger in opened)
            raise
        return TriggerSet(dict(opened), scaled.spec.triggers, parameters)

    def _open(
        self, namespace: str, index: int, trigger: ScaleTrigger, given: Parameters
    ) -> tuple[Metric, Trigger]:
        opening = Opening(
            type=trigger.type,
            namespace=namespace,
            metadata=trigger.metadata,
            now=self._clock.now,
            demand=self._demand,
            secrets=given.secrets,
            environment=given.environment,
        )
        try:
            opened = self._plugin(trigger.type).open_trigger(opening)
        except PlatformError as error:
            raise InvalidInput(f"spec.triggers[{index}]: {error.message}", hint=error.hint) from None
        metric = Metric(
            metric=metric_name(index, opened.metric),
            type=trigger.type,
            target=opened.target,
            name=trigger.name,
            metric_type=trigger.metric_type or keda.AVERAGE_VALUE,
        )
        return metric, opened


class TriggerSet:
    """The triggers that the autoscaler does not read itself, with what was last seen of each."""

    def __init__(
        self,
        opened: Mapping[Metric, Trigger],
        triggers: tuple[ScaleTrigger, ...],
        parameters: tuple[Parameters, ...],
    ) -> None:
        self._opened = opened
        self._rests_on = (triggers, parameters)
        self.observed: dict[Metric, Observed] = {}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """In the order of the triggers."""
        return tuple(self._opened)

    def fits(self, scaled: ScaledObject, parameters: tuple[Parameters, ...]) -> bool:
        """Whether nothing that the triggers rest on has changed."""
        return self._rests_on == (scaled.spec.triggers, parameters)

    def remember(self, health: Mapping[str, keda.Health]) -> None:
        """Take over how often each failed before, as a status says."""
        for metric in self._opened:
            known = health.get(metric.metric)
            if known is not None and known.number_of_failures:
                self.observed[metric] = Observed(metric, None, "", known.number_of_failures)

    async def read(self, metrics: Iterable[Metric] | None = None) -> tuple[Observed, ...]:
        """All, or some, at the same time."""
        wanted = self.metrics if metrics is None else tuple(metrics)
        return tuple(await asyncio.gather(*map(self._read, wanted)))

    async def _read(self, metric: Metric) -> Observed:
        reading: Reading | None = None
        error = ""
        try:
            async with asyncio.timeout(MAX_READ_S + GRACE_S):
                reading = await self._opened[metric].read()
        except PlatformError as problem:
            error = problem.message
        except TimeoutError:
            error = f"nothing was read within {MAX_READ_S:g} s"
        except Exception as problem:  # noqa: BLE001  a plugin's fault is a metric that cannot be read
            # without its message, which may hold the server's address with a password
            logger.warning("trigger %s failed: %s", metric.metric, type(problem).__name__)
            error = f"the trigger failed: {type(problem).__name__}"
        before = self.observed.get(metric)
        seen = observe(metric, reading, error, before.failures if before else 0)
        self.observed[metric] = seen
        return seen

    async def close(self) -> None:
        """Let go of all connections."""
        await _close_all(self._opened.values())


async def _close_all(triggers: Iterable[Trigger]) -> None:
    for trigger in triggers:
        try:
            async with asyncio.timeout(GRACE_S):
                await trigger.close()
        except Exception as problem:  # noqa: BLE001  what cannot be closed is let go of anyway
            logger.warning("a trigger could not be closed: %s", type(problem).__name__)


def _external(scaled: ScaledObject) -> tuple[tuple[int, ScaleTrigger], ...]:
    """The triggers that the autoscaler does not read itself, with their places in the list."""
    return tuple((i, one) for i, one in enumerate(scaled.spec.triggers) if one.type not in RESOURCE_TRIGGERS)
