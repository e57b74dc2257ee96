"""Are these scaling annotations such as Knative takes? In its words.

Source: Knative's pkg/apis/autoscaling/annotation_validation.go; what is said of one annotation names the spelling that was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import NamedTuple

from penstock.kit.durations import go_duration, parse_go_duration_s
from penstock.kit.errors import InvalidInput
from penstock.kit.numerals import parse_integer, parse_number
from penstock.resources.annotations import KNATIVE, mode_of
from penstock.resources.autoscaler_config import (
    DEFAULTS,
    LEAST_TARGET,
    LEAST_WINDOW_S,
    MOST_REPLICAS,
    MOST_WINDOW_S,
    AutoscalerConfig,
)
from penstock.resources.autoscaler_settings import (
    ALIASES,
    DOMAIN,
    EXPONENTIAL,
    HPA_CLASS,
    KNATIVE_METRICS,
    KPA_CLASS,
    LINEAR,
    METRIC,
    OWN_METRICS,
    PROFILE,
    PROFILES,
    PROGRESS_DEADLINE,
    RESUME_WITHIN,
    TTFT_SLO,
    annotations_of,
)
from penstock.resources.serving import InferenceService
from penstock.resources.validation import Denial

OUR_CLASSES = ("forecast.penstock.dev",)


class Problem(NamedTuple):
    """What is wrong, and with which annotations."""

    message: str
    keys: tuple[str, ...]


def scaling_problems(
    annotations: Mapping[str, str], config: AutoscalerConfig = DEFAULTS, *, initial_scale: bool = True
) -> tuple[str, ...]:
    """Each line of Knative's error, sorted; () where all is well. Without `initial_scale` that one is not looked at (KServe drops it)."""
    checks = (_class, _bounds, _times, _metric, _targets, _panic, _window, _algorithm, _own)
    problems = [problem for check in checks for problem in check(_Found(annotations), config)]
    if initial_scale:
        problems += _initial(_Found(annotations), config)
    merged: dict[str, list[str]] = {}
    for message, keys in problems:
        merged.setdefault(message, []).extend(keys)
    return tuple(f"{text}: {', '.join(sorted(set(merged[text])))}" for text in sorted(merged))


def deny_scaling_annotations(service: InferenceService) -> Denial | None:
    """Where the gateway's demand decides, the annotations of a service and of its components must be Knative's, also beside its fields."""
    if mode_of(service) != KNATIVE:
        return None
    spec = service.spec
    for name, part in (
        ("predictor", spec.predictor),
        ("transformer", spec.transformer),
        ("explainer", spec.explainer),
    ):
        if part is None:
            continue
        where = f"spec.{name}.annotations" if part.annotations else "metadata.annotations"
        given = {**service.metadata.annotations, **part.annotations}
        problems = scaling_problems(given, initial_scale=False) or scaling_problems(
            annotations_of(given, part), initial_scale=False
        )
        if problems:
            return Denial(
                where,
                "\n".join(problems),
                "see docs/reference/autoscaling.md for every annotation and its range",
            )
    return None


class _Found:
    """Annotations of Knative's domain, by short name: the key as it was spelt, and the value."""

    def __init__(self, annotations: Mapping[str, str]) -> None:
        self.all = annotations
        self._by_name: dict[str, tuple[str, str]] = {}
        for key, value in annotations.items():
            if key.startswith(DOMAIN):
                short = key.removeprefix(DOMAIN)
                name = ALIASES.get(short, short)
                if name not in self._by_name or short == name:
                    self._by_name[name] = key, value

    def get(self, name: str) -> tuple[str, str] | None:
        return self._by_name.get(name)


Problems = Iterator[Problem]


def _class(found: _Found, config: AutoscalerConfig) -> Problems:
    if (given := found.get("class")) is None:
        return
    key, value = given
    if value.endswith(".knative.dev") and value not in (KPA_CLASS, HPA_CLASS):
        yield Problem(f"invalid value: {value}", (key,))
    if value.endswith("penstock.dev") and value not in OUR_CLASSES:
        yield Problem(f"invalid value: {value}{_nearest(value, OUR_CLASSES)}", (key,))


def _bounds(found: _Found, config: AutoscalerConfig) -> Problems:
    """One that cannot be read counts as 0 beside the other, as in Knative."""
    least, least_problem = _scale(found.get("min-scale"))
    most, most_problem = _scale(found.get("max-scale"))
    yield from (problem for problem in (least_problem, most_problem) if problem is not None)
    if most and most < least:
        yield Problem(
            f"max-scale={most} is less than min-scale={least}", (f"{DOMAIN}max-scale", f"{DOMAIN}min-scale")
        )
    given, limit = found.get("max-scale"), config.max_scale_limit
    if given is not None and limit:
        if most > limit:
            yield Problem(f"expected 1 <= {most} <= {limit}", (given[0],))
        if not most:
            yield Problem(f"max-scale=0 (unlimited), must be less than {limit}", (given[0],))
    yield from _activation(found.get("activation-scale"), least, most)


def _scale(given: tuple[str, str] | None) -> tuple[int, Problem | None]:
    if given is None:
        return 0, None
    key, value = given
    size = parse_integer(value)
    if size is None:
        return 0, Problem(f"invalid value: {value}", (key,))
    if not 0 <= size <= MOST_REPLICAS:
        return 0, Problem(f"expected 0 <= {value} <= {MOST_REPLICAS}", (key,))
    return size, None


def _activation(given: tuple[str, str] | None, least: int, most: int) -> Problems:
    if given is None:
        return
    key, value = given
    size = _int32(value)
    if size is None:
        yield Problem(f"invalid value: {value}", (key,))
    elif least > size:
        yield Problem(f"min-scale={least} is greater than activation-scale={size}", (key,))
    elif 0 < most < size:
        yield Problem(f"max-scale={most} is less than activation-scale={size}", (key,))
    elif size < 2:
        yield Problem(f"activation-scale={size} must be greater than 1", (key,))


def _initial(found: _Found, config: AutoscalerConfig) -> list[Problem]:
    """Here the text is part of the path, as Knative has it."""
    if (given := found.get("initial-scale")) is None:
        return []
    key, value = given
    size = parse_integer(value)
    if size is None:
        return [Problem(f"invalid value: {value}", (key,))]
    if size < 0:
        return [Problem(f"invalid value: {value}", (f"{key} must be greater than 0",))]
    if not size and not config.allow_zero_initial_scale:
        return [Problem(f"invalid value: {value}", (f"{key}=0 not allowed by cluster",))]
    return []


def _times(found: _Found, config: AutoscalerConfig) -> Problems:
    for name in ("scale-down-delay", "scale-to-zero-pod-retention-period"):
        if (given := found.get(name)) is not None:
            yield from _duration(*given, 0.0, MOST_WINDOW_S, whole=name == "scale-down-delay")


def _window(found: _Found, config: AutoscalerConfig) -> Problems:
    if (given := found.get("window")) is not None:
        yield from _duration(*given, LEAST_WINDOW_S, MOST_WINDOW_S, whole=True)


def _metric(found: _Found, config: AutoscalerConfig) -> Problems:
    """Without a class, Knative's own is meant here, whatever the cluster's default is."""
    if (given := found.get("metric")) is None:
        return
    key, value = given
    named = (found.get("class") or ("", KPA_CLASS))[1]
    if (named == KPA_CLASS and value not in KNATIVE_METRICS) or (named == HPA_CLASS and not value):
        yield Problem(f"invalid value: {value}", (key,))


def _targets(found: _Found, config: AutoscalerConfig) -> Problems:
    if (given := found.get("target")) is not None:
        key, value = given
        target = parse_number(value)
        if target is None:
            yield Problem(f"invalid value: {value}", (key,))
        elif target < LEAST_TARGET:
            yield Problem(f"target {value} should be at least {LEAST_TARGET:g}", (key,))
    yield from _range(found.get("target-utilization-percentage"), 1, 100)
    if (given := found.get("target-burst-capacity")) is not None:
        key, value = given
        burst = parse_number(value)
        if burst is None or (burst < 0 and burst != -1):
            yield Problem(f"invalid value: {value}", (key,))


def _panic(found: _Found, config: AutoscalerConfig) -> Problems:
    yield from _range(found.get("panic-window-percentage"), 1, 100)
    yield from _range(found.get("panic-threshold-percentage"), 110, 1000)


def _algorithm(found: _Found, config: AutoscalerConfig) -> Problems:
    """Knative looks at it only where the class is given as its own."""
    given, named = found.get("metric-aggregation-algorithm"), found.get("class")
    if given is not None and named is not None and named[1] == KPA_CLASS:
        key, value = given
        if value not in (LINEAR, EXPONENTIAL, "weightedExponential"):
            yield Problem(f"invalid value: {value}", (key,))


def _own(found: _Found, config: AutoscalerConfig) -> Problems:
    for key, known in ((PROFILE, tuple(PROFILES)), (METRIC, OWN_METRICS)):
        value = found.all.get(key)
        if value is not None and value not in known:
            yield Problem(f"invalid value: {value}{_nearest(value, known)}", (key,))
    for key in (RESUME_WITHIN, TTFT_SLO, PROGRESS_DEADLINE):
        value = found.all.get(key)
        if value is not None:
            seconds = _seconds(value)
            if seconds is None or seconds <= 0:
                yield Problem(f"invalid value: {value}, expected a duration above 0 such as 30s", (key,))


def _range(given: tuple[str, str] | None, low: int, high: int) -> Problems:
    if given is None:
        return
    key, value = given
    number = parse_number(value)
    if number is None:
        yield Problem(f"invalid value: {value}", (key,))
    elif not low <= number <= high:
        yield Problem(f"expected {low} <= {value} <= {high}", (key,))


def _duration(key: str, value: str, low_s: float, high_s: float, *, whole: bool) -> Problems:
    seconds = _seconds(value)
    if seconds is None:
        yield Problem(f"invalid value: {value}", (key,))
    elif not low_s <= seconds <= high_s:
        yield Problem(f"expected {go_duration(low_s)} <= {value} <= {go_duration(high_s)}", (key,))
    elif whole and seconds != int(seconds):
        yield Problem("must be specified with at most second precision", (key,))


def _seconds(value: str) -> float | None:
    try:
        return parse_go_duration_s(value)
    except InvalidInput:
        return None


def _int32(value: str) -> int | None:
    size = parse_integer(value)
    return size if size is not None and -MOST_REPLICAS - 1 <= size <= MOST_REPLICAS else None


def _nearest(value: str, known: Iterable[str]) -> str:
    close = get_close_matches(value, list(known), 1, 0.4)
    return f", did you mean {close[0]}?" if close else f", expected one of {', '.join(known)}"
