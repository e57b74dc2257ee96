"""Dynamic resource allocation (resource.k8s.io/v1): what devices nodes have, classes of them, and claims on them."""

from __future__ import annotations

from msgspec import field

from penstock.resources.core import Taint
from penstock.resources.meta import Condition, Json, Model, ObjectMeta, Quantity, Resource


class DeviceAttribute(Model, frozen=True):
    """A fact about a device; exactly one is set. `version` is a semantic version."""

    int_: int | None = field(default=None, name="int")
    bool_: bool | None = field(default=None, name="bool")
    string: str | None = None
    version: str | None = None


class DeviceCapacity(Model, frozen=True):
    """An amount that a device has. `request_policy` says in which steps it may be shared out."""

    value: Quantity
    request_policy: Json = None


class Counter(Model, frozen=True):
    """An amount that several devices draw upon."""

    value: Quantity


class CounterSet(Model, frozen=True):
    """The counters of one physical device."""

    name: str
    counters: dict[str, Counter]


class CounterConsumption(Model, frozen=True):
    """What a device takes of a counter set while it is in use."""

    counter_set: str
    counters: dict[str, Counter]


class Device(Model, frozen=True):
    """One thing that can be given to a pod: a GPU, or a part of one. Names of attributes without a domain belong to the driver's."""

    name: str
    attributes: dict[str, DeviceAttribute] = {}
    capacity: dict[str, DeviceCapacity] = {}
    consumes_counters: tuple[CounterConsumption, ...] = ()
    taints: tuple[Taint, ...] = ()
    allow_multiple_allocations: bool | None = None
    node_name: str = ""
    node_selector: Json = None
    all_nodes: bool | None = None
    binding_conditions: tuple[str, ...] = ()
    binding_failure_conditions: tuple[str, ...] = ()
    binds_to_node: bool | None = None


class ResourcePool(Model, frozen=True):
    """The slices that belong together: as many as `resource_slice_count`, all of one `generation`."""

    name: str
    resource_slice_count: int
    generation: int = 0


class ResourceSliceSpec(Model, frozen=True):
    """Devices of one driver on one node (or reachable from several)."""

    driver: str
    pool: ResourcePool
    node_name: str = ""
    node_selector: Json = None
    all_nodes: bool | None = None
    per_device_node_selection: bool | None = None
    devices: tuple[Device, ...] = ()
    shared_counters: tuple[CounterSet, ...] = ()


class ResourceSlice(Resource, frozen=True, kw_only=True):
    """What a driver found."""

    api_version: str = field(default_factory=lambda: "resource.k8s.io/v1")
    kind: str = field(default_factory=lambda: "ResourceSlice")
    spec: ResourceSliceSpec


class CelSelector(Model, frozen=True):
    """A condition on `device` in the Common Expression Language."""

    expression: str


class DeviceSelector(Model, frozen=True):
    """A condition that a device must meet."""

    cel: CelSelector | None = None


class DeviceClassSpec(Model, frozen=True):
    """All selectors must hold. `extended_resource_name` lets pods ask for the class without a claim."""

    selectors: tuple[DeviceSelector, ...] = ()
    config: tuple[Json, ...] = ()
    extended_resource_name: str | None = None


class DeviceClass(Resource, frozen=True):
    """A kind of device that claims name."""

    api_version: str = field(default_factory=lambda: "resource.k8s.io/v1")
    kind: str = field(default_factory=lambda: "DeviceClass")
    spec: DeviceClassSpec = field(default_factory=DeviceClassSpec)


class CapacityRequests(Model, frozen=True):
    """How much of each capacity is wanted, at least or (where the device is shared out) as a part."""

    requests: dict[str, Quantity] = {}


class DeviceWish(Model, frozen=True):
    """Devices of one class. Without an allocation mode `count` devices are meant, one if it is 0; `name` only in alternatives."""

    device_class_name: str
    name: str = ""
    selectors: tuple[DeviceSelector, ...] = ()
    allocation_mode: str = ""
    count: int = 0
    admin_access: bool | None = None
    tolerations: tuple[Json, ...] = ()
    capacity: CapacityRequests | None = None


class ClaimRequest(Model, frozen=True):
    """One of `exactly` and `first_available` is set; of the latter the first that can be had is taken."""

    name: str
    exactly: DeviceWish | None = None
    first_available: tuple[DeviceWish, ...] = ()


class ClaimConstraint(Model, frozen=True):
    """All devices of the named requests (of all, if none is named) have the same, or each another, value of an attribute."""

    requests: tuple[str, ...] = ()
    match_attribute: str | None = None
    distinct_attribute: str | None = None


class DeviceClaim(Model, frozen=True):
    """What is wanted together."""

    requests: tuple[ClaimRequest, ...] = ()
    constraints: tuple[ClaimConstraint, ...] = ()
    config: tuple[Json, ...] = ()


class ResourceClaimSpec(Model, frozen=True):
    """What is wanted."""

    devices: DeviceClaim = field(default_factory=DeviceClaim)


class AllocationResult(Model, frozen=True):
    """A device that was given for a request."""

    request: str
    driver: str
    pool: str
    device: str
    admin_access: bool | None = None
    tolerations: tuple[Json, ...] = ()
    share_id: str | None = field(default=None, name="shareID")
    consumed_capacity: dict[str, Quantity] = {}
    binding_conditions: tuple[str, ...] = ()
    binding_failure_conditions: tuple[str, ...] = ()


class DeviceAllocation(Model, frozen=True):
    """All devices that were given."""

    results: tuple[AllocationResult, ...] = ()
    config: tuple[Json, ...] = ()


class ClaimAllocation(Model, frozen=True):
    """What was given, and on which nodes it can be used."""

    devices: DeviceAllocation = field(default_factory=DeviceAllocation)
    node_selector: Json = None
    allocation_timestamp: str | None = None


class ClaimConsumer(Model, frozen=True):
    """Who uses a claim: a pod has the resource `pods` and no group."""

    resource: str
    name: str
    uid: str
    api_group: str = ""


class ResourceClaimStatus(Model, frozen=True):
    """What was given to whom."""

    allocation: ClaimAllocation | None = None
    reserved_for: tuple[ClaimConsumer, ...] = ()
    devices: tuple[Json, ...] = ()
    conditions: tuple[Condition, ...] = ()


class ResourceClaim(Resource, frozen=True):
    """Devices that a pod, or several, may hold."""

    api_version: str = field(default_factory=lambda: "resource.k8s.io/v1")
    kind: str = field(default_factory=lambda: "ResourceClaim")
    spec: ResourceClaimSpec = field(default_factory=ResourceClaimSpec)
    status: ResourceClaimStatus = field(default_factory=ResourceClaimStatus)


class ClaimTemplateSpec(Model, frozen=True):
    """What the claim of each pod looks like."""

    spec: ResourceClaimSpec
    metadata: ObjectMeta = field(default_factory=ObjectMeta)


class ResourceClaimTemplate(Resource, frozen=True, kw_only=True):
    """A claim of its own for each pod that names this."""

    api_version: str = field(default_factory=lambda: "resource.k8s.io/v1")
    kind: str = field(default_factory=lambda: "ResourceClaimTemplate")
    spec: ClaimTemplateSpec
