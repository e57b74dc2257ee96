"""The parts that a routing profile may name, and their parameters: names, defaults, ranges, effects.

Each part is one file in `plugins/{filters,scorers,pickers}/`; its formula is told there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from penstock.kit.errors import InvalidInput, nearest
from penstock.resources.validation import Causes, wrong

Family = Literal["filters", "scorers", "pickers"]


class Parameter(NamedTuple):
    """A number from `least` to `most`."""

    name: str
    default: float
    least: float
    most: float
    effect: str


class Part(NamedTuple):
    """What a plugin does, and what it may be told."""

    effect: str
    parameters: tuple[Parameter, ...] = ()


_TOKENS = 1e9

PARTS: Mapping[Family, Mapping[str, Part]] = MappingProxyType(
    {
        "filters": MappingProxyType({
            "context-length": Part("leaves endpoints whose labelled range of context lengths holds the request"),
            "healthy": Part("leaves endpoints whose circuit is closed; those that start slowly take part in their share of requests"),
            "lora": Part("leaves endpoints that have the adapter, else those that can load it"),
            "saturation": Part("leaves endpoints that are not full; all where all are", (
                Parameter("maxWaiting", 128, 1, 1e6, "requests that wait in the engine"),
                Parameter("maxKvUse", 1, 0.01, 1, "share of the KV cache in use"),
                Parameter("maxUncachedTokens", 286_720, 1, _TOKENS, "tokens of prompts that are yet to be computed"),
            )),
            "subset": Part("leaves the endpoints that the caller allows, also where that is none"),
        }),
        "scorers": MappingProxyType({
            "context-length": Part("the tighter the labelled range around the request, the higher"),
            "cost": Part("the cheaper a token, the higher"),
            "in-flight-tokens": Part("the fewer tokens of prompts are yet to be computed, the higher", (
                Parameter("halfTokens", 8_192, 1, _TOKENS, "as many make the score one half"),
            )),
            "kv-use": Part("the freer the KV cache, the higher"),
            "lora": Part("1 where the adapter is loaded, 0.8 where it can be, else 0"),
            "no-hit-lru": Part("of a prompt that nobody holds: the longer ago that the last such one came, the higher; else 0.5"),
            "predicted-latency": Part("the sooner the answer is expected, the higher", (
                Parameter("outputTokens", 64, 0, _TOKENS, "tokens of an answer that are counted at most"),
                Parameter("interference", 0.5, 0, 100, "what a second of this prompt's computation costs each request under way there"),
                Parameter("seniority", 0.8, 0, 1, "how much more that is for requests that have been under way for longer"),
                Parameter("missing", 3, 0, 1000, "how many times dearer still an endpoint is that holds nothing of the prompt"),
                Parameter("contextTokens", 131_072, 1, _TOKENS, "tokens of context that double the time between tokens, where the cache's size is unknown"),
                Parameter("requests", 256, 1, 1e6, "requests under way that double the time between tokens, where the runtime's penstock.dev/step-requests says nothing"),
                Parameter("requestTokens", 16, 0, _TOKENS, "what a request under way counts as while rates are unknown"),
            )),
            "prefix": Part("the share of the prompt that the KV cache holds"),
            "queue": Part("the fewer requests wait, the higher"),
            "running": Part("the fewer requests are being answered, the higher"),
            "session": Part("1 for the endpoint that a session belongs to, else 0"),
        }),
        "pickers": MappingProxyType({
            "max-score": Part("the highest sum"),
            "power-of-two": Part("the better of two that are drawn"),
            "weighted-random": Part("drawn, each with its sum as the chance"),
        }),
    }
)  # fmt: skip


def settled(family: Family, name: str, given: Mapping[str, Any]) -> dict[str, float]:
    """Every parameter of a part, given or by default. Raises InvalidInput, which names the parameter."""
    for cause in check_parameters("", family, name, given):
        raise InvalidInput(f"{name}: {cause.field.lstrip('.')}: {cause.message}", code="bad_parameter")
    return {one.name: float(given.get(one.name, one.default)) for one in PARTS[family][name].parameters}


def check_parameters(where: str, family: Family, name: str, given: Mapping[str, Any]) -> Causes:
    """Causes in the parameters of a part that is there; `where` is their field's path."""
    known = {one.name: one for one in PARTS[family][name].parameters}
    for key, value in given.items():
        one = known.get(key)
        if one is None:
            yield wrong(f"{where}.{key}", value, f"no such parameter{_guess(key, tuple(known))}")
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            yield wrong(f"{where}.{key}", value, "must be a number")
        elif not one.least <= value <= one.most:
            yield wrong(f"{where}.{key}", value, f"must be between {one.least:g} and {one.most:g}")


def check_name(where: str, family: Family, name: str) -> Causes:
    """A cause if there is no such part."""
    known = tuple(sorted(PARTS[family]))
    if name not in known:
        yield wrong(where, name, f"no such {family[:-1]}{_guess(name, known)}")


def _guess(name: str, known: tuple[str, ...]) -> str:
    close = nearest(name, known, 1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(known)}" if known else "; it has none"
