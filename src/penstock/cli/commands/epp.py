"""Pick endpoints for Envoy (Gateway API Inference Extension), in the foreground, until Ctrl-C.

Envoy asks over its external processing protocol; docs/howto/envoy.md has a configuration that works.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from penstock.app.epp import Wishes
from penstock.app.epp import run as pick
from penstock.app.settings import load
from penstock.cli import manifests
from penstock.kit.errors import InvalidInput
from penstock.resources.admission import admit
from penstock.resources.routing import RoutingProfile

DEFAULT_LISTEN = "127.0.0.1:9002"


Listen = Annotated[str, typer.Option(help="HOST:PORT for Envoy; one that other machines reach needs TLS.")]
Endpoints = Annotated[
    str,
    typer.Option(
        help="IP:PORT,... of engines that serve one model; default: the services of the platform in the data folder.",
        show_default=False,
    ),
]
Service = Annotated[
    str,
    typer.Option(
        help="NAMESPACE/NAME that all requests are for; default: the one whose model they name.",
        show_default=False,
    ),
]
Objectives = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=PRIORITY of an InferenceObjective for --endpoints, as x-llm-d-inference-objective names it; below 0 gives way. May be given again.",
        show_default=False,
    ),
]
Profile = Annotated[
    Path | None,
    typer.Option(
        help="File with the RoutingProfile for --endpoints; default: the built-in one.", show_default=False
    ),
]
Fallbacks = Annotated[
    int,
    typer.Option(
        min=0,
        max=15,
        help="Endpoints that Envoy is told beside the first, to try if that fails. 0 for clusters that take one alone (ORIGINAL_DST).",
    ),
]
Dialect = Annotated[str, typer.Option(help="How the engines of --endpoints name their metrics.")]
Certificate = Annotated[
    Path | None, typer.Option(help="PEM file with the certificate for --listen.", show_default=False)
]
Key = Annotated[Path | None, typer.Option(help="PEM file with its private key.", show_default=False)]
Home = Annotated[Path | None, typer.Option(help="Data folder.", show_default=False)]


def run(
    listen: Listen = DEFAULT_LISTEN,
    endpoints: Endpoints = "",
    service: Service = "",
    objective: Objectives = None,
    routing_profile: Profile = None,
    fallbacks: Fallbacks = 2,
    metrics_dialect: Dialect = "vllm",
    tls_certificate: Certificate = None,
    tls_key: Key = None,
    home: Home = None,
) -> None:
    """See the module."""
    settings = load(os.environ, {"home": None if home is None else str(home)})
    given = tuple(part.strip() for part in endpoints.split(",") if part.strip())
    if given and service:
        raise InvalidInput("--endpoints and --service: found both, expected one of them")
    if not given and (routing_profile is not None or objective):
        raise InvalidInput(
            f"{'--objective' if routing_profile is None else '--routing-profile'}: found one without --endpoints",
            hint="services name their profile by the annotation penstock.dev/routing-profile, and have InferenceObjectives of their own",
        )
    wishes = Wishes(
        listen=listen,
        home=settings.home,
        endpoints=given,
        service=service,
        objectives=tuple(objective or ()),
        metrics_dialect=metrics_dialect,
        profile=_profile(routing_profile) if routing_profile is not None else None,
        fallbacks=fallbacks,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        drain_s=settings.drain_s,
        log_level=settings.log_level,
    )
    source = f"{len(given)} endpoints" if given else f"the services of {settings.home}"
    pick(wishes, lambda: print(f"Picking endpoints at {listen} from {source}. Ctrl-C stops.", flush=True))


def _profile(file: Path) -> RoutingProfile:
    found = [admit(manifest.document).object for manifest in manifests.read((str(file),))]
    if len(found) != 1 or not isinstance(found[0], RoutingProfile):
        raise InvalidInput(
            f"--routing-profile: found {', '.join(one.kind for one in found)} in {file}, expected one RoutingProfile"
        )
    return found[0]
