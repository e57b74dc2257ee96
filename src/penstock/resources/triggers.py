"""The words of each trigger's metadata, as KEDA has them: names, defaults, ranges, and what Penstock does with them.

Source: KEDA v2.20, the specifications of its scalers; `penstock-demand` is Penstock's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from penstock.kit.errors import Cause, nearest
from penstock.resources.validation import Causes, required, unsupported, wrong

TEXT, NUMBER, TARGET, COUNT, FLAG = "text", "number ≥ 0", "number > 0", "integer ≥ 0", "true, false"


class Word(NamedTuple):
    """One key of a trigger's metadata. `range` is one of the words above, or the texts that are allowed, separated by commas.

    `secret` may come from the trigger's authentication instead, `env` also from a variable of the scaled container
    (`NAMEFromEnv`). Something that is `required` must come from one of the places.
    """

    name: str
    effect: str
    default: str = ""
    range: str = TEXT
    required: bool = False
    secret: bool = False
    env: bool = False


_RESOURCE = (
    Word(
        "value",
        "the autoscaler's target: percent of the request (Utilization), else a quantity",
        required=True,
    ),
    Word("containerName", "that container's use alone"),
)
_TLS = (Word("unsafeSsl", "do not verify the server's certificate", "false", FLAG),)

WORDS: Mapping[str, tuple[Word, ...]] = MappingProxyType(
    {
        "rabbitmq": (
            Word(
                "host",
                "where the server is, `amqp[s]://…/vhost` or `http[s]://…/vhost` (management API)",
                required=True,
                secret=True,
                env=True,
            ),
            Word("queueName", "the queue; with useRegex a pattern of names", required=True),
            Word(
                "mode",
                "what is measured; all but QueueLength need the management API",
                "QueueLength",
                "QueueLength, MessageRate, DeliverGetRate, PublishedToDeliveredRatio, ExpectedQueueConsumptionTime",
            ),
            Word("value", "the target for one replica, by mode", "20", TARGET),
            Word("queueLength", "the old name of value in mode QueueLength", "", TARGET),
            Word("activationValue", "active above this", "0", NUMBER),
            Word("protocol", "auto is told by host's scheme", "auto", "auto, amqp, http", secret=True),
            Word("vhostName", "the virtual host, before the one in host", secret=True),
            Word("useRegex", "measure all queues whose name matches (management API)", "false", FLAG),
            Word("operation", "how several queues become one number", "sum", "sum, avg, max"),
            Word("pageSize", "no more queues than this may match", "100", COUNT),
            Word("excludeUnacknowledged", "count ready messages only (management API)", "false", FLAG),
            Word("timeout", "milliseconds for an answer of the management API", "3000", COUNT),
            Word("username", "before the one in host", secret=True, env=True),
            Word("password", "before the one in host", secret=True, env=True),
            *_TLS,
        ),
        "redis": (
            Word("address", "HOST:PORT of the server", secret=True, env=True),
            Word("host", "the server's host, if there is no address", secret=True, env=True),
            Word("port", "the server's port, if there is no address", secret=True, env=True),
            Word("listName", "the key: a list, set, sorted set or hash is counted, an absent one is 0", required=True),
            Word("listLength", "the target for one replica", "5", TARGET),
            Word("activationListLength", "active above this", "0", NUMBER),
            Word("databaseIndex", "the database", "0", COUNT),
            Word("username", "of the server's access list", secret=True, env=True),
            Word("password", "of the server", secret=True, env=True),
            Word("enableTLS", "speak TLS", "false", FLAG),
            *_TLS,
        ),
        "prometheus": (
            Word("serverAddress", "where the server is, `http[s]://…`; `/api/v1/query` is added", required=True),
            Word("query", "PromQL that gives a scalar, or a vector of one series", required=True),
            Word("threshold", "the target for one replica", required=True, range=TARGET),
            Word("activationThreshold", "active above this", "0", NUMBER),
            Word("ignoreNullValues", "an empty answer is 0; false: it is an error", "true", FLAG),
            Word("namespace", "passed on as `namespace=`, for multi-tenant servers"),
            Word("customHeaders", "NAME=VALUE, separated by commas"),
            Word("queryParameters", "NAME=VALUE, separated by commas, added to the request"),
            Word("authModes", "which secrets are used, separated by commas: basic, bearer, custom"),
            Word("timeout", "milliseconds for an answer", "3000", COUNT),
            *_TLS,
        ),
        "cron": (
            Word("timezone", "of the IANA database", required=True),
            Word("start", "when the window opens, a cron expression of five fields", required=True),
            Word("end", "when it closes", required=True),
            Word("desiredReplicas", "the metric inside of the window; outside it is 0 and inactive", required=True, range=COUNT),
        ),
        "penstock-demand": (
            Word("inferenceService", "whose requests are counted", required=True),
            Word("namespace", "where it is; the ScaledObject's own if absent"),
            Word("metric", "requests under way, requests per second, or requests that wait", "concurrency", "concurrency, rps, waiting"),
            Word("threshold", "the target for one replica", required=True, range=TARGET),
            Word("activationThreshold", "active above this", "0", NUMBER),
        ),
        "cpu": _RESOURCE,
        "memory": _RESOURCE,
    }
)  # fmt: skip

PARAMETERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "rabbitmq": ("ca",),
        "redis": ("ca",),
        "prometheus": ("username", "password", "bearerToken", "customAuthHeader", "customAuthValue", "ca"),
    }
)
"""What a trigger's authentication may hold besides its words."""


def default_of(type_: str, name: str) -> str:
    """A word's default, "" where it has none."""
    return next((word.default for word in WORDS[type_] if word.name == name), "")


def check_metadata(where: str, type_: str, metadata: Mapping[str, str], *, authenticated: bool) -> Causes:
    """Causes in a trigger's metadata. `authenticated`: it has an authentication, from which secret words may come."""
    words = {word.name: word for word in WORDS[type_]}
    known = [*words, *(f"{word.name}FromEnv" for word in words.values() if word.env)]
    for key in metadata.keys() - set(known):
        yield _unknown(where, key, known)
    for word in words.values():
        value = metadata.get(word.name, "")
        if not value and word.required:
            elsewhere = metadata.get(f"{word.name}FromEnv") or (word.secret and authenticated)
            if not elsewhere:
                yield required(f"{where}[{word.name}]", word.effect)
        elif value:
            yield from _value(f"{where}[{word.name}]", word, value)


def _unknown(where: str, key: str, known: list[str]) -> Cause:
    close = nearest(key, known, 1)
    guess = f'; did you mean "{close[0]}"?' if close else f"; known are {', '.join(known)}"
    return Cause(f"{where}[{key}]", f"Invalid value: no such key{guess}", "FieldValueNotSupported")


def _value(where: str, word: Word, value: str) -> Causes:
    if word.range in (NUMBER, TARGET):
        number = as_number(value)
        if number is None or number < 0 or (number == 0 and word.range == TARGET):
            yield wrong(where, value, f"must be a {word.range}")
    elif word.range == COUNT:
        if not (value.isascii() and value.isdecimal() and len(value) < 10):
            yield wrong(where, value, f"must be an {word.range}")
    elif word.range != TEXT and value not in (allowed := word.range.split(", ")):
        yield unsupported(where, value, allowed)


def as_number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
