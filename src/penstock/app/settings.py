"""Every setting: its name, default, and a sentence that says what it does.

A setting is looked for in this order, first found wins: command-line flag, environment variable `PENSTOCK_` + its name
in capitals, `config.yaml` in the data folder (names in camel case, as in manifests), default. `docs/reference/settings.md` is
generated from this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from penstock.app.addresses import PREFIX, Address, check_peers, parse_address, variable_of
from penstock.app.config_file import read_config
from penstock.app.node_settings import DeclaredNode
from penstock.app.peer_settings import ModelPeers, check_model_peers
from penstock.kit.errors import InvalidInput

CONFIG_FILE = "config.yaml"
SECRETS = ("redisUrl", "peersSecret")
UNPREFIXED = ("ENABLE_KV_AWARE_ROUTING", "PROMPT_TOKEN_THRESHOLD")
"""Variables that are also taken without PREFIX, where they are not given with it."""
IN_FILE = ("nodes", "model_peers")
"""Settings with a structure of their own."""
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
LogLevel = Literal["debug", "info", "warning", "error"]
Defragment = Literal["never", "for-waiting", "always"]


class SecretText(str):
    """A text that shows itself nowhere but where it is used."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[redacted]'" if self else "''"


class Settings(Struct, frozen=True, kw_only=True, rename="camel"):
    """All settings, checked. Make one with `load`."""

    home: Annotated[Path, Meta(description="Data folder: objects, logs, model cache, token, kubeconfig.")] = (
        Path("~/.penstock")
    )
    gateway_addr: Annotated[
        str,
        Meta(
            description="HOST:PORT of the gateway, which applications talk to. Where other machines can reach it, "
            "it asks every caller for an API key."
        ),
    ] = "127.0.0.1:8080"
    api_addr: Annotated[
        str, Meta(description="HOST:PORT of the Kubernetes-shaped API (TLS, bearer token).")
    ] = "127.0.0.1:8081"
    grpc_addr: Annotated[
        str,
        Meta(
            description="HOST:PORT of the gateway for KServe's V2 gRPC, for example 127.0.0.1:8082; none: gRPC is not spoken. "
            "Keys and certificates are those of the HTTP port."
        ),
    ] = ""
    require_keys: Annotated[
        bool,
        Meta(
            description="Ask every caller of the gateway for an API key, also where only this machine can reach it."
        ),
    ] = False
    insecure: Annotated[
        bool,
        Meta(
            description="Let other machines reach the gateway without API keys. Whoever reaches it may use every model."
        ),
    ] = False
    tls_certificate: Annotated[
        Path | None,
        Meta(
            description="PEM file with the gateway's certificate and those above it; with it the gateway speaks HTTPS."
        ),
    ] = None
    tls_key: Annotated[
        Path | None,
        Meta(description="PEM file with the private key of `tlsCertificate`, without a passphrase."),
    ] = None
    upstream_ca: Annotated[
        Path | None,
        Meta(
            description="PEM file with the authorities that certificates of engines are checked against; none: those of the system."
        ),
    ] = None
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="Processes of the gateway, which share its port. One saturates one core.",
        ),
    ] = 1
    redis_url: Annotated[
        SecretText,
        Meta(
            description="URL of a Redis (redis://, rediss:// or unix://) in which all workers and machines count limits of API keys "
            "together; without one each worker has its share. A secret: no flag, and never shown."
        ),
    ] = SecretText("")
    peers: Annotated[
        str,
        Meta(
            description="HOST:PORT of the gateways on other machines, with commas between them, or of a headless Service that names all; "
            "they tell each other what they have under way where. None: gateways of other machines are not heard."
        ),
    ] = ""
    peers_addr: Annotated[
        str,
        Meta(
            description="HOST:PORT (UDP) at which this machine's gateway hears those of other machines; needed with `peers`."
        ),
    ] = ""
    peers_secret: Annotated[
        SecretText,
        Meta(
            description="What gateways of several machines sign with what they tell each other, the same for all; at least 16 characters, "
            "needed with `peers`. A secret: no flag, and never shown."
        ),
    ] = SecretText("")
    otlp_endpoint: Annotated[
        str,
        Meta(
            description="URL of an OpenTelemetry collector (OTLP over HTTP) that gets the gateway's traces; none: no traces."
        ),
    ] = ""
    trace_sample: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of requests that are traced when the caller did not decide: 0 is none, 1 is all.",
        ),
    ] = 0.01
    access_log: Annotated[
        bool,
        Meta(
            description="Write a line of JSON for each request of the gateway to logs/access.log: who, what, how long; never content."
        ),
    ] = True
    access_log_max_bytes: Annotated[
        int,
        Meta(
            ge=1 << 16,
            description="Size at which access.log is set aside and begun anew; four such files are kept.",
        ),
    ] = 64 << 20
    log_level: Annotated[
        LogLevel, Meta(description="Least severe log lines that are kept: debug, info, warning or error.")
    ] = "info"
    enable_kv_aware_routing: Annotated[
        bool,
        Meta(
            description="Send requests of services that are given no routing profile where the prompt's KV cache is and the least work waits; "
            "false: where the least requests are in flight. ENABLE_KV_AWARE_ROUTING is taken too."
        ),
    ] = True
    prompt_token_threshold: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000_000,
            description="A prompt with more tokens than this that no cache holds is a long one, unless its routing profile says otherwise. "
            "PROMPT_TOKEN_THRESHOLD is taken too.",
        ),
    ] = 2048
    drain_s: Annotated[
        float,
        Meta(
            ge=0, le=3600, description="Seconds that running requests get to finish when the gateway stops."
        ),
    ] = 10.0
    stop_grace_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Upper limit in seconds for each pod's own termination grace when the platform stops.",
        ),
    ] = 30.0
    model_peers: Annotated[
        ModelPeers,
        Meta(
            description="Other hosts with which model caches are shared; only in the file. See docs/howto/model-cache.md."
        ),
    ] = ModelPeers()
    nodes: Annotated[
        tuple[DeclaredNode, ...],
        Meta(
            description="Further nodes, declared to try out a cluster's shape; only in the file. See docs/howto/gpus.md."
        ),
    ] = ()
    device_plugin_config: Annotated[
        str,
        Meta(
            description="NAMESPACE/NAME of the ConfigMap with configurations of NVIDIA's device plugin; a node's label "
            "nvidia.com/device-plugin.config says which of its keys holds there."
        ),
    ] = "gpu-operator/device-plugin-config"

    defragment: Annotated[
        Defragment,
        Meta(
            description="When running pods are moved so that GPUs serve better: never, for-waiting (when a pod finds no room that moves "
            "would make) or always (also so that less of what is free is of no use). See docs/howto/defragment.md."
        ),
    ] = "never"
    defragment_moves_per_hour: Annotated[
        int, Meta(ge=0, le=10_000, description="How many pods may be moved in any hour.")
    ] = 4
    defragment_gpu_seconds_per_hour: Annotated[
        float,
        Meta(
            ge=0,
            description="How many GPU-seconds may be lost by moves in any hour: while successors start, and work that is done again.",
        ),
    ] = 600.0

    @property
    def gateway(self) -> Address:
        """`gateway_addr` in parts."""
        return parse_address("gatewayAddr", self.gateway_addr)

    @property
    def gateway_url(self) -> str:
        """Where programs on this machine find the gateway."""
        return f"{'https' if self.tls_certificate else 'http'}://{self.gateway}"

    @property
    def api(self) -> Address:
        """`api_addr` in parts."""
        return parse_address("apiAddr", self.api_addr)

    @property
    def grpc(self) -> Address | None:
        """`grpc_addr` in parts, None if there is none."""
        return parse_address("grpcAddr", self.grpc_addr) if self.grpc_addr else None

    @property
    def peer_addresses(self) -> tuple[Address, ...]:
        """`peers` in parts."""
        return tuple(parse_address("peers", one.strip()) for one in self.peers.split(",") if one.strip())

    @property
    def peers_listen(self) -> Address | None:
        """`peers_addr` in parts, None if there is none."""
        return parse_address("peersAddr", self.peers_addr) if self.peers_addr else None

    @property
    def public(self) -> tuple[str, ...]:
        """Addresses of the gateway that other machines can reach, as they are set."""
        given = {"gatewayAddr": self.gateway, "grpcAddr": self.grpc}
        return tuple(f"{name} {one}" for name, one in given.items() if one and not one.is_loopback)

    @property
    def keys_required(self) -> bool:
        """Whether a caller of the gateway must show an API key: where it was asked for, and on every public bind unless `insecure`."""
        return self.require_keys or (bool(self.public) and not self.insecure)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know about settings that are allowed but dangerous."""
        found = []
        for address in self.public:
            if not self.keys_required:
                found.append(f"{address}: whoever reaches it may use every model, without an API key")
            if self.tls_certificate is None:
                found.append(
                    f"{address}: prompts, answers and API keys cross the network as plain text; set tlsCertificate and tlsKey"
                )
        return tuple(found)


class SettingRow(NamedTuple):
    """One setting as documentation shows it."""

    name: str
    variable: str
    default: str
    meaning: str


def load(environ: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings in force. `flags` are those given on the command line; None values count as not given.

    Raises InvalidInput, which names the setting, where it was set, what was found and what was expected.
    """
    given = {_camel(name): value for name, value in (flags or {}).items() if value is not None}
    variables = _variables(environ)
    default_home = Settings().home
    home = Path(given.get("home") or variables.get("home") or default_home).expanduser().absolute()
    known = [row.name for row in rows() if row.name != "home"]
    document = {**read_config(home / CONFIG_FILE, known), **variables, **given, "home": str(home)}
    try:
        settings = msgspec.convert(document, Settings, strict=False, dec_hook=_decoded)
    except msgspec.ValidationError as error:
        raise _explained(error, document) from None
    _check(settings)
    return settings


def rows() -> Iterator[SettingRow]:
    """Every setting, in the order of this file."""
    info = msgspec.inspect.type_info(Settings)
    assert isinstance(info, msgspec.inspect.StructType)
    for field in info.fields:
        meaning = (getattr(field.type, "extra_json_schema", None) or {}).get("description", "")
        default = "none" if field.default in ((), None, "", ModelPeers()) else str(field.default)
        variable = "" if field.name in IN_FILE else PREFIX + field.name.upper()
        yield SettingRow(field.encode_name, variable, default, meaning)


def _check(settings: Settings) -> None:
    addresses = {"gatewayAddr": settings.gateway, "apiAddr": settings.api, "grpcAddr": settings.grpc}
    for one, other in combinations([name for name, address in addresses.items() if address], 2):
        if addresses[one] == addresses[other]:
            raise InvalidInput(
                f"{one} and {other}: found {addresses[one]} for both, expected two different ports",
                hint=f"set {variable_of(other)} to another port",
            )
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        given, lacking = ("tlsKey", "tlsCertificate") if settings.tls_key else ("tlsCertificate", "tlsKey")
        raise InvalidInput(
            f"{lacking}: found nothing, expected a file, since {given} is set",
            hint=f"set {variable_of(lacking)}",
        )
    if settings.redis_url and not settings.redis_url.startswith(REDIS_SCHEMES):
        raise InvalidInput(
            f"redisUrl: expected a URL that begins with {', '.join(REDIS_SCHEMES)}",
            code="bad_setting",
            hint="for example PENSTOCK_REDIS_URL=rediss://:PASSWORD@HOST:6379/0",
        )
    if not re.fullmatch(r"[^/]+/[^/]+", settings.device_plugin_config):
        raise InvalidInput(
            f"devicePluginConfig: found {settings.device_plugin_config!r}, expected NAMESPACE/NAME"
        )
    check_model_peers(settings.model_peers)
    if settings.nodes:
        from penstock.app.declared_nodes import declared_gpus  # noqa: PLC0415  most installations declare none, and a command should start fast

        for node in settings.nodes:
            declared_gpus(node)
    check_peers(settings.peer_addresses, settings.peers_listen, settings.peers_secret)


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    known = {row.variable: row.name for row in rows() if row.variable}
    bare = {variable: known[PREFIX + variable] for variable in UNPREFIXED}
    return {name: environ[variable] for variable, name in (bare | known).items() if environ.get(variable)}


def _decoded(kind: type, value: Any) -> Any:
    if kind in (Path, SecretText) and isinstance(value, str):
        return kind(value)
    raise TypeError(f"Expected a text, got `{type(value).__name__}`")


def _explained(error: msgspec.ValidationError, document: Mapping[str, Any]) -> InvalidInput:
    """msgspec ends its message with a path such as "- at `$.logLevel`"."""
    expected, _, where = str(error).partition(" - at `$.")
    path = where.rstrip("`")
    name = path.split(".")[0].split("[")[0]
    found = f"found {_value_at(document, path)!r}: " if name in document and name not in SECRETS else ""
    by_variable = (
        f"{variable_of(name)}, or " if any(row.name == name and row.variable for row in rows()) else ""
    )
    return InvalidInput(
        f"{path or 'settings'}: {found}{expected[:1].lower()}{expected[1:]}",
        code="bad_setting",
        hint=f"set {by_variable}{name} in {CONFIG_FILE}; docs/reference/settings.md lists what is possible",
    )


def _value_at(document: Mapping[str, Any], path: str) -> Any:
    """What stands at a path such as `nodes[0].gpus`, as far as it leads."""
    value: Any = document
    for step in re.findall(r"[^.\[\]]+", path):
        try:
            value = value[int(step) if isinstance(value, list) else step]
        except (KeyError, IndexError, ValueError, TypeError):
            break
    return value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
