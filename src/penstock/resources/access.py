"""Who may call models: API keys and the tenants that they belong to (group penstock.dev, ours)."""

from __future__ import annotations

from msgspec import field

from penstock.resources.meta import Condition, Model, Resource


class AccessLimit(Model, frozen=True):
    """At most so much per minute, for each model that matches `model`: a pattern with `*` and `?` over `namespace/name`.

    A pattern without a slash is matched with the name alone. What is not given, or 0, is not limited.
    """

    model: str = "*"
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class ApiKeySpec(Model, frozen=True):
    """How far a key reaches.

    `models` are patterns with `*` and `?` over `namespace/name`; one without a slash is matched with the name alone. Without any
    the key reaches every model of its namespaces. `namespaces` are patterns too; without any it is the key's own namespace.
    Its requests have `priority` (0), and may ask for up to `max_priority` (its own); with `fairness_ids` they may say on whose account they are.
    `admin` lets it see what concerns the whole gateway, such as metrics; `explain` how its own requests are routed. `expires_at` is RFC 3339. `disabled` revokes the key
    until it is taken back. `tenant` names a Tenant, whose limits hold besides the key's own.
    """

    tenant: str = ""
    models: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    admin: bool = False
    explain: bool = False
    priority: int | None = None
    max_priority: int | None = None
    fairness_ids: bool = False
    expires_at: str | None = None
    disabled: bool = False
    limits: tuple[AccessLimit, ...] = ()


class IssuedToken(Model, frozen=True):
    """A token of a key: HMAC-SHA256 of all of it in hex, and from and until when it is taken (no end: for ever)."""

    hash: str
    created_at: str = ""
    expires_at: str | None = None


class ApiKeyStatus(Model, frozen=True):
    """`id` is the public part of every token of the key; `phase` is Pending, Active, Expired or Revoked.

    `hashes` are written when a token is issued, newest first; the tokens themselves are kept nowhere.
    """

    id: str = ""
    hashes: tuple[IssuedToken, ...] = ()
    phase: str = ""
    conditions: tuple[Condition, ...] = ()


class ApiKey(Resource, frozen=True, kw_only=True):
    """Lets programs call models through the gateway. Its tokens are issued by the subresource `token`."""

    api_version: str = field(default_factory=lambda: "penstock.dev/v1alpha1")
    kind: str = field(default_factory=lambda: "ApiKey")
    spec: ApiKeySpec = field(default_factory=ApiKeySpec)
    status: ApiKeyStatus = field(default_factory=ApiKeyStatus)


class TenantSpec(Model, frozen=True):
    """`limits` hold for all keys of the tenant together, besides each key's own. `weight` (1) is its share among tenants whose requests wait."""

    display_name: str = ""
    weight: float | None = None
    limits: tuple[AccessLimit, ...] = ()


class Tenant(Resource, frozen=True, kw_only=True):
    """A customer, team or application whose keys share limits."""

    api_version: str = field(default_factory=lambda: "penstock.dev/v1alpha1")
    kind: str = field(default_factory=lambda: "Tenant")
    spec: TenantSpec = field(default_factory=TenantSpec)
