"""Do device classes, claims and slices keep Kubernetes' rules (resource.k8s.io/v1)?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.kit.cel import parse_condition
from penstock.kit.cel_values import CelError
from penstock.resources.claims import MAX_RESERVED_FOR, MAX_RESULTS
from penstock.resources.devices import (
    ClaimRequest,
    Device,
    DeviceClaim,
    DeviceClass,
    DeviceSelector,
    DeviceWish,
    ResourceClaim,
    ResourceClaimTemplate,
    ResourceSlice,
)
from penstock.resources.meta import Json
from penstock.resources.validation import (
    Causes,
    duplicate,
    forbidden,
    immutable,
    label_name,
    missing,
    one_of,
    qualified_name,
    required,
    subdomain_name,
    wrong,
)

MAX_DEVICES, MAX_COUNTING_DEVICES = 128, 64
MAX_COUNTER_SETS, MAX_COUNTERS = 8, 32
MAX_FACTS = 32
MAX_REQUESTS = MAX_SELECTORS = MAX_CONSTRAINTS = MAX_CONFIGS = 32
MAX_ALTERNATIVES = 8
MAX_PARAMETERS_BYTES = 10 << 10
MAX_TEXT = 64
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
MODES = ("ExactCount", "All")
EFFECTS = ("None", "NoSchedule", "NoExecute")


def validate_devices(
    new: DeviceClass | ResourceClaim | ResourceClaimTemplate | ResourceSlice, old: Any
) -> Causes:
    """Causes in one of these kinds; `old` is of the same."""
    match new:
        case DeviceClass():
            yield from _class(new)
        case ResourceClaim():
            yield from _resource_claim(new, old)
        case ResourceClaimTemplate():
            yield from _template(new, old)
        case ResourceSlice():
            yield from _slice(new, old)


def _class(new: DeviceClass) -> Causes:
    yield from _selectors("spec.selectors", new.spec.selectors)
    yield from _configs("spec.config", new.spec.config)
    if new.spec.extended_resource_name is not None:
        yield from qualified_name("spec.extendedResourceName", new.spec.extended_resource_name)


def _resource_claim(new: ResourceClaim, old: ResourceClaim | None) -> Causes:
    if old is not None:
        yield from immutable("spec", old.spec, new.spec)
    yield from _claim("spec.devices", new.spec.devices)
    yield from _most("status.reservedFor", new.status.reserved_for, MAX_RESERVED_FOR)
    if new.status.allocation is not None:
        results = new.status.allocation.devices.results
        yield from _most("status.allocation.devices.results", results, MAX_RESULTS)


def _template(new: ResourceClaimTemplate, old: ResourceClaimTemplate | None) -> Causes:
    if old is not None:
        yield from immutable("spec", old.spec, new.spec)
    yield from _claim("spec.spec.devices", new.spec.spec.devices)


def _slice(new: ResourceSlice, old: ResourceSlice | None) -> Causes:
    spec = new.spec
    yield from subdomain_name("spec.driver", spec.driver)
    if not spec.pool.name:
        yield required("spec.pool.name")
    if spec.pool.resource_slice_count < 1:
        yield wrong(
            "spec.pool.resourceSliceCount", spec.pool.resource_slice_count, "must be greater than zero"
        )
    places = (spec.node_name, spec.node_selector, spec.all_nodes, spec.per_device_node_selection)
    if sum(bool(place) for place in places) != 1:
        yield wrong(
            "spec",
            "",
            "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
        )
    if old is not None:
        yield from immutable("spec.driver", old.spec.driver, spec.driver)
        yield from immutable("spec.nodeName", old.spec.node_name, spec.node_name)
        yield from immutable("spec.pool.name", old.spec.pool.name, spec.pool.name)
    yield from _counter_sets(new)
    counting = any(device.taints or device.consumes_counters for device in spec.devices)
    yield from _most("spec.devices", spec.devices, MAX_COUNTING_DEVICES if counting else MAX_DEVICES)
    names: set[str] = set()
    for i, device in enumerate(spec.devices):
        if device.name in names:
            yield duplicate(f"spec.devices[{i}].name", device.name)
        names.add(device.name)
        yield from _device(f"spec.devices[{i}]", device)


def _counter_sets(new: ResourceSlice) -> Causes:
    yield from _most("spec.sharedCounters", new.spec.shared_counters, MAX_COUNTER_SETS)
    names: set[str] = set()
    for i, one in enumerate(new.spec.shared_counters):
        where = f"spec.sharedCounters[{i}]"
        yield from label_name(f"{where}.name", one.name)
        if one.name in names:
            yield duplicate(f"{where}.name", one.name)
        names.add(one.name)
        yield from _most(f"{where}.counters", [*one.counters], MAX_COUNTERS)


def _device(field: str, device: Device) -> Causes:
    yield from label_name(f"{field}.name", device.name)
    yield from _most(field, [*device.attributes, *device.capacity], MAX_FACTS)
    for name, value in device.attributes.items():
        where = f"{field}.attributes[{name}]"
        yield from _fact_name(where, name)
        given = [one for one in (value.int_, value.bool_, value.string, value.version) if one is not None]
        if len(given) != 1:
            yield wrong(where, len(given), "exactly one value must be specified")
        elif isinstance(given[0], str) and len(given[0]) > MAX_TEXT:
            yield wrong(where, given[0], f"must be no more than {MAX_TEXT} characters")
    for name in device.capacity:
        yield from _fact_name(f"{field}.capacity[{name}]", name)
    for i, taint in enumerate(device.taints):
        yield from qualified_name(f"{field}.taints[{i}].key", taint.key)
        yield from one_of(f"{field}.taints[{i}].effect", taint.effect, EFFECTS)


def _fact_name(field: str, name: str) -> Causes:
    domain, slash, identifier = name.rpartition("/")
    if slash:
        yield from subdomain_name(field, domain)
    if not IDENTIFIER.fullmatch(identifier):
        yield wrong(
            field, name, "must be a C identifier of at most 32 characters, with or without a domain before it"
        )


def _claim(field: str, claim: DeviceClaim) -> Causes:
    yield from _most(f"{field}.requests", claim.requests, MAX_REQUESTS)
    names: set[str] = set()
    for i, request in enumerate(claim.requests):
        where = f"{field}.requests[{i}]"
        yield from label_name(f"{where}.name", request.name)
        if request.name in names:
            yield duplicate(f"{where}.name", request.name)
        names |= {request.name, *(f"{request.name}/{one.name}" for one in request.first_available)}
        yield from _request(where, request)
    yield from _most(f"{field}.constraints", claim.constraints, MAX_CONSTRAINTS)
    for i, constraint in enumerate(claim.constraints):
        where = f"{field}.constraints[{i}]"
        for j, name in enumerate(constraint.requests):
            if name not in names:
                yield missing(f"{where}.requests[{j}]", name)
        attributes = [one for one in (constraint.match_attribute, constraint.distinct_attribute) if one]
        if len(attributes) != 1:
            yield wrong(where, "", "exactly one of `matchAttribute` and `distinctAttribute` is required")
        elif "/" not in attributes[0]:
            yield wrong(where, attributes[0], "must include the domain, as gpu.nvidia.com/parentUUID")
    yield from _configs(f"{field}.config", claim.config)


def _request(field: str, request: ClaimRequest) -> Causes:
    if (request.exactly is None) == (not request.first_available):
        yield required(field, "exactly one of `exactly` or `firstAvailable` is required")
    if request.exactly is not None:
        yield from _wish(f"{field}.exactly", request.exactly)
    yield from _most(f"{field}.firstAvailable", request.first_available, MAX_ALTERNATIVES)
    names: set[str] = set()
    for i, wish in enumerate(request.first_available):
        where = f"{field}.firstAvailable[{i}]"
        yield from label_name(f"{where}.name", wish.name)
        if wish.name in names:
            yield duplicate(f"{where}.name", wish.name)
        names.add(wish.name)
        yield from _wish(where, wish)


def _wish(field: str, wish: DeviceWish) -> Causes:
    yield from subdomain_name(f"{field}.deviceClassName", wish.device_class_name)
    yield from one_of(f"{field}.allocationMode", wish.allocation_mode, MODES)
    if wish.count < 0:
        yield wrong(f"{field}.count", wish.count, "must be greater than zero")
    if wish.allocation_mode == "All" and wish.count:
        yield wrong(f"{field}.count", wish.count, "must not be specified when allocationMode is 'All'")
    yield from _selectors(f"{field}.selectors", wish.selectors)


def _selectors(field: str, selectors: Sequence[DeviceSelector]) -> Causes:
    yield from _most(field, selectors, MAX_SELECTORS)
    for i, selector in enumerate(selectors):
        where = f"{field}[{i}].cel"
        if selector.cel is None:
            yield required(where)
            continue
        try:
            parse_condition(selector.cel.expression)
        except CelError as error:
            yield wrong(
                f"{where}.expression",
                selector.cel.expression,
                f"character {error.at + 1}: {error.message}",
            )


def _configs(field: str, configs: Sequence[Json]) -> Causes:
    yield from _most(field, configs, MAX_CONFIGS)
    for i, config in enumerate(configs):
        opaque = config.get("opaque") if isinstance(config, dict) else None
        if not isinstance(opaque, dict) or not opaque.get("driver"):
            yield required(f"{field}[{i}].opaque.driver")
        elif len(msgspec.json.encode(opaque.get("parameters"))) > MAX_PARAMETERS_BYTES:
            yield forbidden(
                f"{field}[{i}].opaque.parameters", f"may have at most {MAX_PARAMETERS_BYTES} bytes"
            )


def _most(field: str, items: Sequence[object], most: int) -> Causes:
    if len(items) > most:
        yield wrong(field, len(items), f"must have at most {most} items")
