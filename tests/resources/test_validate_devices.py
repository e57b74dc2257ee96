from __future__ import annotations

from typing import Any

import pytest

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit
from penstock.resources.devices import DeviceClass, ResourceClaim

API = "resource.k8s.io/v1"


def claim(*requests: dict[str, Any], **devices: Any) -> dict[str, Any]:
    spec = {"devices": {"requests": list(requests), **devices}}
    return {
        "apiVersion": API,
        "kind": "ResourceClaim",
        "metadata": {"name": "c", "namespace": "default"},
        "spec": spec,
    }


def request(name: str = "gpu", **exactly: Any) -> dict[str, Any]:
    return {"name": name, "exactly": {"deviceClassName": "gpu.nvidia.com", **exactly}}


def cel(expression: str) -> list[dict[str, Any]]:
    return [{"cel": {"expression": expression}}]


def device_class(expression: str) -> dict[str, Any]:
    spec = {"selectors": cel(expression), "extendedResourceName": "nvidia.com/gpu"}
    return {"apiVersion": API, "kind": "DeviceClass", "metadata": {"name": "gpu.nvidia.com"}, "spec": spec}


def resource_slice(devices: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    pool = {"name": "n", "generation": 1, "resourceSliceCount": 1}
    whole = {"driver": "gpu.nvidia.com", "nodeName": "n", "pool": pool, "devices": devices, **spec}
    return {"apiVersion": API, "kind": "ResourceSlice", "metadata": {"name": "n-0"}, "spec": whole}


def causes(document: dict[str, Any]) -> list[str]:
    with pytest.raises(Invalid) as caught:
        admit(document, strict=True)
    return [f"{cause.field}: {cause.message}" for cause in caught.value.causes]


def test_what_users_write_is_taken() -> None:
    expression = "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'gpu'"
    assert isinstance(admit(device_class(expression), strict=True).object, DeviceClass)
    wanted = claim(
        request(
            selectors=cel("device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('40Gi')) >= 0"),
            count=2,
        ),
        {"name": "any", "firstAvailable": [{"name": "big", "deviceClassName": "gpu.nvidia.com"}]},
        constraints=[{"requests": ["gpu", "any/big"], "matchAttribute": "gpu.nvidia.com/productName"}],
        config=[{"opaque": {"driver": "gpu.nvidia.com", "parameters": {"kind": "GpuConfig"}}}],
    )
    assert isinstance(admit(wanted, strict=True).object, ResourceClaim)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (claim(request(selectors=cel("device.driver = 'x'"))), "selectors[0].cel.expression: Invalid value: \"device.driver = 'x'\": character 15"),
        (claim({"name": "gpu"}), "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable`"),
        (claim(request(), request()), "spec.devices.requests[1].name: Duplicate value"),
        (claim(request(allocationMode="Some")), "supported values: \"ExactCount\", \"All\""),
        (claim(request(allocationMode="All", count=2)), "must not be specified when allocationMode is 'All'"),
        (claim(request(count=-1)), "must be greater than zero"),
        (claim(request(selectors=[{}])), "spec.devices.requests[0].exactly.selectors[0].cel: Required value"),
        (claim(*[request(f"r{i}") for i in range(33)]), "spec.devices.requests: Invalid value: 33: must have at most 32 items"),
        (claim({"name": "a", "firstAvailable": [{"name": f"x{i}", "deviceClassName": "c"} for i in range(9)]}), "at most 8 items"),
        (claim(request(), constraints=[{"requests": ["other"], "matchAttribute": "a.b/c"}]), "requests[0]: Not found"),
        (claim(request(), constraints=[{}]), "exactly one of `matchAttribute` and `distinctAttribute`"),
        (claim(request(), constraints=[{"matchAttribute": "parentUUID"}]), "must include the domain"),
        (claim(request(), config=[{"opaque": {"parameters": {}}}]), "config[0].opaque.driver: Required value"),
        (claim(request(), config=[{"opaque": {"driver": "d", "parameters": "x" * 11_000}}]), "at most 10240 bytes"),
        (resource_slice([{"name": "a"}, {"name": "a"}]), "spec.devices[1].name: Duplicate value"),
        (resource_slice([{"name": f"d{i}"} for i in range(129)]), "must have at most 128 items"),
        (
            resource_slice([{"name": f"d{i}", "consumesCounters": [{"counterSet": "s", "counters": {}}]} for i in range(65)]),
            "must have at most 64 items",
        ),
        (resource_slice([{"name": "a", "attributes": {"x": {"string": "a", "int": 1}}}]), "exactly one value must be specified"),
        (resource_slice([{"name": "a", "attributes": {"x-y": {"int": 1}}}]), "must be a C identifier"),
        (resource_slice([{"name": "a", "attributes": {"x": {"string": "a" * 65}}}]), "no more than 64 characters"),
        (resource_slice([{"name": "a", "attributes": {f"x{i}": {"int": 1} for i in range(33)}}]), "must have at most 32 items"),
        (resource_slice([{"name": "a", "taints": [{"key": "k", "effect": "Maybe"}]}]), "Unsupported value: \"Maybe\""),
        (resource_slice([], nodeName=""), "exactly one of `nodeName`"),
        (resource_slice([], sharedCounters=[{"name": f"s{i}", "counters": {}} for i in range(9)]), "at most 8 items"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_named_by_its_field(document: dict[str, Any], words: str) -> None:
    assert any(words in cause for cause in causes(document)), causes(document)


def test_what_a_claim_wants_never_changes() -> None:
    old = admit(claim(request()), strict=True).object
    with pytest.raises(Invalid, match="field is immutable"):
        admit(claim(request(count=2)), old, strict=True)


def container(**resources: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "main", "image": "x", "resources": resources}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": spec,
    }


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"limits": {"nvidia.com/gpu": "500m"}}, "limits[nvidia.com/gpu]: Invalid value: \"500m\": must be an integer"),
        ({"requests": {"nvidia.com/gpu": "1"}}, "Limit must be set for non overcommitable resources"),
        (
            {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "2"}},
            "must be equal to nvidia.com/gpu limit of 2",
        ),
    ],
)  # fmt: skip
def test_devices_are_asked_for_in_whole_numbers_and_never_overcommitted(
    resources: dict[str, Any], words: str
) -> None:
    assert any(words in cause for cause in causes(container(**resources)))


def test_what_is_no_device_may_be_overcommitted() -> None:
    admit(
        container(requests={"cpu": "100m", "nvidia.com/gpu": 1}, limits={"cpu": "1", "nvidia.com/gpu": 1}),
        strict=True,
    )
