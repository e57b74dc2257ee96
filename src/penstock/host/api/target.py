"""What a request is about: the kind, namespace, name and subresource that its path names."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from penstock.kit.errors import NotFound
from penstock.resources.scheme import KINDS, Kind, by_path

NAMESPACE_PARTS = ("status", "finalize")
"""Behind `/namespaces/NAME` these are parts of the namespace itself, everything else is a resource inside it."""

OLDER = MappingProxyType(
    {
        (kind.group, older.rpartition("/")[2], kind.plural): kind
        for kind in KINDS
        for older in kind.older_versions
    }
)
"""Paths of older versions of a kind: their objects are read and answered as the present version."""


@dataclass(frozen=True, slots=True)
class Target:
    """`namespace` None means all of them; `name` "" means the collection."""

    kind: Kind
    namespace: str | None
    name: str = ""
    subresource: str = ""

    @property
    def scope(self) -> str:
        """The namespace of a single object, "" for kinds without one."""
        return self.namespace or ""


def parse_target(path: str) -> Target:
    """From `/api/v1/…` or `/apis/GROUP/VERSION/…`, as Kubernetes lays paths out. Raises NotFound."""
    parts = [part for part in path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise no_such_path(path)
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in NAMESPACE_PARTS:
        namespace, rest = rest[1], rest[2:]
    kind = by_path(group, version, rest[0]) or OLDER.get((group, version, rest[0]))
    if kind is None or len(rest) > 3 or (namespace is not None and not kind.namespaced):
        raise no_such_path(path)
    name = rest[1] if len(rest) > 1 else ""
    if kind.namespaced and name and namespace is None:
        raise no_such_path(path)
    return Target(kind, namespace, name, rest[2] if len(rest) > 2 else "")


def no_such_path(path: str) -> NotFound:
    """What Kubernetes says about a path that it does not serve."""
    return NotFound(
        "the server could not find the requested resource", code="no_such_path", hint=f"path: {path}"
    )
