"""Which model caches a service, and so each of its pods, is bound to, as its annotation says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

BINDINGS = "penstock.dev/model-caches"
"""Annotation: a JSON list of `Bound`. KServe's own label and annotations name the first of them."""
SOURCES = "PENSTOCK_CACHED_MODELS"
"""In the environment of a pod's fetcher: a JSON list of addresses whose models the node's cache holds; they are read there, nobody is asked."""


class Bound(Struct, frozen=True, omit_defaults=True):
    """A cache (`namespace` is "" for one of the cluster), the node group that was chosen, and the cache's address."""

    cache: str
    group: str
    source: str
    namespace: str = ""


def bound_to(annotations: Mapping[str, str]) -> tuple[Bound, ...]:
    """In the order of the service's models; nothing where the annotation is not ours."""
    try:
        return msgspec.json.decode(annotations.get(BINDINGS, "[]"), type=tuple[Bound, ...])
    except msgspec.DecodeError:
        return ()


def is_below(uri: str, source: str) -> bool:
    """Whether the address is the source's, or of a part of it."""
    uri, source = uri.rstrip("/"), source.rstrip("/")
    return uri == source or uri.startswith(f"{source}/")


def source_of(uri: str, sources: Iterable[str]) -> str:
    """The one of `sources` that has what is at the address; the address itself if none has."""
    return next((source for source in sources if is_below(uri, source)), uri)
