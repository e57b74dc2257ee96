"""What does the autoscaler read for a ScaledObject's metric, also when its trigger fails?

KEDA's fallback and scaling modifiers. A metric that failed more than `failureThreshold` times in a row is replaced so that the
autoscaler arrives at the fallback's replicas; before that, and without a fallback, it reads an error and does not scale in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from penstock.contracts.trigger import Reading
from penstock.kit.errors import InvalidInput
from penstock.kit.formula import Formula
from penstock.resources import keda
from penstock.resources.keda import Fallback, Health, ScaledObjectSpec

COMPOSITE = "composite-metric"
"""The one metric that a formula makes of all."""
HAPPY, FAILING = "Happy", "Failing"


@dataclass(frozen=True, slots=True)
class Metric:
    """A trigger that is not the autoscaler's own: `metric` is its unique name (`s0-rabbitmq-orders`), `name` the user's, or "".

    `metric_type` is AverageValue or Value; `target` is what one replica is to have of it.
    """

    metric: str
    type: str
    target: float
    name: str = ""
    metric_type: str = keda.AVERAGE_VALUE


@dataclass(frozen=True, slots=True)
class Observed:
    """A metric as it was last read: a reading, or why there is none, and how often in a row there was none."""

    metric: Metric
    reading: Reading | None = None
    error: str = ""
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Scale:
    """The target's size: what its spec asks for, and how many are ready."""

    replicas: int
    ready: int


@dataclass(frozen=True, slots=True)
class Served:
    """A value for the autoscaler, or None and why; `fallback` says that it stands for one that cannot be read."""

    value: float | None
    reason: str
    fallback: bool = False


def observe(metric: Metric, reading: Reading | None, error: str, failures_before: int) -> Observed:
    """What was read, as far as it can be a measurement: no NaN, nothing infinite or negative."""
    if reading is not None and not (math.isfinite(reading.value) and reading.value >= 0):
        error = f"the value {reading.value:g} is no measurement"
        reading = None
    if reading is not None:
        return Observed(metric, reading)
    return Observed(metric, None, error or "nothing was read", failures_before + 1)


def health_of(observed: Iterable[Observed]) -> dict[str, Health]:
    """`status.health`."""
    return {
        one.metric.metric: Health(
            number_of_failures=one.failures, status=FAILING if one.reading is None else HAPPY
        )
        for one in observed
    }


def serve(spec: ScaledObjectSpec, one: Observed, scale: Scale) -> Served:
    """The value of one trigger's metric."""
    if one.reading is not None:
        return Served(one.reading.value, f"{one.metric.metric} is {one.reading.value:g}")
    value = _normalised(spec.fallback, one.metric.target, one.metric.metric_type, one.failures, scale)
    if value is None:
        return Served(None, f"{one.metric.metric} cannot be read: {one.error}")
    return Served(value, _said(spec.fallback, one.metric.metric, one.failures), fallback=True)


def compose(spec: ScaledObjectSpec, observed: Iterable[Observed], scale: Scale) -> Served:
    """The value of the formula. Spec has one. With the fallback behavior scalingModifiers, failed metrics are nil to it."""
    modifiers = spec.advanced.scaling_modifiers if spec.advanced else None
    assert modifiers is not None
    observed = tuple(observed)
    fallback = spec.fallback
    failed = tuple(one for one in observed if one.reading is None)
    beyond = tuple(one for one in failed if fallback and one.failures > fallback.failure_threshold)
    nils = fallback is not None and fallback.behavior == keda.MODIFIED
    values = {
        one.metric.name: one.reading.value if one.reading else None for one in observed if one.metric.name
    }
    error = "; ".join(f"{one.metric.metric}: {one.error}" for one in failed)
    if not failed or (nils and len(beyond) == len(failed)):
        value, reason = _evaluated(modifiers.formula, values)
        if value is not None:
            return Served(value, reason)
        error = error or reason
    elif nils:
        return Served(None, f"{COMPOSITE} cannot be computed: {error}")
    most = max((one.failures for one in beyond), default=0)
    kind = modifiers.metric_type or keda.AVERAGE_VALUE
    value = _normalised(fallback, float(modifiers.target), kind, most, scale)
    if value is None:
        return Served(None, f"{COMPOSITE} cannot be computed: {error}")
    return Served(value, _said(fallback, COMPOSITE, most), fallback=True)


def wanted_by_fallback(fallback: Fallback, replicas: int) -> int:
    """How many replicas the fallback wants, of a target that has `replicas`."""
    match fallback.behavior:
        case keda.CURRENT:
            return replicas
        case keda.CURRENT_IF_HIGHER:
            return max(replicas, fallback.replicas)
        case keda.CURRENT_IF_LOWER:
            return min(replicas, fallback.replicas)
    return fallback.replicas


def _evaluated(text: str, values: Mapping[str, float | None]) -> tuple[float | None, str]:
    """The formula's value if it has one, and a reason."""
    try:
        value = Formula(text).evaluate(values)
    except InvalidInput as error:
        return None, error.message
    if value < 0:
        return None, f"the formula gives {value:g}, which is no measurement"
    nil = ", ".join(sorted(name for name, known in values.items() if known is None))
    return value, f"{COMPOSITE} is {value:g}{f' without {nil}' if nil else ''}"


def _normalised(
    fallback: Fallback | None, target: float, metric_type: str, failures: int, scale: Scale
) -> float | None:
    """The value that leads the autoscaler to the fallback's replicas, or None before the threshold is passed."""
    if fallback is None or failures <= fallback.failure_threshold:
        return None
    replicas = float(wanted_by_fallback(fallback, scale.replicas))
    if metric_type == keda.VALUE:
        # it multiplies the ready pods by value / target
        if scale.ready == 0:
            return None
        replicas /= scale.ready
    return math.floor(target * replicas * 1000 + 1e-6) / 1000  # a thousandth more would be one replica more


def _said(fallback: Fallback | None, metric: str, failures: int) -> str:
    behavior = (fallback.behavior if fallback else "") or keda.STATIC
    return f"{metric} failed {failures} times in a row: fallback {behavior}"
