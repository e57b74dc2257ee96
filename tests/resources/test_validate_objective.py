"""Objectives are taken as their own definition has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit
from penstock.resources.objective import InferenceObjective
from penstock.resources.scheme import resolve

CRDS = Path(__file__).parents[2].parent / "shared/crds/gateway-api-inference-extension"


def document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "inference.networking.x-k8s.io/v1alpha2",
        "kind": "InferenceObjective",
        "metadata": {"name": "urgent", "namespace": "default"},
        "spec": spec,
    }


def test_an_objective_is_taken_and_its_pool_is_filled_in() -> None:
    found = admit(document(poolRef={"name": "chat"}, priority=-5)).object
    assert isinstance(found, InferenceObjective)
    assert (found.spec.priority, found.spec.pool_ref.name, found.spec.pool_ref.kind) == (
        -5,
        "chat",
        "InferencePool",
    )


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "spec.poolRef.name"),
        ({"poolRef": {"name": "x" * 254}}, "spec.poolRef.name"),
        ({"poolRef": {"name": "a", "group": "No_Group"}}, "spec.poolRef.group"),
        ({"poolRef": {"name": "a", "kind": "9"}}, "spec.poolRef.kind"),
        ({"poolRef": {"name": "a"}, "priority": 1 << 31}, "spec.priority"),
    ],
)
def test_what_is_wrong_is_named(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as found:
        admit(document(**spec))
    assert [cause.field for cause in found.value.causes] == [field]


def test_names_and_defaults_are_those_of_the_published_definition() -> None:
    if not CRDS.exists():
        pytest.skip("../shared is absent")
    [path] = CRDS.glob("*inferenceobjectives*.yaml")
    definition = yaml.safe_load(path.read_text())["spec"]
    kind = resolve("inferenceobjective")
    assert kind is not None
    assert (kind.group, kind.plural, kind.namespaced) == (
        definition["group"],
        definition["names"]["plural"],
        definition["scope"] == "Namespaced",
    )
    [version] = definition["versions"]
    assert kind.version == version["name"]
    pool = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["poolRef"]["properties"]
    reference = InferenceObjective().spec.pool_ref
    assert (reference.group, reference.kind) == (pool["group"]["default"], pool["kind"]["default"])
