"""What `apply` changes: the difference between what was wished, what is wished, and what is there, as a merge patch.

Fields that the manifest no longer has, but had when it was last applied, are removed; fields that others set stay. The last
manifest is kept in kubectl's own annotation, so that `penstock apply` and `kubectl apply` can take turns. Lists are one value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def three_way(
    last: Mapping[str, Any], wished: Mapping[str, Any], current: Mapping[str, Any]
) -> dict[str, Any]:
    """A JSON merge patch (RFC 7386) for `current`; empty if there is nothing to change."""
    patch: dict[str, Any] = {name: None for name in last if name not in wished and name in current}
    for name, value in wished.items():
        there = current.get(name)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            before = last.get(name)
            inner = three_way(before if isinstance(before, Mapping) else {}, value, there)
            if inner:
                patch[name] = inner
        elif value != there and not (value is None and name not in current):
            patch[name] = value
    return patch
