"""What this server serves: `/version`, `/api`, `/apis` and the resource lists, plain and aggregated."""

from __future__ import annotations

import platform
import re
from dataclasses import replace
from functools import cache
from typing import Any

from penstock.kit.errors import NotFound
from penstock.resources.scheme import KINDS, Kind

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
SUBRESOURCE_VERBS = ("get", "patch", "update")
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
ACCESS_GROUP = "authorization.k8s.io"
METRICS_GROUP, METRICS_VERSION = "metrics.k8s.io", "v1beta1"
MEASURED = (("nodes", "node", "NodeMetrics", False), ("pods", "pod", "PodMetrics", True))
"""What the metrics group measures: plural, singular, kind, and whether it has a namespace."""
KUBERNETES_MINOR = 32
"""The Kubernetes release whose behaviour is followed; clients compare their own with it."""

SERVED = (*KINDS, *(replace(kind, api_version=older) for kind in KINDS for older in kind.older_versions))
"""Every kind, and once more per older version that it is read from."""

Document = dict[str, Any]


def version_info(version: str) -> Document:
    """`/version`: the Kubernetes version that is spoken, with ours as its build."""
    return {
        "major": "1",
        "minor": str(KUBERNETES_MINOR),
        "gitVersion": f"v1.{KUBERNETES_MINOR}.0+penstock-{version}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "",
        "goVersion": "",
        "compiler": platform.python_implementation().lower(),
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }


def wants_aggregated(accept: str) -> bool:
    """Whether the first acceptable discovery is the aggregated one."""
    choices = accept.replace(" ", "").split(",")
    return any("g=apidiscovery.k8s.io" in choice and "v=v2;" in f"{choice};" for choice in choices)


def api_versions() -> Document:
    """`/api`: the versions of the core group."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def api_group_list() -> Document:
    """`/apis`: every group."""
    groups = [api_group(group) for group in _groups() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(group: str) -> Document:
    """`/apis/GROUP`. Raises NotFound."""
    versions = _groups().get(group)
    if not group or not versions:
        raise NotFound("the server could not find the requested resource")
    entries = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": group,
        "versions": entries,
        "preferredVersion": entries[0],
    }


def resource_list(group: str, version: str) -> Document:
    """`/api/v1` or `/apis/GROUP/VERSION`: every resource and subresource. Raises NotFound."""
    if version not in _groups().get(group, ()):
        raise NotFound("the server could not find the requested resource")
    group_version = f"{group}/{version}" if group else version
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": [entry for kind in _kinds(group, version) for entry in _entries(kind)]
        + _access(group)
        + _measured(group),
    }


@cache
def aggregated(core: bool) -> Document:
    """The whole of `/api` (core) or `/apis` in one answer."""
    items = []
    for group, versions in _groups().items():
        if bool(group) == core:
            continue
        items.append(
            {
                "metadata": {"name": group, "creationTimestamp": None}
                if group
                else {"creationTimestamp": None},
                "versions": [
                    {
                        "version": version,
                        "resources": [_aggregated_entry(kind) for kind in _kinds(group, version)]
                        + _aggregated_measured(group),
                        "freshness": "Current",
                    }
                    for version in versions
                ],
            }
        )
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def subresources_of(kind: Kind) -> tuple[tuple[str, str, str, str, tuple[str, ...]], ...]:
    """Name, group, version, kind and verbs of each subresource."""
    own = (kind.group, kind.version, kind.kind)
    found: list[tuple[str, str, str, str, tuple[str, ...]]] = []
    for name in kind.subresources:
        answered = ("autoscaling", "v1", "Scale") if name == "scale" else own
        found.append((name, *answered, SUBRESOURCE_VERBS))
    if kind.kind == "Pod":
        found.append(("log", *own, ("get",)))
    if kind.kind == "ApiKey":
        found.append(("token", kind.group, kind.version, "TokenRequest", ("create",)))
    return tuple(found)


@cache
def _groups() -> dict[str, tuple[str, ...]]:
    """The versions of each group, the core one first."""
    found: dict[str, list[str]] = {"": []}
    for kind in SERVED:
        versions = found.setdefault(kind.group, [])
        if kind.version not in versions:
            versions.append(kind.version)
    found.setdefault(ACCESS_GROUP, ["v1"])
    found.setdefault(METRICS_GROUP, [METRICS_VERSION])
    return {group: tuple(sorted(versions, key=_preference)) for group, versions in found.items()}


def _preference(version: str) -> tuple[int, list[int]]:
    """Stable before beta before alpha, newer before older, as Kubernetes orders versions."""
    stage = 2 if "alpha" in version else 1 if "beta" in version else 0
    return stage, [-int(number) for number in re.findall(r"\d+", version)]


def _kinds(group: str, version: str) -> list[Kind]:
    return [kind for kind in SERVED if kind.group == group and kind.version == version]


def _entries(kind: Kind) -> list[Document]:
    entry: Document = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(VERBS),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    parts = [
        {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
            "group": group,
            "version": version,
            "kind": answered,
            "verbs": list(verbs),
        }
        for name, group, version, answered, verbs in subresources_of(kind)
    ]
    return [entry, *parts]


def _access(group: str) -> list[Document]:
    if group != ACCESS_GROUP:
        return []
    return [
        {
            "name": "selfsubjectaccessreviews",
            "singularName": "selfsubjectaccessreview",
            "namespaced": False,
            "kind": "SelfSubjectAccessReview",
            "verbs": ["create"],
        }
    ]


def _measured(group: str) -> list[Document]:
    if group != METRICS_GROUP:
        return []
    return [
        {
            "name": plural,
            "singularName": singular,
            "namespaced": namespaced,
            "kind": kind,
            "verbs": ["get", "list"],
        }
        for plural, singular, kind, namespaced in MEASURED
    ]


def _aggregated_measured(group: str) -> list[Document]:
    if group != METRICS_GROUP:
        return []
    return [
        {
            "resource": plural,
            "responseKind": {"group": group, "version": METRICS_VERSION, "kind": kind},
            "scope": "Namespaced" if namespaced else "Cluster",
            "singularResource": singular,
            "verbs": ["get", "list"],
        }
        for plural, singular, kind, namespaced in MEASURED
    ]


def _aggregated_entry(kind: Kind) -> Document:
    entry: Document = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(VERBS),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    parts = [
        {
            "subresource": name,
            "responseKind": {"group": sub_group, "version": sub_version, "kind": answered},
            "verbs": list(verbs),
        }
        for name, sub_group, sub_version, answered, verbs in subresources_of(kind)
    ]
    if parts:
        entry["subresources"] = parts
    return entry
