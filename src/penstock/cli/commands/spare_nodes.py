"""Tell which nodes are not needed: hardly used for ten minutes, and each of their pods has a place on the others.

Since when a node is hardly used is counted from the first time that this command saw it so; ask again later, or from a timer. Nothing is changed.
"""

from __future__ import annotations

import os
import time
from typing import Annotated

import msgspec
import typer

from penstock.app.dry_cluster import DryCluster
from penstock.app.home import Home
from penstock.app.prices import load_prices
from penstock.app.settings import load
from penstock.app.spare_nodes import read_since, write_since
from penstock.cli.api import connect
from penstock.cli.console import check_output, print_json, print_table
from penstock.cli.costs import shown
from penstock.cli.options import Context, Kubeconfig
from penstock.cli.snapshot import Snapshot
from penstock.decide.spare_nodes import spare
from penstock.host.placement import is_pending
from penstock.kit.errors import Unavailable


def run(
    output: Annotated[
        str, typer.Option("--output", "-o", help="json; without, a table", show_default=False)
    ] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Where pods wait for a node, none is spare: see penstock node-pools."""
    check_output(output, ("json",))
    home, api = Home(load(os.environ).home), connect(kubeconfig, context)
    dry = DryCluster(Snapshot(api))
    waiting = sum(map(is_pending, dry.pods))
    if waiting:
        raise Unavailable(
            f"pods that wait for a node: found {waiting}, and they may take what seems spare",
            hint="penstock node-pools FILE tells what they need; ask again when they are placed",
        )
    quotes = dry.quotes(load_prices(home.prices))
    since = read_since(home.spare_nodes, api.server)
    found = spare(dry.stock, since, time.time(), dry.place, dry.requests, quotes)
    write_since(home.spare_nodes, api.server, found.since)
    if output == "json":
        print_json(msgspec.to_builtins(found))
        return
    rows = [(name, "yes", shown(quotes[name]), "its pods have places on the others") for name in found.go]
    rows += [(name, "no", shown(quotes[name]), why) for name, why in found.kept]
    if rows:
        print_table(("node", "can go", "costs", "because"), rows)
    else:
        print("Every node is needed: more than half of each is in use.")
