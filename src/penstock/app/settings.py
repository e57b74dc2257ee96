"""Every setting: its name, default, and a sentence that says what it does.

A setting is looked for in this order, first found wins: command-line flag, environment variable `PENSTOCK_` + its name
in capitals, `config.yaml` in the data folder (names in camel case, as in manifests), default. `docs/reference/settings.md` is
generated from this file.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from penstock.kit.errors import InvalidInput, nearest

PREFIX = "PENSTOCK_"
CONFIG_FILE = "config.yaml"
MAX_CONFIG_BYTES = 1 << 20
LogLevel = Literal["debug", "info", "warning", "error"]


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class DeclaredNode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A further node to try out a cluster's shape with; its pods run on this machine."""

    name: str
    cpu: str = "4"
    memory: str = "16Gi"
    gpus: int = 0
    labels: dict[str, str] = {}
    taints: tuple[dict[str, str], ...] = ()


class Settings(Struct, frozen=True, kw_only=True, rename="camel"):
    """All settings, checked. Make one with `load`."""

    home: Annotated[Path, Meta(description="Data folder: objects, logs, model cache, token, kubeconfig.")] = (
        Path("~/.penstock")
    )
    gateway_addr: Annotated[
        str, Meta(description="HOST:PORT of the gateway, which applications talk to. Loopback only.")
    ] = "127.0.0.1:8080"
    api_addr: Annotated[
        str, Meta(description="HOST:PORT of the Kubernetes-shaped API (TLS, bearer token).")
    ] = "127.0.0.1:8081"
    log_level: Annotated[
        LogLevel, Meta(description="Least severe log lines that are kept: debug, info, warning or error.")
    ] = "info"
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
    nodes: Annotated[
        tuple[DeclaredNode, ...],
        Meta(description="Further nodes, declared to try out a cluster's shape; only in the file."),
    ] = ()

    @property
    def gateway(self) -> Address:
        """`gateway_addr` in parts."""
        return parse_address("gatewayAddr", self.gateway_addr)

    @property
    def api(self) -> Address:
        """`api_addr` in parts."""
        return parse_address("apiAddr", self.api_addr)


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
    document = {**_file(home / CONFIG_FILE), **variables, **given, "home": str(home)}
    try:
        settings = msgspec.convert(document, Settings, strict=False, dec_hook=_path)
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
        default = "none" if field.default == () else str(field.default)
        variable = "" if field.name == "nodes" else PREFIX + field.name.upper()
        yield SettingRow(field.encode_name, variable, default, meaning)


def parse_address(name: str, text: str) -> Address:
    """`HOST:PORT`, with brackets around an IPv6 host. Raises InvalidInput."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise InvalidInput(
            f"{name}: found {text!r}, expected HOST:PORT with a port from 1 to 65535",
            code="bad_address",
            hint=f"for example {_variable(name)}=127.0.0.1:8080",
        )
    return Address(host, int(port))


def _check(settings: Settings) -> None:
    if settings.gateway == settings.api:
        raise InvalidInput(
            f"gatewayAddr and apiAddr: found {settings.gateway_addr} for both, expected two different ports",
            hint=f"set {PREFIX}API_ADDR to another port",
        )
    if not settings.gateway.is_loopback:
        raise InvalidInput(
            f"gatewayAddr: found {settings.gateway_addr}, expected a loopback address: "
            "the gateway asks callers for no credentials",
            code="open_bind",
            hint="bind 127.0.0.1 and put a proxy that authenticates in front",
        )


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    known = {row.variable: row.name for row in rows() if row.variable}
    return {name: environ[variable] for variable, name in known.items() if environ.get(variable)}


def _file(path: Path) -> dict[str, Any]:
    try:
        size_bytes = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None
    if size_bytes > MAX_CONFIG_BYTES:
        raise InvalidInput(f"{path}: found {size_bytes} bytes, expected at most {MAX_CONFIG_BYTES}")
    import yaml  # noqa: PLC0415  most installations have no such file, and a command should start fast

    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{path}: is not YAML: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidInput(f"{path}: found a {type(document).__name__}, expected a mapping of settings")
    known = [row.name for row in rows() if row.name != "home"]
    for name in document:
        if name not in known:
            close = nearest(str(name), known, 1)
            raise InvalidInput(
                f"{path}: there is no setting {name!r}",
                code="unknown_setting",
                hint=f"did you mean {close[0]!r}?" if close else f"settings are: {', '.join(known)}",
            )
    return document


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError


def _explained(error: msgspec.ValidationError, document: Mapping[str, Any]) -> InvalidInput:
    """msgspec ends its message with a path such as "- at `$.logLevel`"."""
    expected, _, where = str(error).partition(" - at `$.")
    path = where.rstrip("`")
    name = path.split(".")[0].split("[")[0]
    found = f"found {document[name]!r}: " if name in document else ""
    variable = _variable(name)
    return InvalidInput(
        f"{path or 'settings'}: {found}{expected[:1].lower()}{expected[1:]}",
        code="bad_setting",
        hint=f"set {variable}, or {name} in {CONFIG_FILE}; docs/reference/settings.md lists what is possible",
    )


def _variable(name: str) -> str:
    return PREFIX + "".join(f"_{c}" if c.isupper() else c.upper() for c in name)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
