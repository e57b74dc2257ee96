"""What a controller is: it watches kinds, is called with keys, and makes reality fit.

A controller is level-triggered and idempotent: `reconcile` reads the cache, calls a pure function in `decide/`, applies what
comes back through `Cluster`, and says when it wants to be called again. It is called for one key at a time; an
exception means "again, with back-off". Controllers of the control plane and of the embedded host have the same shape and
are run by the same manager.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from penstock.resources.meta import Resource

R = TypeVar("R", bound=Resource)


class Key(NamedTuple):
    """What to reconcile. `namespace` is "" for kinds without one."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Watch:
    """A change of an object of `kind` asks for a reconcile of each of `keys(object)`."""

    kind: type[Resource]
    keys: Callable[[Resource], Iterable[Key]]


class Cache(Protocol):
    """A local, eventually current copy of the watched kinds. Reading it costs nothing and never waits."""

    def get(self, kind: type[R], name: str, namespace: str = "") -> R | None:
        """The object, or None."""
        ...

    def list(
        self, kind: type[R], namespace: str | None = None, *, labels: str = "", owner: str = ""
    ) -> tuple[R, ...]:
        """All that match, ordered by namespace and name; namespace None means all, `owner` is the controlling owner's uid."""
        ...


class Recorder(Protocol):
    """Writes Events: what was done to an object, or could not be, and why."""

    def event(self, about: Resource, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Record without waiting; repeats of the same event are folded into its count."""
        ...


class Controller(Protocol):
    """One control loop. `name` appears in logs, metrics and Events."""

    name: str

    def watches(self) -> tuple[Watch, ...]:
        """The kinds whose changes matter; the first is the kind that the keys name."""
        ...

    async def reconcile(self, key: Key) -> float | None:
        """Make reality fit for `key`; seconds until the next call is wanted, or None."""
        ...


@runtime_checkable
class Settling(Protocol):
    """A controller that waits `settle_s` between two reconciles of a key, so that what it sets off comes back to it as one change."""

    settle_s: float


def key_of(obj: Resource) -> Key:
    """The key that names this object."""
    return Key(obj.metadata.namespace, obj.metadata.name)


def own_key(obj: Resource) -> Iterable[Key]:
    """For `Watch`: the object itself."""
    return (key_of(obj),)


def owner_keys(kind: str) -> Callable[[Resource], Iterable[Key]]:
    """For `Watch`: the controlling owner of the given kind, in the object's own namespace."""

    def keys(obj: Resource) -> Iterable[Key]:
        return tuple(
            Key(obj.metadata.namespace, owner.name)
            for owner in obj.metadata.owner_references
            if owner.kind == kind and owner.controller
        )

    return keys
