"""Patches of JSON documents: merge (RFC 7386), operations (RFC 6902) and Kubernetes' strategic merge.

A strategic merge patch merges lists of objects by the key that names their items. The keys are those of Kubernetes' own
types, found by field name; lists not named here are replaced as a whole. Its directives are `$patch`,
`$setElementOrder/…`, `$deleteFromPrimitiveList/…` and `$retainKeys`.

No function changes its arguments; results may share parts with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from penstock.kit.bounds import check_depth
from penstock.kit.errors import InvalidInput
from penstock.kit.json_patch import json_patch

__all__ = ["json_patch", "merge_patch", "strategic_merge"]

MERGE_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "containers": "name",
        "initContainers": "name",
        "ephemeralContainers": "name",
        "env": "name",
        "volumes": "name",
        "volumeMounts": "mountPath",
        "volumeDevices": "devicePath",
        "ports": "containerPort",
        "imagePullSecrets": "name",
        "hostAliases": "ip",
        "topologySpreadConstraints": "topologyKey",
        "schedulingGates": "name",
        "resourceClaims": "name",
        "secrets": "name",
        "taints": "key",
        "addresses": "type",
        "conditions": "type",
        "ownerReferences": "uid",
        "hostIPs": "ip",
        "podIPs": "ip",
    }
)
PRIMITIVE_SETS = frozenset(("finalizers", "podCIDRs", "volumesInUse"))
_ORDER, _DELETE = "$setElementOrder/", "$deleteFromPrimitiveList/"


def merge_patch(document: Any, patch: Any) -> Any:
    """`document` with `patch` laid over it: objects are merged, null removes, everything else replaces."""
    check_depth(patch, "the patch")
    return _merge(document, patch)


def _merge(document: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    result = dict(document) if isinstance(document, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), value)
    return result


def strategic_merge(document: Any, patch: Any) -> Any:
    """`document` with `patch` merged in: objects by field, named lists by item, null removes. Raises InvalidInput."""
    check_depth(patch, "the patch")
    if not isinstance(patch, Mapping):
        raise InvalidInput("a strategic merge patch is an object")
    return _object(document, patch)


def _object(document: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    action = patch.get("$patch", "merge")
    if action == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if action == "delete":
        return {}
    if action != "merge":
        raise InvalidInput(f"$patch: found {action!r}, expected merge, replace or delete")
    result: dict[str, Any] = dict(document) if isinstance(document, Mapping) else {}
    if "$retainKeys" in patch:
        kept = _list(patch, "$retainKeys")
        result = {key: value for key, value in result.items() if key in kept}
    for key, value in patch.items():
        if key.startswith("$"):
            _delete_items(result, key, patch)
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            result[key] = _object(result.get(key), value)
        elif isinstance(value, list):
            result[key] = _merged(result.get(key), value, key)
        else:
            result[key] = value
    for key in patch:
        field = key.removeprefix(_ORDER)
        if field != key and isinstance(result.get(field), list):
            result[field] = _ordered(result[field], _list(patch, key), MERGE_KEYS.get(field))
    return result


def _delete_items(result: dict[str, Any], key: str, patch: Mapping[str, Any]) -> None:
    field = key.removeprefix(_DELETE)
    if field != key and isinstance(result.get(field), list):
        gone = _list(patch, key)
        result[field] = [item for item in result[field] if item not in gone]


def _merged(current: Any, patch: list[Any], field: str) -> list[Any]:
    merge_key = MERGE_KEYS.get(field)
    if merge_key is not None and all(isinstance(item, Mapping) for item in patch):
        return _by_key(current, patch, field, merge_key)
    if field in PRIMITIVE_SETS:
        known = list(current or ())
        return known + [item for item in patch if item not in known]
    return patch


def _by_key(current: Any, patch: list[Mapping[str, Any]], field: str, merge_key: str) -> list[Any]:
    items: dict[Any, Any] = {_hashable(item.get(merge_key)): item for item in current or ()}
    for item in patch:
        action = item.get("$patch")
        if action == "replace" and merge_key not in item:
            return [entry for entry in patch if "$patch" not in entry]
        if merge_key not in item:
            raise InvalidInput(
                f"{field}: an item of the patch has no {merge_key!r}, by which items are merged"
            )
        name = _hashable(item[merge_key])
        if action == "delete":
            items.pop(name, None)
        else:
            items[name] = _object(items.get(name), item)
    return list(items.values())


def _ordered(items: list[Any], order: list[Any], merge_key: str | None) -> list[Any]:
    """The items in the given order; those that it does not name stay behind the one before them."""
    wanted = [item.get(merge_key) if isinstance(item, Mapping) and merge_key else item for item in order]
    rank = {_hashable(name): position for position, name in enumerate(wanted)}
    keyed, last = [], -1
    for item in items:
        name = item.get(merge_key) if isinstance(item, Mapping) and merge_key else item
        last = rank.get(_hashable(name), last)
        keyed.append((last, item))
    return [item for _, item in sorted(keyed, key=lambda pair: pair[0])]


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else repr(value)


def _list(patch: Mapping[str, Any], key: str) -> list[Any]:
    value = patch[key]
    if not isinstance(value, list):
        raise InvalidInput(f"{key}: expected a list")
    return value
