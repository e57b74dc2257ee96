"""Make, list, rotate and revoke the API keys with which programs call models."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from penstock.cli.api import Api, connect
from penstock.cli.commands.get import Getter
from penstock.cli.names import Resource, Wanted, of_kind
from penstock.cli.options import AllNamespaces, Context, Kubeconfig, Namespace
from penstock.kit.durations import parse_duration_s
from penstock.kit.errors import AlreadyExists, InvalidInput, NotFound, PlatformError, nearest
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.access import ApiKey, Tenant
from penstock.resources.scheme import kind_of

KEYS, TENANTS = of_kind(kind_of(ApiKey)), of_kind(kind_of(Tenant))
MERGE = "application/merge-patch+json"
MAX_LIFE_S = 100 * 365 * 86_400
Name = Annotated[str, typer.Argument(help="Name of the key.", show_default=False)]


def create(
    name: Name,
    models: Annotated[
        str, typer.Option(help="Models it may use, with * and ?, by commas; default: all it reaches.")
    ] = "",
    reach: Annotated[
        str, typer.Option(help="Namespaces whose models it may use, by commas; default: its own.")
    ] = "",
    tenant: Annotated[str, typer.Option(help="Tenant whose limits hold as well.", show_default=False)] = "",
    expires: Annotated[
        str, typer.Option(help="Until when it works: 30d, 12h, or a time in RFC 3339; default: for ever.")
    ] = "",
    admin: Annotated[bool, typer.Option("--admin", help="Let it see metrics of the whole gateway.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Let it see how its own requests are routed.")
    ] = False,
    priority: Annotated[
        int | None, typer.Option(help="How urgent its requests are; default: 0.", show_default=False)
    ] = None,
    max_priority: Annotated[
        int | None, typer.Option(help="How urgent they may ask to be; default: no more.", show_default=False)
    ] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests per minute.", show_default=False)] = None,
    tpm: Annotated[
        int | None, typer.Option(help="Tokens per minute, in and out.", show_default=False)
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Make a key. The key itself is printed once, alone on standard output; only its hash is kept."""
    limits = {"requestsPerMinute": rpm, "tokensPerMinute": tpm}
    spec = {
        "models": _listed(models),
        "namespaces": _listed(reach),
        "tenant": tenant,
        "expiresAt": end_of(expires),
        "admin": admin,
        "explain": explain,
        "priority": priority,
        "maxPriority": max_priority,
        "limits": [{k: v for k, v in limits.items() if v is not None}] if (rpm, tpm) != (None, None) else [],
    }
    api = connect(kubeconfig, context)
    place = namespace or api.namespace
    if tenant:
        _check_exists(api, TENANTS, "", tenant)
    _make(api, place, name, {field: value for field, value in spec.items() if value or type(value) is int})
    try:
        told = _issue(api, place, name, 0)
    except PlatformError:
        _say(
            f"{place}/{name} exists but has no token yet; `penstock keys rotate {name} -n {place}` issues one"
        )
        raise
    _say(f"API key {place}/{name}. This is the only time it is shown; send it as `Authorization: Bearer …`.")
    _print(told)


def _make(api: Api, place: str, name: str, spec: dict[str, Any]) -> None:
    document = {
        "apiVersion": KEYS.api_version,
        "kind": KEYS.kind,
        "metadata": {"name": name},
        "spec": spec,
    }
    try:
        api.send("POST", KEYS.path(place), body=document, query={"fieldValidation": "Strict"})
    except AlreadyExists as error:
        hint = f"`penstock keys rotate {name} -n {place}` gives it a new secret"
        raise AlreadyExists(error.message, hint=hint) from None


def list_keys(
    all_namespaces: AllNamespaces = False,
    output: Annotated[
        str, typer.Option("--output", "-o", help="wide, yaml, json or name", show_default=False)
    ] = "",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List keys; `-o wide` shows the public part that every token of a key begins with."""
    api = connect(kubeconfig, context)
    place = None if all_namespaces else namespace or api.namespace
    if not Getter(api, place, output, "").show([Wanted(KEYS)]) and output not in ("yaml", "json"):
        _say(f"No API keys found{'' if place is None else f' in namespace {place}'}.")


def rotate(
    name: Name,
    overlap: Annotated[
        str, typer.Option(help="How long the older key is taken beside the new one; 0 ends it at once.")
    ] = "24h",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Give a key a new secret, printed once, alone on standard output."""
    overlap_s = _seconds("--overlap", overlap)
    api = connect(kubeconfig, context)
    place = namespace or api.namespace
    _check_exists(api, KEYS, place, name)
    told = _issue(api, place, name, overlap_s)
    older = (
        f"Older ones are taken for {overlap} more." if overlap_s else "Older ones are refused from now on."
    )
    _say(f"API key {place}/{name}. This is the only time it is shown. {older}")
    _print(told)


def revoke(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Let it work again.")] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Refuse a key from now on, on every gateway within a second; `penstock delete apikey NAME` removes it."""
    api = connect(kubeconfig, context)
    place = namespace or api.namespace
    _check_exists(api, KEYS, place, name)
    api.send("PATCH", KEYS.path(place, name), body={"spec": {"disabled": not undo}}, media=MERGE)
    print(f"{KEYS.title}/{name} {'works again' if undo else 'revoked'}")


ACTIONS = {"create": create, "list": list_keys, "rotate": rotate, "revoke": revoke}


def _issue(api: Api, namespace: str, name: str, overlap_s: int) -> dict[str, Any]:
    body = {"apiVersion": KEYS.api_version, "kind": "TokenRequest", "spec": {"overlapSeconds": overlap_s}}
    status: dict[str, Any] = api.send("POST", KEYS.path(namespace, name, "token"), body=body).document[
        "status"
    ]
    return status


def _print(told: dict[str, Any]) -> None:
    sys.stdout.write(f"{told['token']}\n")
    sys.stdout.flush()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _check_exists(api: Api, resource: Resource, namespace: str, name: str) -> None:
    """Raises NotFound with the nearest names."""
    try:
        api.get(resource.path(namespace, name))
    except NotFound as error:
        items = api.get(resource.path(namespace)).get("items", ())
        names = [item["metadata"]["name"] for item in items]
        close = nearest(name, names)
        known = (
            f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(names[:8]) or 'none'}"
        )
        raise NotFound(error.message, hint=known) from None


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def end_of(text: str) -> str:
    """RFC 3339, from a span of time or such a time. Raises InvalidInput."""
    if not text:
        return ""
    now = time.time()
    end = _time("--expires", text) if "T" in text else now + _seconds("--expires", text)
    if not now < end < now + MAX_LIFE_S:
        raise InvalidInput(f"--expires: found {text!r}, expected a time to come, within 100 years")
    return rfc3339(end)


def _time(option: str, text: str) -> float:
    try:
        return parse_rfc3339(text)
    except InvalidInput as error:
        raise InvalidInput(f"{option}: {error.message}", code=error.code) from None


def _seconds(option: str, text: str) -> int:
    try:
        return parse_duration_s(text)
    except InvalidInput as error:
        raise InvalidInput(f"{option}: {error.message}", code=error.code) from None
