"""Run the platform on this machine, in the foreground, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.app.home import Home
from penstock.app.quickstart import NAME, VARIABLE
from penstock.app.settings import Settings, load
from penstock.app.supervise import Supervisor, Terminal
from penstock.cli.console import warn

QUESTION = "What is Penstock?"


def run(
    home: Annotated[Path | None, typer.Option(help="Data folder.", show_default=False)] = None,
    gateway_addr: Annotated[
        str | None, typer.Option(help="HOST:PORT of the gateway.", show_default=False)
    ] = None,
    api_addr: Annotated[str | None, typer.Option(help="HOST:PORT of the API.", show_default=False)] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Let other machines reach the gateway without API keys."),
    ] = False,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error.", show_default=False)
    ] = None,
    quickstart: Annotated[
        bool,
        typer.Option(
            "--quickstart/--no-quickstart", help="Create the quickstart service if there is no service yet."
        ),
    ] = True,
) -> None:
    """Settings come from flags, PENSTOCK_ variables and config.yaml in the data folder, in this order."""
    flags = {
        "home": home,
        "gateway_addr": gateway_addr,
        "api_addr": api_addr,
        "insecure": insecure or None,
        "log_level": log_level,
    }
    settings = load(
        os.environ, {name: None if value is None else str(value) for name, value in flags.items()}
    )
    environment = {**os.environ, **_variables(settings), VARIABLE: "1" if quickstart else "0"}
    for warning in settings.warnings:
        warn(warning)
    screen = Screen(settings, quickstart)
    code = asyncio.run(Supervisor(settings, Terminal(screen.say, screen.serving), environment).run())
    if code:
        sys.exit(code)
    screen.say("Stopped.")


class Screen:
    """What a person sees."""

    def __init__(self, settings: Settings, quickstart: bool) -> None:
        self._settings = settings
        self._quickstart = quickstart

    def say(self, message: str) -> None:
        """One line."""
        print(message, flush=True)

    def serving(self, seconds: float) -> None:
        """Both planes answer."""
        endpoint = f"{self._settings.gateway_url}/v1"
        kubeconfig = Home(self._settings.home).kubeconfig
        self.say(f"Penstock is up after {seconds:.1f} s.\n")
        self.say(f"  OpenAI endpoint   {endpoint}")
        if self._settings.grpc is not None:
            self.say(f"  V2 over gRPC      {self._settings.grpc}")
        self.say(f"  kubectl           export KUBECONFIG={kubeconfig}")
        self.say(f"  data and logs     {self._settings.home}")
        self.say("  stop              Ctrl-C")
        keys = self._settings.keys_required
        if keys:
            self.say("\nEvery caller needs an API key: export PENSTOCK_API_KEY=$(penstock keys create NAME)")
        if self._quickstart:
            self.say(f"\nAsk it something:\n\n{curl(endpoint, with_key=keys)}\n")


def curl(endpoint: str, *, with_key: bool) -> str:
    """Ready to paste."""
    key = '-H "Authorization: Bearer $PENSTOCK_API_KEY" ' if with_key else ""
    body = f'{{"model": "{NAME}", "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}'
    return (
        f"  curl -s {endpoint}/chat/completions {key}-H 'Content-Type: application/json' \\\n    -d '{body}'"
    )


def _variables(settings: Settings) -> dict[str, Any]:
    """What the children read, so that they come to the same settings."""
    return {
        "PENSTOCK_HOME": str(settings.home),
        "PENSTOCK_GATEWAY_ADDR": settings.gateway_addr,
        "PENSTOCK_API_ADDR": settings.api_addr,
        "PENSTOCK_INSECURE": str(settings.insecure),
        "PENSTOCK_LOG_LEVEL": settings.log_level,
    }
